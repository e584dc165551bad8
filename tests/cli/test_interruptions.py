"""Interruptions: a build that is killed leaves what was there before, and the next one works at once."""

import json
import re
import signal
import socket
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_assets.cli import watching

SHARDS = 8
UNFINISHED = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


def wait_for(process: Any, words: str) -> None:
    """Wait until a command has said some words on standard error."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(rf"\b{words}\b", line):
            return
    raise AssertionError(f"the command ended without {words!r}: {seen}")


def stop(process: Any, how: signal.Signals) -> str:
    """Stop a command and wait for its end; returns the rest of what it said."""
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    return errors


def runs() -> dict[str, dg.DagsterRunStatus]:
    with dg.DagsterInstance.get() as instance:
        return {run.run_id: run.status for run in instance.get_runs()}


def manifest(mimic, folder: str) -> dict[str, object]:
    return json.loads((mimic.home / "mimic/objects" / folder / "manifest.json").read_text())


@pytest.mark.parametrize("said", ["tfrecord_dataset s/d", f"[3-{SHARDS - 2}]/{SHARDS}"])
def test_a_dataset_build_that_is_killed_leaves_the_previous_version_and_can_be_run_again_at_once(with_dataset, said):
    before = manifest(with_dataset, "s-tfrecords/d")
    config = with_dataset.dataset(train_partitions=SHARDS)
    process = with_dataset.fork("log-odds", "build-dataset", config)
    wait_for(process, said)
    stop(process, signal.SIGKILL)
    assert manifest(with_dataset, "s-tfrecords/d") == before
    with_dataset.done("log-odds", "run-experiment", with_dataset.experiment(models=[{"layers": []}]))
    (built,) = with_dataset.partitions("log-odds", "build-dataset", config)
    statuses = runs()
    assert statuses.pop(built["dagster_run_id"]) == dg.DagsterRunStatus.SUCCESS
    assert not set(statuses.values()) & set(UNFINISHED)
    assert len(manifest(with_dataset, "s-tfrecords/d")["files"]) == SHARDS + 1
    assert [row["state"] for row in with_dataset.partitions("status")] == ["current", "current", "out_of_date"]


def results() -> list[dict[str, object]]:
    """The rows of the exported results, by experiment and epoch."""
    rows = pq.read_table("out.parquet").to_pylist()
    return sorted(rows, key=lambda row: (row["experiment_name"], row["epoch"]))


def test_a_training_goes_on_after_it_was_interrupted_and_killed_and_gives_the_epochs_of_one_that_was_not(
    with_dataset, monkeypatch
):
    models = [{"layers": ["D4"], "epochs": 60, "batch_size": 4}]
    config = with_dataset.experiment(models=models)
    ended = []
    for how in (signal.SIGINT, signal.SIGKILL):
        process = with_dataset.fork("log-odds", "run-experiment", config)
        wait_for(process, f"epoch {ended[0] + 4 if ended else 4}")
        stop(process, how)
        said = with_dataset.done("status", "--json")
        assert json.loads(said.stdout)["partitions"][-1]["state"] == "missing"  # nothing of it failed by itself
        assert not set(runs().values()) & set(UNFINISHED)
        with_dataset.done("tables", "export", "haven.results", "out.parquet")
        rows = results()
        ended.append(len(rows))
        assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert {row["finished"] for row in rows} == {False}
    assert 4 <= ended[0] < ended[1] < 60
    assert "ended unfinished" in said.stderr
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.5)
    process = with_dataset.fork("log-odds", "run-experiment", config, "--json")
    wait_for(process, "epoch")
    followed = with_dataset.done("status", "--follow").stdout.splitlines()
    (run,) = json.loads(process.communicate(timeout=30)[0])["partitions"]
    epochs = [int(found[1]) for line in followed if (found := re.search(r": running, epoch (\d+)/60, loss ", line))]
    assert ended[1] < epochs[0] <= epochs[-1] <= 60
    assert epochs == sorted(set(epochs))
    assert followed[-2:] == [f"model_run s/e/{run['run_id'][:12]}: current", "nothing is queued or running"]
    with_dataset.partitions("log-odds", "run-experiment", with_dataset.experiment(models=models, experiment_name="whole"))
    with_dataset.done("tables", "export", "haven.results", "out.parquet")
    resumed, whole = results()[:60], results()[60:]
    assert [row["epoch"] for row in whole] == list(range(1, 61))
    for name in ("epoch", "loss", "val_loss", "val_accuracy", "exported", "learning_rate", "finished"):
        assert [row[name] for row in resumed] == [row[name] for row in whole]
    assert all(row["finished"] and row["seconds"] > 0 for row in resumed)
    lines = (with_dataset.home / f"mimic/objects/s-models/e/{run['run_id']}").glob("*/history.jsonl")
    (history,) = [[json.loads(line) for line in path.read_text().splitlines()] for path in lines]
    assert [epoch["loss"] for epoch in history] == [row["loss"] for row in whole]


def test_an_inference_that_is_killed_leaves_the_previous_rows_and_the_next_one_replaces_them(with_run):
    mimic, run_id = with_run
    mimic.done("log-odds", "run-batch-infer", mimic.inference(run_id))
    config = mimic.inference(run_id, train_partitions=9)
    process = mimic.fork("log-odds", "run-batch-infer", config)
    wait_for(process, "2/9")
    stop(process, signal.SIGKILL)
    assert scored_partitions(mimic) <= {0, 1}
    mimic.done("log-odds", "run-batch-infer", config)
    assert scored_partitions(mimic) <= set(range(9))


def scored_partitions(mimic) -> set[int]:
    """Find the partitions of the inference table, in which every row of the source table is."""
    table = exported(mimic, "haven.scored")
    assert len(table) == 42
    return set(table["_partition"].to_pylist())


def exported(mimic, table: str) -> pa.Table:
    mimic.done("tables", "export", table, "out.parquet")
    return pq.read_table("out.parquet")


def test_a_contrast_build_that_is_killed_leaves_the_previous_rows_and_can_be_run_again_at_once(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast())
    before = manifest(mimic, "contrast-sets/haven.contrasts"), exported(mimic, "haven.contrasts")
    config = mimic.contrast(train_partitions=2 * SHARDS, decisions_per_individual=1)
    process = mimic.fork("log-odds", "build-contrast", config)
    wait_for(process, f"2/{2 * SHARDS}")
    stop(process, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (manifest(mimic, "contrast-sets/haven.contrasts"), exported(mimic, "haven.contrasts")) == before
    (dataset,) = mimic.partitions("log-odds", "build-dataset", mimic.dataset(table="contrasts"))
    assert dataset["counts"]["decisions"] == 24
    (built,) = mimic.partitions("log-odds", "build-contrast", config)
    assert built["counts"]["decisions"] == 12
    assert len(exported(mimic, "haven.contrasts")) == 24
    assert not set(runs().values()) & set(UNFINISHED)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_asked_to_stop_ends_cleanly(with_dataset, how):
    before = manifest(with_dataset, "s-tfrecords/d")
    process = with_dataset.fork("log-odds", "build-dataset", with_dataset.dataset(train_partitions=SHARDS))
    wait_for(process, f"2/{SHARDS}")
    errors = stop(process, how)
    assert process.returncode == 130
    assert "mimic: interrupted; what was published before is unchanged" in errors
    assert "Traceback" not in errors
    assert manifest(with_dataset, "s-tfrecords/d") == before
    assert not set(runs().values()) & set(UNFINISHED)


@pytest.fixture
def slots(with_dataset):
    """Set the number of slots of the pool that the shards of a dataset need."""
    with dg.DagsterInstance.get() as instance:
        yield lambda number: instance.event_log_storage.set_concurrency_slots("shards", number)
        assert instance.event_log_storage.get_concurrency_run_ids() == set()


def test_a_build_that_is_killed_with_the_last_slot_of_a_pool_does_not_keep_it(with_dataset, slots):
    slots(1)
    process = with_dataset.fork("log-odds", "build-dataset", with_dataset.dataset(train_partitions=SHARDS))
    wait_for(process, f"2/{SHARDS}")
    stop(process, signal.SIGKILL)
    (killed,) = [run_id for run_id, status in runs().items() if status in UNFINISHED]
    with dg.DagsterInstance.get() as instance:  # if it was killed between two steps, as if it was one step later
        instance.event_log_storage.claim_concurrency_slot("shards", killed, "step")
        assert instance.event_log_storage.get_concurrency_run_ids() == {killed}
    process = with_dataset.fork("log-odds", "build-dataset", with_dataset.dataset())
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_build_that_waits_for_a_slot_of_a_pool_ends_at_once(with_dataset, slots):
    slots(0)
    process = with_dataset.fork("log-odds", "build-dataset", with_dataset.dataset())
    wait_for(process, "waits for a slot of the pool shards")
    errors = stop(process, signal.SIGTERM)
    assert process.returncode == 130
    assert "mimic: interrupted; what was published before is unchanged" in errors
    assert "Traceback" not in errors
    assert not set(runs().values()) & set(UNFINISHED)


def test_a_run_of_another_machine_or_of_a_living_process_is_left_alone(with_dataset):
    import psutil

    from mimic_assets.dead_runs import HOST, PID, STARTED, fail_dead_runs  # as an earlier version tagged them

    alive = {PID: str(psutil.Process().pid), STARTED: str(psutil.Process().create_time()), HOST: socket.gethostname()}
    reused = alive | {STARTED: "1.0"}
    elsewhere = alive | {STARTED: "1.0", HOST: "elsewhere"}
    with dg.DagsterInstance.get() as instance:

        @dg.job
        def nothing() -> None:
            pass

        ids = {
            name: instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id
            for name, tags in {"alive": alive, "reused": reused, "elsewhere": elsewhere}.items()
        }
        assert fail_dead_runs(instance) == [ids["reused"]]
        assert instance.get_run_by_id(ids["reused"]).status == dg.DagsterRunStatus.FAILURE
