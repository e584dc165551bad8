"""Planning over a real home: what the builds record is what the planner expects, for every stage and kind of table."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_assets.live import VERSION
from mimic_assets.planning import make_plan
from mimic_core.configs import parse_spec
from mimic_core.errors import StorageError
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec
from mimic_core.world import Node
from resources import external

RUN = {"experiment_name": "e", "space": "s", "max_choices": 3, "features": ["size", "age"], "database": "haven"}
RUN |= {"table": "results", "model": {"layers": []}}


def contrast_spec(**changes):
    document = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
    return parse_spec(ContrastSpec, document | {"decisions_per_individual": 2, "alternatives_per_decision": 2} | changes)


def dataset_spec(**changes):
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"], "space": "s"}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "dataset": "d"} | changes)


def run_spec(**changes):
    return parse_spec(RunSpec, RUN | {"dataset": "d"} | changes)


def inference_spec(run, **changes):
    document = {"database": "haven", "table": "other", "features": ["age", "size"], "space": "s", "experiment_name": "e"}
    return parse_spec(InferenceSpec, document | {"run_id": run.run_id, "upload_table": "scored"} | changes)


CONTRAST, PAIRS = contrast_spec(), dataset_spec(table="contrasts", dataset="pairs", where="age > -2")
ALL = [CONTRAST, PAIRS, dataset_spec(), run_spec(), inference_spec(run_spec(), where="age < 2")]


@pytest.fixture
def built(platform, decision_table):
    """A platform with a partition of every stage, and a dataset of the contrast set."""
    platform.imported(decision_table())
    pq.write_table(decision_table(seed=1), platform.home / "other.parquet")
    platform.tables.register("haven.other", platform.home / "other.parquet")
    platform.built(*ALL)
    return platform


def states(platform):
    plan, _ = make_plan(platform.instance, platform.inventory)
    return {str(node): (str(partition.state), partition.reasons) for node, partition in plan.partitions.items()}


def not_current(platform):
    return {node: reasons for node, (state, reasons) in states(platform).items() if state != "current"}


def test_what_was_just_built_is_current_and_each_thing_that_changes_says_so(built, decision_table):
    """One home for all: it takes seconds to make."""
    assert not_current(built) == {}
    assert len(states(built)) == len(ALL) + 2

    # every build noted the version that it made, from what lies near it alone
    for spec in ALL:
        run = built.instance.get_run_by_id(built.manifest(spec)["dagster_run_id"])
        assert run.tags[VERSION] == built.manifest(spec)["fingerprint"]
        assert built.manifest(spec)["seconds"] > 0

    # a registered table whose file changes: only what reads it
    pq.write_table(decision_table(seed=2), built.home / "other.parquet")
    (reasons,) = not_current(built).values()
    assert reasons[0].startswith("source_table haven.other changed from ")
    (built.home / "other.parquet").unlink()
    found = not_current(built)
    assert "put them back" in found["source_table haven.other"][0]
    assert found[f"inference_table {ALL[-1].key}"] == ("waits for source_table haven.other, which failed",)
    pq.write_table(decision_table(seed=2), built.home / "other.parquet")
    built.built(ALL[-1])
    assert not_current(built) == {}

    # an unused column changes nothing but what copies it
    table = decision_table()
    built.imported(table.append_column("new", pa.array([1.0] * len(table))))
    found = not_current(built)
    assert found[f"contrast_set {CONTRAST.key}"][0].startswith("source_table haven.features changed from ")
    built.built(*ALL)
    assert not_current(built) == {}

    # artefacts that are gone
    (built.folder(dataset_spec()) / built.manifest(dataset_spec())["files"][0]["path"]).unlink()
    assert not_current(built)["tfrecord_dataset s/d"][0].endswith(" is gone")
    built.built(dataset_spec())
    (built.folder(dataset_spec()) / built.manifest(dataset_spec())["files"][0]["path"]).write_bytes(b"")
    assert not_current(built)["tfrecord_dataset s/d"][0].split(" has ")[1].startswith("0 bytes instead of ")
    built.built(dataset_spec())
    (Path(built.artefacts.where(run_spec().folder)) / "manifest.json").unlink()
    assert states(built)[f"model_run {run_spec().key}"] == ("missing", ("nothing is built",))
    built.built(run_spec())
    assert not_current(built) == {}
    (Path(built.artefacts.where(run_spec().folder)) / "manifest.json").write_text("{}")
    assert "damaged" in not_current(built)[f"model_run {run_spec().key}"][0]
    built.built(run_spec())
    assert not_current(built) == {}


def test_a_version_that_failed_is_told_apart_from_one_that_was_never_tried(platform, decision_table):
    table = decision_table()
    platform.imported(table.set_column(3, "_selected", pa.array([True] * len(table))))
    assert "two or more selected rows" in platform.refused(dataset_spec())
    state, reasons = states(platform)["tfrecord_dataset s/d"]
    assert (state, reasons[0]) == ("failed", "nothing is built")
    assert "failed at this version: table haven.features breaks" in reasons[1]
    # a new version starts again
    platform.imported(table)
    assert states(platform)["tfrecord_dataset s/d"] == ("missing", ("nothing is built",))
    platform.built(dataset_spec())
    # what failed before is no failure of what was built since and is gone now
    (Path(platform.artefacts.where(dataset_spec().folder)) / "manifest.json").unlink()
    assert states(platform)["tfrecord_dataset s/d"] == ("missing", ("nothing is built",))


def test_a_build_that_fails_before_it_reads_a_row_notes_its_version_too(platform, decision_table):
    platform.imported(decision_table().drop_columns(["age"]))
    assert "age" in platform.refused(dataset_spec())
    state, reasons = states(platform)["tfrecord_dataset s/d"]
    assert state == "failed"
    assert "age" in reasons[1]


def test_a_catalog_that_cannot_be_read_is_an_error_and_not_an_empty_answer(built):
    (built.home / "mimic" / "catalog.db").rename(built.home / "elsewhere.db")
    with pytest.raises(StorageError, match=r"catalog\.db: is gone, while .* holds tables; put it back"):
        make_plan(built.instance, built.inventory)
    (built.home / "mimic" / "catalog.db").write_text("no database")
    with pytest.raises(StorageError, match="cannot be read"):
        make_plan(built.instance, built.inventory)


def test_a_table_that_is_dropped_is_not_there_any_more(built):
    built.tables._catalog.drop_table("haven.scored")
    assert not_current(built) == {f"inference_table {ALL[-1].key}": ("table haven.scored is gone",)}
    built.tables._catalog.drop_table("haven.features")
    found = not_current(built)
    assert found["tfrecord_dataset s/d"] == ("waits for source_table haven.features, which is not there; import it",)


def test_a_stored_spec_that_cannot_be_read_is_named_and_hides_no_other(built):
    path = Path(built.artefacts.where("specs/tfrecord_dataset/s/d/000001.json"))
    path.write_bytes(path.read_bytes().replace(b'"max_choices": 3', b'"max_choices": 4'))
    found = states(built)
    assert found["tfrecord_dataset s/d"][0] == "failed"
    assert "000001.json" in found["tfrecord_dataset s/d"][1][0]
    assert found["tfrecord_dataset s/pairs"][0] == "current"


def test_a_run_that_is_queued_is_in_flight(built):
    built.imported(built.rows("haven.features").slice(2))
    run = built.instance.create_run_for_job(
        built.definitions().resolve_job_def("build_dataset"), tags={"dagster/partition": "s/d"}
    )
    assert states(built)["tfrecord_dataset s/d"][0] == "queued"
    built.instance.report_run_canceled(run)
    assert states(built)["tfrecord_dataset s/d"][0] == "out_of_date"


def test_the_partitions_of_the_plan_are_upstream_first(built):
    plan, _ = make_plan(built.instance, built.inventory)
    order = list(plan.partitions)
    assert order.index(Node("contrast_set", CONTRAST.key)) < order.index(Node("tfrecord_dataset", "s/pairs"))
    assert order[-1].asset == "inference_table"


def test_files_that_change_between_listing_and_reading_are_not_kept_for_what_was_listed(
    platform, decision_table, monkeypatch
):
    path = platform.home / "t.parquet"
    pq.write_table(decision_table(), path)
    platform.tables.register("haven.t", path)
    platform.inventory.sources()
    os.utime(path, (1e9, 1e9))
    first = platform.tables.pin("haven.t")
    before, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    listed = external.list_files

    def changed_after_the_listing(*arguments):
        monkeypatch.undo()
        listing = listed(*arguments)
        pq.write_table(decision_table(seed=1), path)
        return listing

    monkeypatch.setattr(external, "list_files", changed_after_the_listing)
    assert platform.inventory.sources()["haven.t"].token != first.token
    path.write_bytes(before)
    os.utime(path, ns=times)
    assert platform.inventory.sources()["haven.t"].token == first.token
