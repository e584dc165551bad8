"""Commands of a laptop for a cluster: specs are posted by the run of a job, which has no Jobs of its own for its step."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_assets.run_tags import PARTITION, USER
from mimic_core.specs import DatasetSpec, ExperimentSpec

MIMIC = Path(sys.executable).with_name("mimic")
LAYERS = 'LAYERS = {"D4": lambda: Dense(4)}'


@pytest.fixture
def laptop(platform, tmp_path, monkeypatch):
    """Give the function that runs a command of a laptop, whose homes are elsewhere and are never made."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"MIMIC_HOME": "none", "DAGSTER_HOME": "none", "MIMIC_ENV": "", "MIMIC_USER": "ada"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIMIC_SERVER", platform.ui.removesuffix("/graphql"))
    yield lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="mimic")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_and_a_run_are_built_with_a_pod_for_what_registers_and_jobs_for_the_steps(laptop, platform):
    result = laptop("log-odds", "build-dataset", platform.config(DatasetSpec))
    assert result.exit_code == 0, f"{result.output}\n{platform.logs()}"
    assert "built: tfrecord_dataset s/d" in result.stdout
    assert re.findall(r"part (\d/2)", result.stderr) == ["1/2", "2/2"]
    trained = laptop("log-odds", "run-experiment", platform.config(ExperimentSpec), "--json")
    assert trained.exit_code == 0, f"{trained.output}\n{platform.logs()}"
    (run,) = json.loads(trained.stdout)["partitions"]
    assert run["run_id"] == platform.run_id()
    with platform.instance as instance:
        found = instance.get_runs(dg.RunsFilter(tags={USER: "ada"}), ascending=True)  # sensors start others
    jobs = [(run.job_name, len(platform.steps(run.run_id))) for run in found]
    assert jobs == [("register_specs", 0), ("build_dataset", 4), ("register_specs", 0), ("train_run", 1)]
    states = json.loads(laptop("status", "--json").stdout)["partitions"]
    assert {row["state"] for row in states} == {"current"}


def test_a_layers_file_is_refused_in_the_words_of_the_cluster_and_nothing_is_registered(laptop, platform):
    layers = platform.home / "layers.py"
    layers.write_text(LAYERS)
    config = platform.config(ExperimentSpec, models=[{"layers": ["D4"]}], experiment_name="own")
    result = laptop("log-odds", "run-experiment", config, layers)
    assert result.exit_code == 2
    assert f"mimic: {config}: a layers file is code, which this cluster does not execute" in result.stderr
    assert "s/own" not in laptop("status").stdout


def test_an_interrupted_command_ends_its_run_and_its_jobs(laptop, platform):
    config = platform.config(DatasetSpec, dataset="long", train_partitions=60)
    command = [MIMIC, "log-odds", "build-dataset", config]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "part 1/" in line:
            break
    assert "part 1/" in seen[-1], seen
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    (run,) = [run for run in platform.runs() if run.tags[PARTITION] == "s/long"]
    assert f"canceled its run {run.run_id}" in errors
    assert run.status.value == "CANCELED"
