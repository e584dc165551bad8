"""How a build is divided into steps: whatever the division, the result is the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_assets import builds
from mimic_core.configs import parse_spec
from mimic_core.shards import Part, plan_parts
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec
from mimic_core.splits import read_rows
from resources import blocks, reading, staging

INDIVIDUALS = tuple(range(1, 41))
TEST = tuple(range(4, 41, 4))
SOURCE = "haven.features"


def dataset(**changes: object) -> DatasetSpec:
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "space": "s", "dataset": "d"} | changes)


def contrast(**changes: object) -> ContrastSpec:
    document = {"database": "haven", "source_table": "features", "destination_table": "pairs"}
    return parse_spec(ContrastSpec, document | {"decisions_per_individual": 2, "alternatives_per_decision": 2} | changes)


def run() -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": {"layers": []}})


def inference(**changes: object) -> InferenceSpec:
    document = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s"}
    document |= {"experiment_name": "e", "run_id": run().run_id, "upload_table": "scored"}
    return parse_spec(InferenceSpec, document | changes)


@pytest.fixture
def table(decision_table) -> pa.Table:
    """280 rows, in the order of their ids."""
    return decision_table(INDIVIDUALS, test=TEST)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write tables in row groups of ten rows, and make blocks of as few."""
    monkeypatch.setattr(staging, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 10)


def shuffled(table: pa.Table) -> pa.Table:
    return table.take([(37 * row) % len(table) for row in range(len(table))])


def parts(result: dg.ExecuteInProcessResult, planner: str) -> list[Part]:
    """What the steps of a build were told to do."""
    (node,) = {event.step_key.split(".")[0] for event in result.all_events if event.step_key and planner in event.step_key}
    return [task.part for task in result.output_for_node(f"{node}.{planner}").values()]


def steps(result: dg.ExecuteInProcessResult, name: str) -> int:
    return sum(event.is_step_success and f"{name}[" in event.step_key for event in result.all_events)


def decisions(platform, spec: DatasetSpec) -> list[Any]:
    """Every decision of a dataset, by split."""
    read = [read_rows(platform.folder(spec), split) for split in ("train", "test")]
    return [[rows.individual.tolist(), rows.decision.tolist(), rows.choice.tolist(), rows.x.tolist()] for rows in read]


@pytest.mark.usefixtures("small_groups")
def test_on_a_table_in_the_order_of_its_individuals_each_step_reads_a_part_of_its_row_groups(platform, table):
    platform.imported(table)
    result = platform.build(dataset(train_partitions=4, test_partitions=4))
    planned = parts(result, "plan_dataset")
    assert len(planned) == steps(result, "build_dataset_part") == 4
    assert all(shard.span for part in planned for shard in part.shards)
    groups = len(table) // 10
    assert all(len(part.row_groups) < groups / 2 for part in planned)
    assert sum(len(part.row_groups) for part in planned) <= groups + 3  # neighbours share the row group of their border


@pytest.mark.usefixtures("small_groups")
def test_neither_shards_nor_steps_nor_row_order_change_what_is_built(platform, table):
    platform.imported(table)
    platform.built(dataset(), contrast(), run(), inference())
    expected = decisions(platform, dataset()), platform.rows("haven.pairs"), platform.rows("haven.scored")
    counts = [platform.manifest(spec)["counts"] for spec in (dataset(), contrast(), inference())]
    for order, widths in (
        ("sorted", {"train_partitions": 5, "test_partitions": 2, "shards_per_step": 2}),
        ("sorted", {"train_partitions": 24, "test_partitions": 3, "shards_per_step": 8}),
        ("shuffled", {"train_partitions": 3, "test_partitions": 2}),
    ):
        if order == "shuffled":
            platform.imported(shuffled(table))
        wide = [dataset(**widths), contrast(**widths), inference(**widths)]
        platform.built(*wide)
        assert decisions(platform, wide[0]) == expected[0], widths
        assert platform.rows("haven.pairs") == expected[1], widths
        assert platform.rows("haven.scored").drop_columns("_partition") == expected[2].drop_columns("_partition"), widths
        assert [platform.manifest(spec)["counts"] for spec in wide] == counts, widths
        files = platform.manifest(wide[0])["files"]
        per_split = [sum(file["split"] == split for file in files) for split in ("train", "test")]
        assert per_split == [widths["train_partitions"], widths["test_partitions"]]


