"""The first run on a cluster: every step is a Job, with what its stage, its deployment and its spec ask for."""

import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec

SHARD = {"cpu": "1", "memory": "4Gi"}
OTHER = {"cpu": "1", "memory": "2Gi"}
NETWORK = [{"layers": ["D4"], "epochs": 1}]
ASKED = {
    "cpu": "2",
    "memory": "3Gi",
    "gpu": 1,
    "node_selector": {"kubernetes.io/hostname": "node-1"},
    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
}
SPOT = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}
GPU_NODES = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
BACKFILL = """mutation Fill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on PythonError { message } }
}"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory, served, database, aws_server):
    """A platform as AWS has it: Dagster's database is Postgres, the catalog Glue, and everything else in S3."""
    with served(tmp_path_factory.mktemp("cluster"), database=database, aws=aws_server) as made:
        yield made


@pytest.fixture(scope="module")
def first_run(platform):
    """The stages, each by its command."""
    platform.done("log-odds", "build-contrast", platform.config(ContrastSpec))
    platform.done("log-odds", "build-dataset", platform.config(DatasetSpec))
    platform.done("log-odds", "run-experiment", platform.config(ExperimentSpec, models=NETWORK))
    run_id = platform.run_id(models=NETWORK)
    said = platform.done("log-odds", "run-batch-infer", platform.config(InferenceSpec, run_id=run_id), "--json")
    platform.done("report", "s/e")
    return platform, json.loads(said)["partitions"][0]


def container(job):
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


def given(job):
    """Return what a step gets, where what it requests is its limit."""
    resources = container(job)["resources"]
    assert resources["requests"] == resources["limits"]
    return resources["limits"]


def build(platform, name, **changes):
    """Register a dataset; returns its key."""
    platform.done("log-odds", "build-dataset", platform.config(DatasetSpec, dataset=name, **changes))
    return f"s/{name}"


def test_the_whole_first_run_ends_well_with_a_job_for_each_step(first_run):
    platform, inferred = first_run
    assert inferred["status"] == "built"
    assert inferred["counts"]["rows"] > 0
    steps = {run.job_name: {step: given(job) for step, job in platform.steps(run.run_id).items()} for run in platform.runs()}
    assert steps["build_dataset"] == {
        "tfrecord_dataset.plan_dataset": OTHER,
        "tfrecord_dataset.build_dataset_part[part_00000]": SHARD,
        "tfrecord_dataset.build_dataset_part[part_00001]": SHARD,
        "tfrecord_dataset.publish_dataset": OTHER,
    }
    assert steps["train_run"] == {"model_run": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}}
    assert [len(steps[job]) for job in ("build_contrast", "infer_batch")] == [4, 3]


def test_polars_and_duckdb_read_the_tables_of_glue_from_s3(first_run, aws_server):
    platform, inferred = first_run
    python = Path(__file__).parents[2] / ".venv-engines/bin/python"
    if not python.exists():
        reason = "the environment .venv-engines is missing; `make test` makes it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    names = ["haven.features", "haven.contrasts", "haven.results", "haven.scored"]
    command = [python, Path(__file__).parents[1] / "engines/read_tables_in_aws.py", aws_server.url, *names]
    environment = aws_server.environment | {"HOME": str(platform.home), "PATH": os.environ["PATH"]}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    for name, seen in zip(names, json.loads(said.stdout), strict=True):
        platform.done("tables", "export", name, platform.home / "exported.parquet")
        ours = comparable(pq.read_table(platform.home / "exported.parquet").to_pylist())
        assert {engine: comparable(rows) == ours for engine, rows in seen.items()} == {"polars": True, "DuckDB": True}, name
    assert len(ours) == inferred["counts"]["rows"]


def comparable(rows):
    """Give rows as sorted texts; an engine has its own order of rows and of columns."""
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)


def test_jobs_are_tried_once_end_by_themselves_and_run_as_the_service_account(first_run):
    platform, _ = first_run
    for run in platform.runs():
        for job in platform.cluster.jobs_of(run.run_id):
            assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 86400)
            pod = job["spec"]["template"]["spec"]
            assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "mimic")
            gpu = "nvidia.com/gpu" in container(job)["resources"]["limits"]
            assert container(job)["image"] == ("mimic:0.1.0-gpu" if gpu else "mimic:0.1.0-cpu")


