"""The smallest example as its page tells it, and the same partitions by the plain `dagster` command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/first_table"
FIRST = "9b0556be032119fc566fc751c692a13ad7793d33309be140512f65fa1b75fe09"
SECOND = "07c49bc09b5b47fca0fbcd0aba35f414ce6a129a12ee7f0310df016f084cda7f"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The table of the example, as its script makes it."""
    path = tmp_path_factory.mktemp("generated") / "build/first_table.parquet"
    subprocess.run([sys.executable, str(EXAMPLE / "generate.py"), str(path)], check=True, capture_output=True)
    return path


@pytest.fixture
def with_table(mimic, generated):
    shutil.copy(generated, "first_table.parquet")
    mimic.done("tables", "import", "haven.example_log_odds_features", "first_table.parquet")
    return mimic


def test_the_three_configs_run_as_printed_and_give_the_golden_run_ids(with_table):
    (dataset,) = with_table.partitions("log-odds", "build-dataset", EXAMPLE / "dataset.json")
    assert (dataset["counts"]["train_decisions"], dataset["counts"]["test_decisions"]) == (80, 20)
    runs = with_table.partitions("log-odds", "run-experiment", EXAMPLE / "experiment.json", EXAMPLE / "layers.py")
    assert [run["run_id"] for run in runs] == [FIRST, SECOND]
    assert [run["counts"]["epochs"] for run in runs] == [10, 10]
    (scored,) = with_table.partitions("log-odds", "run-batch-infer", EXAMPLE / "inference.json")
    assert scored["key"] == f"haven.example_log_odds_batch_infer/test-experiment/{SECOND[:12]}"
    assert scored["counts"]["rows"] == len(pq.read_table("first_table.parquet"))
    assert {row["state"] for row in with_table.partitions("status")} == {"current"}


def test_without_the_layers_file_the_runs_have_the_same_ids(with_table):
    runs = with_table.partitions("log-odds", "run-experiment", EXAMPLE / "experiment.json", "--register-only")
    assert [run["run_id"] for run in runs] == [FIRST, SECOND]


def test_a_command_in_a_process_of_its_own_prints_only_json_on_standard_output(with_table):
    process = with_table.start("log-odds", "build-dataset", EXAMPLE / "dataset.json", "--json")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.startswith("{\n")
    assert output.endswith("}\n")
    assert errors.splitlines()[0] == "tfrecord_dataset mimic-log-odds/example-dataset"
    assert "WARNING" not in errors.upper()


def test_dagster_materializes_a_registered_dataset_with_the_variables_in_the_file_that_env_wrote(with_table):
    with_table.done("env", "--write")
    (dataset,) = with_table.partitions("log-odds", "build-dataset", EXAMPLE / "dataset.json", "--register-only")
    selected = ["--select", "tfrecord_dataset", "--partition", dataset["key"]]
    command = ["asset", "materialize", *selected, "-m", "mimic_assets.definitions"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dagster")), *command],
        env={name: value for name, value in os.environ.items() if name not in {"MIMIC_HOME", "DAGSTER_HOME"}},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not {"PreviewWarning", "BetaWarning"} & set(done.stderr.replace(":", " ").split())
    states = {row["key"]: row["state"] for row in with_table.partitions("status")}
    assert states[dataset["key"]] == "current"
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("tfrecord_dataset")) == {dataset["key"]}
    assert not (with_table.home / ".mimic").exists()
