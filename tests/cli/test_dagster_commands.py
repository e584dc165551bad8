"""Dagster's own command line over registered partitions: the commands of docs/using.md, as they stand there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

PARTITION = "dagster/partition"  # tag

ROOT = Path(__file__).parents[2]
FIRST_TABLE = ROOT / "examples/first_table"
KEYS = ["mimic-log-odds/another", "mimic-log-odds/example-dataset"]


def documented_commands() -> dict[str, str]:
    """Return the commands of the page's section by their names, for example "job launch"."""
    text = (ROOT / "docs/using.md").read_text(encoding="utf-8").split("## Dagster's command line\n")[1]
    block = re.search(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE).group(1)
    first, *commands = block.replace("\\\n", " ").splitlines()
    assert first == 'eval "$(mimic env)"'
    return {" ".join(command.split()[1:3]): command for command in commands}


class Shell:
    """A shell in a folder of its own in which the output of `mimic env` has been evaluated."""

    def __init__(self, home: Path, entering: Any) -> None:
        self.home, self.entering = home, entering
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "MIMIC_HOME": f"{home}/mimic", "DAGSTER_HOME": f"{home}/dagster"}
        settings = self('eval "$(mimic env)"; env').stdout.splitlines()
        self.environment |= dict(line.split("=", 1) for line in settings if line.startswith(("MIMIC_", "DAGSTER_")))

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], cwd=self.home, env=self.environment, capture_output=True, text=True, check=False
        )

    def mimic(self, *arguments: str) -> str:
        """Run one of our commands, which must succeed, in this process, which is cheaper; returns its standard output."""
        with pytest.MonkeyPatch.context() as patch:
            return self.entering(self.home, patch).done(*arguments).stdout

    def statuses(self) -> dict[str, str]:
        """What `mimic status` says of the datasets."""
        rows = json.loads(self.mimic("status", "--json"))["partitions"]
        return {row["key"]: row["state"] for row in rows if row["asset"] == "tfrecord_dataset"}

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"])

    def runs(self) -> list[dg.DagsterRun]:
        """The runs of partitions, newest first."""
        with self.instance() as instance:
            return [run for run in instance.get_runs() if PARTITION in run.tags]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, decision_table: Any, entering: Any) -> Shell:
    """A home with the table of the examples, and two registered datasets that are not built."""
    shell = Shell(tmp_path_factory.mktemp("shell"), entering)
    pq.write_table(decision_table(), shell.home / "table.parquet")
    document = json.loads((FIRST_TABLE / "dataset.json").read_text())
    (shell.home / "another.json").write_text(json.dumps(document | {"dataset": "another"}))
    shutil.copy(FIRST_TABLE / "dataset.json", shell.home)
    shell.mimic("tables", "import", "haven.example_log_odds_features", "table.parquet")
    for name in ("dataset.json", "another.json"):
        shell.mimic("log-odds", "build-dataset", name, "--register-only")
    return shell


@pytest.fixture(scope="module")
def before(shell: Shell) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the commands of the page said while no `mimic dev` ran."""
    return {name: shell(command) for name, command in documented_commands().items()}


def test_the_readme_shows_the_four_commands():
    assert list(documented_commands()) == ["definitions validate", "asset materialize", "job launch", "job backfill"]


def test_without_a_daemon_two_commands_do_their_work_and_two_put_runs_into_the_queue(shell, before):
    assert {name: result.returncode for name, result in before.items()} == dict.fromkeys(before, 0)
    assert "All code locations passed validation" in before["definitions validate"].stdout
    assert "Launched backfill job" in before["job backfill"].stdout
    assert list(shell.home.glob("mimic/objects/mimic-log-odds-tfrecords/example-dataset/manifest.json"))
    assert not list(shell.home.glob("mimic/objects/mimic-log-odds-tfrecords/another/manifest.json"))
    newest = [(run.status, run.tags["dagster/partition"]) for run in shell.runs()]
    queued = dg.DagsterRunStatus.QUEUED
    assert newest[-1] == (dg.DagsterRunStatus.SUCCESS, KEYS[1])  # asset materialize
    assert newest[-2] == (queued, KEYS[1])  # job launch
    assert sorted(newest[:-2]) == [(queued, key) for key in KEYS]
    assert shell.statuses() == dict.fromkeys(KEYS, "queued")


def test_a_backfill_of_a_key_that_is_not_registered_is_refused(shell):
    refused = shell(documented_commands()["job backfill"].replace("--all", "--partitions mimic-log-odds/unknown"))
    assert refused.returncode == 2
    assert "Unknown partitions: mimic-log-odds/unknown" in refused.stderr


def test_a_setting_that_is_wrong_fails_the_validation_with_its_name(shell):
    shown = shell(f"export MIMIC_ALERT_WEBHOOK=nowhere\n{documented_commands()['definitions validate']}")
    assert shown.returncode == 1
    assert "MIMIC_ALERT_WEBHOOK: expected https://HOST/PATH" in shown.stdout