def test_the_threads_of_a_step_are_as_many_as_its_cores_and_its_settings_those_of_the_code_server(first_run):
    platform, _ = first_run
    (run,) = platform.runs("model_run")
    (job,) = platform.steps(run.run_id).values()
    environment = {each["name"]: each.get("value") for each in container(job)["env"]}
    assert {environment[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")} == {"4"}
    assert environment.items() >= platform.settings.items()


def test_nothing_is_written_to_the_folder_that_no_pod_can_write(first_run):
    platform, _ = first_run
    # the webserver makes the other two where it can
    assert {path.name for path in (platform.home / "dagster").iterdir()} <= {"dagster.yaml", "logs", ".logs_queue"}


def test_what_a_run_leaves_belongs_to_its_pod(first_run):
    platform, _ = first_run
    run = platform.runs("contrast_set")[0]
    own, *steps = platform.cluster.jobs_of(run.run_id)
    (pod,) = [
        pod for pod in platform.cluster.pods.values() if pod["metadata"]["labels"]["job-name"] == own["metadata"]["name"]
    ]
    owners = {owner["uid"] for step in steps for owner in step["metadata"]["ownerReferences"]}
    assert owners == {pod["metadata"]["uid"]}
    assert "ownerReferences" not in own["metadata"]


@pytest.fixture(scope="module")
def asked(first_run):
    """A dataset that asks for more than its stage gets."""
    platform, _ = first_run
    build(platform, "asked", compute=ASKED)
    return platform


def jobs_of_newest(platform, before, waiting):
    """Wait for one more run of the dataset that builds; returns the Jobs of its shards and the others."""
    more = waiting(lambda: [run for run in platform.runs("tfrecord_dataset") if run.run_id not in before], 90)
    assert platform.ended(more[-1].run_id).is_success, platform.logs()
    every = platform.steps(more[-1].run_id)
    steps = {step: job for step, job in every.items() if step.startswith("tfrecord_dataset.")}  # and the answer of a check
    return [job for step, job in steps.items() if "[" in step], [job for step, job in steps.items() if "[" not in step]


def check_given(shards, others):
    assert [given(job) for job in shards] == [{"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": "1"}] * 2
    assert [given(job) for job in others] == [{"cpu": "2", "memory": "3Gi"}] * 2
    for job in (*shards, *others):
        pod = job["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-1"}
        assert pod["tolerations"] == ([SPOT, GPU_NODES] if job in shards else [SPOT])


def test_a_step_gets_what_its_spec_asks_for_when_launched_by_a_command(asked, waiting):
    check_given(*jobs_of_newest(asked, [run.run_id for run in asked.runs()[:-1]], waiting))


def test_a_step_gets_what_its_spec_asks_for_when_launched_by_the_button_of_the_ui(asked, waiting):
    before = [run.run_id for run in asked.runs()]
    asked.materialize("tfrecord_dataset", "s/asked")
    check_given(*jobs_of_newest(asked, before, waiting))


def test_a_step_gets_what_its_spec_asks_for_when_launched_by_a_backfill(asked, waiting):
    before = [run.run_id for run in asked.runs()]
    params = {"assetSelection": [{"path": ["tfrecord_dataset"]}], "partitionNames": ["s/asked"]}
    found = asked.ask(BACKFILL, params=params)["launchPartitionBackfill"]
    assert found["__typename"] == "LaunchBackfillSuccess", found
    check_given(*jobs_of_newest(asked, before, waiting))


def test_a_step_gets_what_its_spec_asks_for_when_launched_by_a_sensor(asked, waiting):
    before = [run.run_id for run in asked.runs()]
    spec = json.loads(asked.config(DatasetSpec, dataset="formed", compute=ASKED).read_text())
    config = {"ops": {"dataset_form": {"config": {"specs": [spec], "build": True}}}}
    asked.form("register_dataset", config)
    check_given(*jobs_of_newest(asked, before, waiting))
