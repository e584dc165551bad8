"""Rebuilds by a real daemon with rebuilding switched on: exactly the right work, in order, to the end, and then none."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mimic_assets.planning import make_plan
from mimic_core.specs import contrast_folder
from mimic_core.world import Node, State
from resources.environments import local_resources

CONTRAST = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
CONTRAST |= {"decisions_per_individual": 2, "alternatives_per_decision": 1}
DATASET = {"database": "haven", "max_choices": 3, "features": ["age"], "space": "s"}
PAIRS, SAMPLED, OTHER = (
    Node("contrast_set", "haven.contrasts"),
    Node("tfrecord_dataset", "s/pairs"),
    Node("tfrecord_dataset", "s/other"),
)
CHAIN = [PAIRS, SAMPLED]
SETTINGS = {"MIMIC_REBUILD": "1", "MIMIC_SETTLE_SECONDS": "0"}


class Home:
    """What a person sees of a home beside its daemon, and does to it."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        self.resources = local_resources(home / "mimic")
        self.tables, self.artefacts = self.resources["tables"], self.resources["artefacts"]

    def imported(self, table, name="haven.features"):
        pq.write_table(table, self.home / "table.parquet")
        return self.tables.import_files(name, [self.home / "table.parquet"])

    def drop(self, name, document):
        folder = self.home / "mimic/specs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document))

    def said_by_the_daemon(self, *texts):
        log = (self.home / "daemon.log").read_text()
        return {text for text in texts if text in log}

    def states(self):
        plan, _ = make_plan(self.instance, self.resources["inventory"])
        return {node: partition.state for node, partition in plan.partitions.items() if node.asset != "source_table"}

    def wait_until_current(self, seconds=90):
        wait_until(lambda: set((states := self.states()).values()) == {State.CURRENT} and len(states) == 3, seconds)

    def runs(self):
        """What runs built, oldest first, with their states."""
        found = self.instance.get_runs(dg.RunsFilter(), ascending=True)
        built = [(run.tags.get("mimic/build"), run.status.value) for run in found]
        return [(Node(*name.split(":", 1)), status) for name, status in built if name]

    def manifest(self, node):
        folders = {PAIRS: contrast_folder(PAIRS.key), SAMPLED: "s-tfrecords/pairs", OTHER: "s-tfrecords/other"}
        return self.artefacts.manifest(folders[node])


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(1)


@pytest.fixture
def beside_a_daemon(home, monkeypatch, quick_runs) -> Iterator[Home]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    subprocess.run([Path(sys.executable).with_name("mimic"), "env"], check=True, capture_output=True)
    command = [Path(sys.executable).with_name("dagster-daemon"), "run", "-m", "mimic_assets.definitions"]
    with (home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | quick_runs(), stdout=log, stderr=log, start_new_session=True)
    try:
        with dg.DagsterInstance.get() as instance:
            yield Home(home, instance)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def test_a_daemon_builds_what_is_dropped_rebuilds_what_changed_and_nothing_else(beside_a_daemon, decision_table):
    home = beside_a_daemon
    # first builds, as soon as their inputs are there
    home.imported(decision_table())
    home.imported(decision_table(seed=7), "haven.others")
    home.drop("contrast.json", CONTRAST)
    home.drop("pairs.json", DATASET | {"table": "contrasts", "dataset": "pairs"})
    home.drop("other.json", DATASET | {"table": "others", "dataset": "other"})
    home.wait_until_current()
    built = [node for node, _ in home.runs()]
    assert sorted(built) == sorted([*CHAIN, OTHER])
    assert built.index(PAIRS) < built.index(SAMPLED)

    # one of two tables changes, and once more while the first of its chain is built
    home.imported(decision_table(seed=1))
    wait_until(lambda: len(home.runs()) > 3)
    newest = home.imported(decision_table(seed=2))
    home.wait_until_current()
    again = [node for node, _ in home.runs()][3:]
    assert 1 <= again.count(PAIRS) <= 2
    assert 1 <= again.count(SAMPLED) <= 2
    assert OTHER not in again
    assert again[-1] == SAMPLED
    assert home.manifest(PAIRS)["inputs"]["source_table"]["token"] == newest.token
    pairs = home.tables.pin("haven.contrasts", home.manifest(PAIRS)["snapshot"])
    assert home.manifest(SAMPLED)["inputs"]["contrast_set"]["token"] == pairs.token

    # a catalog and a folder that cannot be read are errors of the ticks, and nothing counts as deleted
    runs, states = home.runs(), home.states()
    catalog, specs = home.home / "mimic/catalog.db", home.home / "mimic/specs"
    catalog.rename(home.home / "catalog.db")
    specs.rename(home.home / "specs")
    wait_until(lambda: {"put it back", "mount it again"} <= home.said_by_the_daemon("put it back", "mount it again"))
    (home.home / "catalog.db").rename(catalog)
    (home.home / "specs").rename(specs)
    assert (home.states(), home.runs()) == (states, runs)

    # deleted files: what others read stays, and goes when they do
    (specs / "other.json").unlink()
    (specs / "contrast.json").unlink()
    wait_until(lambda: OTHER not in home.states())
    assert set(home.states()) == set(CHAIN)
    (specs / "pairs.json").unlink()
    wait_until(lambda: not home.states())
    assert {status for _, status in home.runs()} == {"SUCCESS"}
    assert home.runs() == runs