def test_rows_that_do_not_fit_into_memory_are_written_to_temporary_files_and_give_the_same_bytes(
    platform, table, monkeypatch, tmp_path
):
    platform.imported(table)
    platform.built(dataset())
    expected = [file["sha256"] for file in platform.manifest(dataset())["files"]]
    platform.imported(shuffled(table))
    monkeypatch.setattr(blocks, "BYTES_HELD", 2_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    spilled: list[int] = []
    spill = blocks.spilled_blocks
    monkeypatch.setattr(blocks, "spilled_blocks", lambda *a: (spilled.append(len(t)) or t for t in spill(*a)))
    platform.built(dataset())
    assert [file["sha256"] for file in platform.manifest(dataset())["files"]] == expected
    assert len(spilled) > 3
    assert set(tmp_path.iterdir()) == before


def test_a_compressed_dataset_holds_the_same_decisions_in_fewer_bytes(platform, table):
    platform.imported(table)
    zipped = dataset(compression="GZIP", dataset="zipped")
    platform.built(dataset(), zipped)
    assert decisions(platform, zipped) == decisions(platform, dataset())
    plain, small = (platform.manifest(spec)["files"] for spec in (dataset(), zipped))
    assert [file["path"] for file in small] == [f"{file['path']}.gz" for file in plain]
    assert all(after["bytes"] < before["bytes"] for before, after in zip(plain, small, strict=True))
    digests = [file["sha256"] for file in small]
    platform.built(zipped)
    assert [file["sha256"] for file in platform.manifest(zipped)["files"]] == digests


def test_a_broken_table_leaves_no_file_of_the_blocks_before_the_broken_one(platform, table, small_groups):
    last = table.slice(len(table) - 1)
    platform.imported(pa.concat_tables([table, last]))
    assert "decisions that offer a _choice twice: 1" in platform.refused(dataset())
    assert "decisions that offer a _choice twice: 1" in platform.refused(contrast())
    assert list(Path(platform.artefacts.where("s-tfrecords")).rglob("*.tfrecord*")) == []
    assert not list((platform.home / "mimic/warehouse/haven/pairs").rglob("*.parquet"))


STEPS = """
import json, sys, logging
from pathlib import Path
import dagster as dg
from mimic_assets.definitions import defs
from mimic_assets.jobs import BUILDS
from mimic_assets import builds
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec
from resources.environments import local_resources
from mimic_assets.registration import register
instance, specs = dg.DagsterInstance.ephemeral(), local_resources(Path(sys.argv[1]))["specs"]
ended = []
for kind, document in json.loads(sys.argv[2]):
    spec = parse_spec({"c": ContrastSpec, "d": DatasetSpec, "i": InferenceSpec}[kind], document)
    register(instance, specs, [(spec, "")])
    job = defs().resolve_job_def(BUILDS[spec.asset].name)
    ended.append(job.execute_in_process(instance=instance, partition_key=spec.key, raise_on_error=False).success)
print(json.dumps([ended, [name for name in ("tensorflow", "keras", "scipy") if name in sys.modules]]))
"""


def test_steps_that_build_sample_and_plan_import_no_tensorflow(platform, table):
    platform.imported(table)
    platform.built(dataset(), run())
    # of a broken table nothing is scored, so its inference plans, checks and reports only
    broken = pa.concat_tables([table, table.slice(0, 1)])
    pq.write_table(broken, platform.home / "broken.parquet")
    platform.tables.import_files("haven.broken", [platform.home / "broken.parquet"])
    specs = [("c", contrast()), ("d", dataset()), ("i", inference(table="broken"))]
    documents = json.dumps([(kind, spec.document) for kind, spec in specs])
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(platform.home / "mimic"), documents],
        capture_output=True,
        text=True,
        env=os.environ | {"MIMIC_HOME": str(platform.home / "mimic")},
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[True, True, False], []]


@pytest.mark.usefixtures("small_groups")
def test_how_many_shards_a_step_builds_changes_no_file_and_no_partition_of_a_row(platform, table):
    platform.imported(table)
    widths = {"train_partitions": 8, "test_partitions": 1}
    platform.built(dataset(**widths), run(), inference(**widths))
    files = [file["sha256"] for file in platform.manifest(dataset(**widths))["files"]]
    scored = platform.rows("haven.scored")
    for per_step in (3, 8):
        together = widths | {"shards_per_step": per_step}
        assert steps(platform.build(dataset(**together)), "build_dataset_part") == -(-8 // per_step)
        assert [file["sha256"] for file in platform.manifest(dataset(**together))["files"]] == files
        platform.built(inference(**together))
        assert platform.rows("haven.scored") == scored


@pytest.mark.usefixtures("small_groups")
def test_statistics_of_a_file_that_do_not_fit_its_rows_are_no_missing_rows(platform, table, monkeypatch):
    platform.imported(table)
    true_bounds = reading.groups_of

    def too_narrow(*of: Any) -> Any:
        first, second, *others = true_bounds(*of)
        return [first, replace(second, lowest=second.highest), *others]

    monkeypatch.setattr(reading, "groups_of", too_narrow)
    for spec in (dataset(train_partitions=4, test_partitions=4), contrast(train_partitions=4, test_partitions=4)):
        assert "states that its row group 1 holds _individual" in platform.refused(spec)
        assert platform.manifest(spec) is None


@pytest.mark.usefixtures("small_groups")
def test_a_build_whose_steps_did_not_read_every_row_publishes_nothing(platform, table, monkeypatch):
    platform.imported(table)

    def with_a_gap(*of: Any) -> list[Part]:
        first, *others = plan_parts(*of)
        return [replace(first, row_groups=first.row_groups[:-2]), *others]

    monkeypatch.setattr(builds, "plan_parts", with_a_gap)
    message = platform.refused(contrast(train_partitions=4, test_partitions=4))
    assert "its files hold 280 rows, the steps of this build read 2" in message
    assert platform.manifest(contrast()) is None


@pytest.mark.usefixtures("small_groups")
def test_a_build_notes_that_each_step_read_all_of_a_large_table(platform, table, monkeypatch):
    monkeypatch.setattr(builds, "MANY_ROWS", len(table))
    wide = dataset(train_partitions=3, test_partitions=3)
    platform.imported(table)
    platform.built(wide)
    assert platform.manifest(wide)["notes"] == []
    platform.imported(shuffled(table))
    platform.built(wide)
    (note,) = platform.manifest(wide)["notes"]
    assert note.startswith("each of 3 steps read all 280 rows: they are in no order of _individual")
