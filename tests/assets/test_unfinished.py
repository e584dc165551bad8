"""Trainings that fail or die: their epochs are in the results table as not finished, and what they left does no harm."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pytest

from mimic_assets.epochs import publish_unfinished
from mimic_assets.jobs import BUILDS
from mimic_assets.planning import make_plan
from mimic_assets.registration import register
from mimic_core.configs import parse_spec
from mimic_core.errors import StorageError
from mimic_core.layers_files import default_layers
from mimic_core.specs import DatasetSpec, RunSpec
from mimic_core.world import Node
from resources.artefacts import ArtefactStore
from resources.trainings import append_epoch, begin_training, epochs_so_far, write_checkpoint

RESULTS = "haven.results"
SOUND = {"layers": ["D4"], "epochs": 3, "batch_size": 4}
LATE = {"class_name": "PiecewiseConstantDecay", "config": {"boundaries": [9], "values": [0.01, 1e38]}}
DIVERGING = SOUND | {"epochs": 50, "optimizer_kwargs": {"learning_rate": LATE}}


def dataset() -> DatasetSpec:
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "space": "s", "dataset": "d"})


def run(model: dict[str, Any] = SOUND) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": model})


@pytest.fixture
def ready(platform, decision_table):
    """A platform with a dataset, and a registered run that is not trained."""
    platform.table = decision_table()
    platform.imported(platform.table)
    platform.built(dataset())
    register(platform.instance, platform.specs, [(run(), default_layers(["D4"]))])
    return platform


def died(platform, epochs: int) -> str:
    """Leave what a training leaves that is killed after some epochs, its run marked as failed; returns the run's id."""
    begin_training(platform.artefacts, run().folder, "0" * 64, [])
    for number in range(1, epochs + 1):
        append_epoch(
            platform.artefacts, run().folder, {"epoch": number, "loss": 1 / number, "val_loss": None, "exported": False}
        )
    job = platform.definitions().resolve_job_def(BUILDS["model_run"].name)
    killed = platform.instance.create_run_for_job(
        job, tags={"dagster/partition": run().key}, asset_selection=job.asset_selection
    )
    platform.instance.report_run_failed(killed, "its process is gone")
    return killed.run_id


def tick(platform, cursor: str | None) -> str:
    """Evaluate the sensor once; returns where it stands."""
    definitions = platform.definitions()
    resources = {name: definitions.resources[name] for name in ("specs", "tables", "artefacts")}
    sensor = "epochs_of_failed_runs"
    with dg.build_sensor_context(
        platform.instance, cursor, sensor_name=sensor, definitions=definitions, resources=resources
    ) as context:
        data = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    assert [reaction.error for reaction in data.dagster_run_reactions] == [None] * len(data.dagster_run_reactions)
    return data.cursor


def test_a_training_that_fails_publishes_its_epochs_as_not_finished(platform, decision_table):
    platform.imported(decision_table())
    platform.built(dataset())
    message = platform.refused(run(DIVERGING))
    rows = platform.rows(RESULTS).to_pylist()
    assert f"epoch {len(rows) + 1}" in message
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert {(row["finished"], row["exported"]) for row in rows} == {(False, False)}
    assert rows[0]["learning_rate"] == pytest.approx(0.01)
    assert platform.manifest(run(DIVERGING)) is None
    # the page of the partition and the planner say what is kept
    of = dg.AssetRecordsFilter(asset_key=dg.AssetKey("model_run"), asset_partitions=[run(DIVERGING).key])
    (record,) = platform.instance.fetch_observations(of, limit=1).records
    after = f"after epoch {len(rows)} of at most 50"
    assert record.asset_observation.description == f"ended {after}; building it again goes on from there"
    plan, world = make_plan(platform.instance, platform.inventory)
    node = Node("model_run", run(DIVERGING).key)
    assert plan.partitions[node].reasons[-1] == f"a build goes on {after}"
    assert world.unfinished[node].seconds > 0


def test_the_sensor_publishes_the_epochs_of_a_training_that_was_killed(ready):
    cursor = tick(ready, None)
    died(ready, 2)
    cursor = tick(ready, cursor)
    rows = ready.rows(RESULTS).to_pylist()
    assert [(row["epoch"], row["loss"], row["finished"]) for row in rows] == [(1, 1.0, False), (2, 0.5, False)]
    version = ready.tables.metadata_file(RESULTS)
    tick(ready, cursor)
    assert publish_unfinished(run(), ready.tables, ready.artefacts) == 0
    assert ready.tables.metadata_file(RESULTS) == version
    ready.built(run())
    assert ready.rows(RESULTS)["finished"].to_pylist() == [True] * 3
    assert epochs_so_far(ready.artefacts, run().folder) == []


def test_the_rows_of_a_published_run_stay_when_a_later_training_of_it_is_killed(ready):
    ready.built(run())
    before = ready.rows(RESULTS)
    cursor = tick(ready, None)
    died(ready, 2)
    tick(ready, cursor)
    assert ready.rows(RESULTS) == before


def test_a_damaged_checkpoint_is_refused_by_name_and_the_training_starts_over(ready):
    node = Node("model_run", run().key)
    version = make_plan(ready.instance, ready.inventory)[0].partitions[node].version
    write_checkpoint(ready.artefacts, run().folder, version, b"x" * 100)
    result = ready.build(run())
    assert result.success
    logged = [record.user_message for record in ready.instance.all_logs(result.run_id)]
    (warning,) = [message for message in logged if "checkpoint" in message]
    assert f"training/checkpoint-{version[:16]}: damaged: the checkpoint is not what was written" in warning
    assert ready.rows(RESULTS)["epoch"].to_pylist() == [1, 2, 3]


def test_rows_that_a_failed_publication_had_replaced_are_those_of_the_published_version_again(ready, monkeypatch):
    ready.built(run())
    before, manifest = ready.rows(RESULTS), ready.manifest(run())

    def fails(*_: object) -> None:
        raise StorageError("no room for the manifest")

    age = ready.table.column_names.index("age")
    ready.imported(ready.table.set_column(age, "age", pc.multiply(ready.table["age"], 2.0)))
    ready.built(dataset())
    with monkeypatch.context() as patch:
        patch.setattr(ArtefactStore, "_publish", fails)
        assert ready.refused(run()) == "no room for the manifest"
    assert ready.rows(RESULTS) == before
    assert ready.manifest(run()) == manifest
    ready.built(run())
    assert ready.rows(RESULTS) != before
