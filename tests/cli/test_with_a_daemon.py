"""Commands beside a live daemon: it builds, one run of a partition at a time, and they follow, take back and end runs.

The tests share one daemon, and the last ones end it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from mimic_assets.cli.building import build
from mimic_assets.cli.daemon import daemon_lives
from mimic_assets.dead_runs import HOST
from mimic_assets.registration import register
from mimic_assets.run_tags import BUILD, LAUNCH, PARTITION
from mimic_core.configs import parse_spec
from mimic_core.specs import DatasetSpec
from resources.artefacts import ArtefactStore
from resources.environments import local_resources
from resources.requests import open_requests

SHARDS = 100  # some 10 seconds
QUEUED, UNKNOWN = "queued", "s/unknown"
DATASET = {"database": "haven", "table": "features", "train_partitions": 2, "test_partitions": 1, "max_choices": 3}
DATASET |= {"features": ["size", "age"], "missing_values_map": {"size": 0}, "space": "s"}


@pytest.fixture(scope="module")
def daemon(shared_home, entering, decision_table):
    """A daemon over the home that the tests share, in which runs were put into the queue before it started."""
    homes = {"MIMIC_HOME": str(shared_home / "mimic"), "DAGSTER_HOME": str(shared_home / "dagster")}
    with pytest.MonkeyPatch.context() as patch:
        mimic = entering(shared_home, patch)
        mimic.imported(decision_table())
        mimic.done("log-odds", "build-dataset", mimic.dataset(dataset=QUEUED), "--register-only")
    for command in (
        ["backfill", "--job", "build_dataset", "--all", "--noprompt"],
        ["launch", "--job", "build_dataset", "--tags", json.dumps({PARTITION: UNKNOWN})],
    ):
        dagster = [Path(sys.executable).with_name("dagster"), "job", *command, "-m", "mimic_assets.definitions"]
        subprocess.run(dagster, env=os.environ | homes, cwd=shared_home, check=True, capture_output=True)
    command = [Path(sys.executable).with_name("dagster-daemon"), "run", "-m", "mimic_assets.definitions"]
    with (shared_home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=shared_home, env=os.environ | homes, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with dg.DagsterInstance.from_config(homes["DAGSTER_HOME"]) as instance:
            wait_until(lambda: daemon_lives(instance))
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


@pytest.fixture
def mimic(shared, daemon):
    """The commands beside the daemon, over a home with a table."""
    return shared


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.2)


def runs(**tags) -> list[dg.DagsterRun]:
    """The runs of partitions with some tags, oldest first."""
    with dg.DagsterInstance.get() as instance:
        return [run for run in instance.get_runs(dg.RunsFilter(tags=tags), ascending=True) if PARTITION in run.tags]


def said(process: subprocess.Popen[str], words: str) -> None:
    """Wait until a command has said some words on standard error, a minute and a half at most."""
    seen, late = [], threading.Timer(90, process.kill)
    late.start()
    for line in process.stderr:
        seen.append(line)
        if re.search(words, line):
            late.cancel()
            return
    late.cancel()
    raise AssertionError(f"the command ended without {words!r}: {seen}")


def test_what_dagsters_commands_put_into_the_queue_is_built_or_fails_and_is_told(mimic):
    wait_until(lambda: all(run.is_finished for run in runs()))
    assert [(run.tags[PARTITION], run.status.value) for run in runs()] == [
        (f"s/{QUEUED}", "SUCCESS"),
        (UNKNOWN, "FAILURE"),
    ]
    assert [row["state"] for row in mimic.partitions("status")] == ["current", "current"]  # the table and the dataset
    told = f"alert_on_failure - tfrecord_dataset {UNKNOWN} failed (run {runs()[-1].run_id})"
    wait_until(lambda: told in (mimic.home / "daemon.log").read_text())


def test_a_live_daemon_builds_and_the_command_follows_it(mimic):
    result = mimic.done("log-odds", "build-dataset", mimic.dataset())
    assert "built: tfrecord_dataset s/d" in result.stdout
    assert "submitted to the running daemon" in result.stderr
    assert re.findall(r"part (\d/2)", result.stderr) == ["1/2", "2/2"]
    (run,) = runs(**{PARTITION: "s/d"})
    assert run.tags[BUILD] == "tfrecord_dataset:s/d"
    assert LAUNCH in run.tags
    assert HOST not in run.tags
    store = ArtefactStore(root=str(mimic.home / "mimic/objects"))
    wait_until(lambda: open_requests(store) == [])
    assert len(runs(**{PARTITION: "s/d"})) == 1


@pytest.fixture
def no_slots(mimic):
    """No shard of a dataset is built meanwhile: the pool of these steps has no slot."""
    with dg.DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots("shards", 0)
        yield
        instance.event_log_storage.delete_concurrency_limit("shards")
        assert instance.event_log_storage.get_concurrency_run_ids() == set()


def test_two_commands_for_one_partition_take_turns_and_each_can_be_ended_while_it_waits(mimic, no_slots):
    before = len(runs())
    config = mimic.dataset()
    first = mimic.start("log-odds", "build-dataset", config)
    said(first, "waits for a slot of the pool shards")
    second = mimic.start("log-odds", "build-dataset", config)
    said(second, "waits in the queue behind 1 run")
    assert statuses(before) == ["STARTED", "QUEUED"]
    second.send_signal(signal.SIGTERM)
    assert "canceled its run" in ended(second)
    assert statuses(before) == ["STARTED", "CANCELED"]
    first.send_signal(signal.SIGINT)
    assert "canceled its run" in ended(first)
    assert statuses(before) == ["CANCELED", "CANCELED"]


def test_a_run_that_is_executed_ends_with_its_command_and_publishes_nothing(mimic):
    published = mimic.published()
    process = mimic.start("log-odds", "build-dataset", mimic.dataset(train_partitions=SHARDS))
    said(process, "part 1/")
    process.send_signal(signal.SIGINT)
    assert f"mimic: tfrecord_dataset s/d: canceled its run {runs()[-1].run_id}" in ended(process)
    assert statuses(-1) == ["CANCELED"]
    assert runs()[-1].tags[".dagster/mimic-withdrawn"] == runs()[-1].run_id  # so it does not count as a failure
    assert mimic.published() == published


def test_several_partitions_are_followed_together_and_one_that_fails_stops_no_other(mimic):
    names = {"broken": {"max_choices": 2}, "ok": {}}
    specs = [parse_spec(DatasetSpec, DATASET | {"dataset": name} | changes) for name, changes in names.items()]
    resources = local_resources(mimic.home / "mimic")
    with dg.DagsterInstance.get() as instance:
        register(instance, resources["specs"], [(spec, "") for spec in specs])
        outcomes = build(instance, specs, resources["artefacts"])
    assert [(outcome.key, outcome.status) for outcome in outcomes] == [("s/broken", "failed"), ("s/ok", "built")]
    assert "max_choices" in outcomes[0].error


def statuses(since: int) -> list[str]:
    return [run.status.value for run in runs()[since:]]


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command that was interrupted; returns what it said."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "mimic: interrupted" in errors
    assert "Traceback" not in errors
    return errors


def test_a_command_whose_daemon_is_killed_builds_by_itself(mimic, daemon, pause):
    pause(daemon.pid, mimic.home)
    process = mimic.start("log-odds", "build-dataset", mimic.dataset(train_partitions=3))
    said(process, "submitted to the running daemon")
    os.killpg(daemon.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "mimic: the daemon has ended; building in this process" in errors
    assert HOST in runs()[-1].tags
    assert runs()[-1].status is dg.DagsterRunStatus.SUCCESS
