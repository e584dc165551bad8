"""Contrast sets through Dagster with a real instance: what they show, what replaces what, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_assets.registration import register
from mimic_core import contract
from mimic_core.configs import parse_spec
from mimic_core.errors import TableError
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec

SOURCE, CONTRASTS, SCORED = "haven.features", "haven.contrasts", "haven.scored"
KEYS = ["_individual", "_decision", "_choice"]
OLD_KEYS = ["_individual", "_old_decision", "_old_choice"]
PAIRS = 6 * 2 * 2  # individuals, decisions of each, alternatives of each


def contrast(**changes: object) -> ContrastSpec:
    document = {"database": "haven", "source_table": "features", "train_partitions": 2, "test_partitions": 1}
    document |= {"destination_table": "contrasts", "decisions_per_individual": 2, "alternatives_per_decision": 2}
    return parse_spec(ContrastSpec, document | changes)


def dataset(**changes: object) -> DatasetSpec:
    document = {"database": "haven", "table": "contrasts", "train_partitions": 2, "test_partitions": 1, "max_choices": 2}
    document |= {"features": ["size", "age"], "missing_values_map": {"size": 0}, "space": "s", "dataset": "d"}
    return parse_spec(DatasetSpec, document | changes)


def run(**changes: object) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 2, "features": ["size", "age"]}
    document |= {"database": "haven", "table": "results", "model": {"layers": []}}
    return parse_spec(RunSpec, document | changes)


def inference(**changes: object) -> InferenceSpec:
    document = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s"}
    document |= {"experiment_name": "e", "run_id": run().run_id, "upload_table": "scored"}
    return parse_spec(InferenceSpec, document | changes)


@pytest.fixture(scope="module")
def finished(shared_platform, decision_table):
    """A platform on which everything was built once, from the source table over contrasts; tests only look at it."""
    shared_platform.imported(decision_table())
    shared_platform.built(contrast(), dataset(), run(), inference())
    return shared_platform


def by(table: pa.Table, keys: list[str]) -> pa.Table:
    return table.sort_by([(key, "ascending") for key in keys])


def with_rows(table: pa.Table, *rows: dict[str, Any]) -> pa.Table:
    return pa.concat_tables([table, pa.Table.from_pylist(list(rows), table.schema)])


def with_first(table: pa.Table, name: str, *first: Any) -> pa.Table:
    """Change the first values of a column."""
    values = [*first, *table[name].to_pylist()[len(first) :]]
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def data_files(platform) -> set[Path]:
    """All Parquet files of the contrast table, also those that no version names."""
    return set((platform.home / "mimic/warehouse").rglob("contrasts/data/**/*.parquet"))


def commits(platform) -> int:
    return len(list((platform.home / "mimic/warehouse").rglob("contrasts/metadata/*.metadata.json")))


# ---- from the source table to inferences


def test_a_contrast_set_shows_counts_location_inputs_and_columns(finished, decision_table):
    facts = finished.shown(contrast())
    assert facts["dagster/row_count"] == facts["rows"] == 2 * PAIRS
    assert (facts["decisions"], facts["train_decisions"], facts["test_decisions"]) == (PAIRS, PAIRS * 5 / 6, PAIRS / 6)
    assert (facts["individuals"], facts["source_decisions"]) == (6, 18)
    assert (facts["skipped_decisions"], facts["skipped_individuals"]) == (0, 0)
    assert facts["upstream"].endswith(f" | {finished.tables.pin(SOURCE).token[:12]} |")
    assert facts["dagster/uri"] == CONTRASTS
    columns = {column.name: column.type for column in facts["dagster/column_schema"].columns}
    source = {field.name: str(field.type) for field in decision_table().schema}
    assert columns == source | {"_old_decision": "int64", "_old_choice": "int64"}


def test_a_contrast_set_shows_the_choice_sets_that_it_was_sampled_from(finished):
    shown = finished.shown(contrast())
    assert shown["source_choice_sets"].startswith("![choice-set sizes](data:image/png")
    named = ("source_choices_per_decision", "source_largest_choice_set", "source_single_choice_decisions")
    assert [shown[name] for name in named] == [2.33333, 3, 0]
    assert not any(name.startswith(("choice", "largest")) for name in shown)  # of its pairs that is always 2
    assert "alternatives" not in shown  # its choices have no labels


def test_the_data_version_is_the_fingerprint_of_the_manifest(finished):
    tags = finished.materialization(contrast()).tags
    assert tags["dagster/data_version"] == finished.manifest(contrast())["fingerprint"]


def test_a_kept_contract_is_recorded_as_a_passed_check(finished):
    key = dg.AssetCheckKey(dg.AssetKey("contrast_set"), "decision_table_contract")
    (record,) = finished.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    check = record.event.dagster_event.asset_check_evaluation_data
    assert check.passed
    assert check.metadata["outcome"].value["decisions"] == 18


def test_the_balance_of_the_pairs_is_counted_and_passes(finished):
    key = dg.AssetCheckKey(dg.AssetKey("contrast_set"), "contrast_balance")
    (record,) = finished.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    check = record.event.dagster_event.asset_check_evaluation_data
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.ERROR)
    shown = {name: value.value for name, value in check.metadata.items()}
    assert (shown["share selected"], shown["pairs"], shown["pairs of each individual"]) == (0.5, PAIRS, 4)
    assert (shown["individuals"], shown["broken pairs"], shown["individuals with another number"]) == (6, 0, 0)


def test_a_run_on_contrasts_is_compared_with_the_rows_of_their_source(finished, decision_table):
    source, described = finished.manifest(contrast())["distributions"], finished.manifest(dataset())["distributions"]
    train = decision_table().filter(decision_table()["_train"])
    assert source["rows"] == described["rows"] == len(train)
    assert (source["features"]["size"]["missing"], described["features"]["size"]["missing"]) == (1, 0)
    assert sum(described["features"]["size"]["counts"]) == len(train)
    assert list(source["features"]) == ["size", "age"]
    assert [drift["index"] < drift["limit"] for drift in finished.manifest(inference())["drift"]] == [True, True]


def test_every_row_is_a_copy_of_the_source_row_that_it_names(finished, decision_table):
    copied = finished.rows(CONTRASTS)
    values = ["_selected", "_train", "size", "age"]
    source = decision_table().rename_columns([*OLD_KEYS, *values])
    expected = copied.select(OLD_KEYS).join(source, OLD_KEYS, join_type="inner")
    assert by(copied.select([*OLD_KEYS, *values]), OLD_KEYS) == by(expected, OLD_KEYS)
    assert copied["_choice"].to_pylist() == [0, 1] * PAIRS
    assert copied["_selected"].to_pylist() == [True, False] * PAIRS


def test_a_contrast_table_is_no_source_table(finished):
    assert finished.tables.kind(CONTRASTS) == "contrast"
    assert finished.tables.names("source") == [SOURCE]
    assert finished.instance.get_dynamic_partitions("contrast_sets") == [CONTRASTS]
    assert finished.instance.get_dynamic_partitions("source_tables") == [SOURCE]


def test_a_dataset_over_a_contrast_set_names_it_with_its_content_as_its_only_input(finished):
    manifest = finished.manifest(dataset())
    assert list(manifest["inputs"]) == ["contrast_set"]
    assert manifest["inputs"]["contrast_set"]["name"] == CONTRASTS
    assert manifest["inputs"]["contrast_set"]["token"] == finished.tables.pin(CONTRASTS).token
    assert (manifest["counts"]["decisions"], manifest["counts"]["largest_choice_set"]) == (PAIRS, 2)
    assert f"| contrast_set | [{CONTRASTS}]" in finished.shown(dataset())["upstream"]


def test_a_run_on_contrasts_scores_every_row_of_the_full_source_table(finished, decision_table):
    scored = finished.rows(SCORED)
    assert scored.select(KEYS) == by(decision_table(), KEYS).select(KEYS)
    totals = scored.group_by(KEYS[:2]).aggregate([("probability", "sum")])["probability_sum"].to_pylist()
    assert totals == pytest.approx([1] * 18, abs=1e-12)


# ---- building again


@pytest.mark.parametrize(
    "changes",
    [
        {"train_partitions": 9, "test_partitions": 3, "decisions_per_individual": 1, "alternatives_per_decision": 1},
        {"train_partitions": 1, "decisions_per_individual": 5, "alternatives_per_decision": 3, "seed": 7},
    ],
)
def test_a_rebuild_replaces_the_table_by_what_a_first_build_would_have_made(platform, decision_table, changes):
    platform.imported(decision_table())
    platform.built(contrast(), contrast(**changes), contrast(destination_table="fresh", **changes))
    rows, spec = platform.rows(CONTRASTS), contrast(**changes)
    assert len(rows) == 2 * 6 * spec.decisions_per_individual * spec.alternatives_per_decision
    assert rows == platform.rows("haven.fresh")
    assert platform.tables.pin(CONTRASTS).token == platform.tables.pin("haven.fresh").token


def test_a_rebuild_of_a_smaller_source_table_keeps_no_stale_rows(platform, decision_table):
    platform.imported(decision_table())
    platform.built(contrast())
    platform.imported(decision_table((1, 2), test=(2,)))
    platform.built(contrast())
    assert set(platform.rows(CONTRASTS)["_individual"].to_pylist()) == {1, 2}


def test_the_number_of_shards_changes_neither_rows_nor_content_and_the_seed_changes_both(platform, decision_table):
    platform.imported(decision_table())
    found = []
    for changes in ({}, {"train_partitions": 5, "test_partitions": 2}, {"seed": 1}, {"seed": 0}):
        platform.built(contrast(**changes))
        found.append((platform.rows(CONTRASTS), platform.tables.pin(CONTRASTS).token))
    (rows, token), resharded, seeded, again = found
    assert resharded == again == (rows, token)
    assert seeded[0] != rows
    assert seeded[1] != token


def test_another_number_of_shards_leaves_a_dataset_over_the_contrast_set_up_to_date(platform, decision_table):
    platform.imported(decision_table())
    versions = []
    for partitions in (2, 5):
        platform.built(contrast(train_partitions=partitions), dataset())
        versions.append([platform.manifest(spec)["fingerprint"] for spec in (contrast(), dataset())])
    assert versions[0][0] != versions[1][0]
    assert versions[0][1] == versions[1][1]


def test_columns_that_are_added_removed_or_retyped_arrive_with_the_rows_in_one_commit(platform, decision_table):
    table = decision_table()
    platform.imported(table)
    platform.built(contrast())
    before, rows, count = platform.tables.pin(CONTRASTS), platform.rows(CONTRASTS), commits(platform)
    changed = table.drop_columns(["age"]).append_column("colour", pa.array(["red"] * len(table)))
    changed = changed.set_column(changed.column_names.index("size"), "size", pa.array(range(len(table)), pa.int64()))
    platform.imported(changed)
    platform.built(contrast())
    after = platform.rows(CONTRASTS)
    kinds = {field.name: field.type for field in after.schema}
    source_kinds = {field.name: field.type for field in changed.schema}
    assert kinds == source_kinds | {"_old_decision": pa.int64(), "_old_choice": pa.int64()}
    assert (after["size"].null_count, set(after["colour"].to_pylist())) == (0, {"red"})
    assert commits(platform) == count + 1
    assert by(pa.Table.from_batches(list(platform.tables.batches(before))), KEYS) == rows


# ---- what is refused


ROW = {"_individual": 1, "_decision": 0, "_choice": 9, "_selected": False, "_train": True, "size": 0.5, "age": 0.5}
BROKEN = {
    "decisions with two or more selected rows: 1 (individual 1 decision 0)": ROW | {"_selected": True},
    "decisions that offer a _choice twice: 1 (individual 1 decision 1)": ROW | {"_decision": 1, "_choice": 0},
    "individuals in both train and test: 1 (individual 2)": ROW | {"_individual": 2, "_train": False},
    "rows with a null _individual: 1 (individual None decision 0)": ROW | {"_individual": None},
    "rows with a null _decision: 1 (individual 1 decision None)": ROW | {"_decision": None},
    "rows with a null _choice: 1 (individual 1 decision 2)": ROW | {"_decision": 2, "_choice": None},
    "rows with a null _selected: 1 (individual 3 decision 0)": ROW | {"_individual": 3, "_selected": None},
    "rows with a null _train: 1 (individual 6 decision 0)": ROW | {"_individual": 6, "_train": None},
}


def test_rows_that_break_the_contract_publish_nothing_and_leave_nothing_behind(platform, decision_table):
    platform.imported(decision_table())
    platform.built(contrast())
    before = platform.manifest(contrast()), platform.rows(CONTRASTS), data_files(platform)
    platform.imported(with_rows(decision_table(), *BROKEN.values()))
    text = platform.refused(contrast())
    assert "table haven.features breaks the decision-table contract; nothing was published" in text
    assert [message for message in BROKEN if message not in text] == []
    assert (platform.manifest(contrast()), platform.rows(CONTRASTS), data_files(platform)) == before


def test_a_broken_table_fails_the_check_of_a_first_build_and_makes_no_version(platform, decision_table):
    platform.imported(with_rows(decision_table(), ROW | {"_selected": True}))
    result = platform.build(contrast())
    assert not result.success
    check, *_ = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("decision_table_contract", False)
    assert platform.manifest(contrast()) is None
    assert CONTRASTS not in platform.tables.names()
    assert data_files(platform) == set()


def test_a_feature_that_no_dataset_could_use_is_copied_as_it_is(platform, decision_table):
    table = with_first(decision_table(), "age", None, float("inf"))
    platform.imported(table)
    platform.built(contrast(decisions_per_individual=3))
    first = platform.rows(CONTRASTS).filter((pc.field("_individual") == 1) & (pc.field("_old_decision") == 0))
    assert {row["_old_choice"]: row["age"] for row in first.to_pylist()} == {0: None, 1: float("inf")}


def test_a_table_of_decisions_with_one_choice_each_is_refused(platform, decision_table):
    platform.imported(decision_table().filter(pc.field("_selected")))
    message = platform.refused(contrast())
    assert "table haven.features: none of its 18 decisions has a rejected choice to contrast with" in message
    assert platform.manifest(contrast()) is None
    assert data_files(platform) == set()


def test_decisions_with_one_choice_are_skipped_and_counted(platform, decision_table):
    alone = {"_choice": 0, "_selected": True}
    platform.imported(with_rows(decision_table(), ROW | alone | {"_decision": 9}, ROW | alone | {"_individual": 9}))
    platform.built(contrast())
    counts = platform.manifest(contrast())["counts"]
    assert (counts["source_decisions"], counts["skipped_decisions"], counts["skipped_individuals"]) == (20, 2, 1)
    assert (counts["individuals"], counts["decisions"]) == (6, PAIRS)
    assert 9 not in platform.rows(CONTRASTS)["_old_decision"].to_pylist()


def test_a_dataset_over_a_contrast_set_that_is_only_registered_is_refused_with_the_command_to_run(platform, decision_table):
    platform.imported(decision_table())
    register(platform.instance, platform.specs, [(contrast(), "")])
    assert "make a contrast set with `mimic log-odds build-contrast CONFIG`" in platform.refused(dataset())


def test_a_dataset_over_a_contrast_set_that_was_never_published_is_refused_with_the_command_to_run(platform, decision_table):
    platform.imported(with_rows(decision_table(), ROW | {"_selected": True}))
    platform.refused(contrast())
    message = platform.refused(dataset())
    assert "contrast set haven.contrasts is not built; run `mimic log-odds build-contrast CONFIG` for it first" in message


def test_a_damaged_manifest_is_refused_with_its_name_and_replaced_by_the_next_build(platform, decision_table):
    platform.imported(decision_table())
    platform.built(contrast())
    path = Path(platform.artefacts.where(f"{contrast().folder}/manifest.json"))
    path.write_bytes(path.read_bytes().replace(b"haven.contrasts", b"haven.contrasted"))
    assert "haven.contrasts/manifest.json: damaged" in platform.refused(dataset())
    platform.built(contrast(), dataset())


@pytest.mark.parametrize("kind", ["source", "results", "inference"])
def test_a_destination_with_another_purpose_is_refused(platform, decision_table, kind):
    table = decision_table()
    platform.imported(table)
    platform.tables.ensure("haven.taken", table.schema, kind=kind)
    message = platform.refused(contrast(destination_table="taken"))
    assert f"table haven.taken holds {kind} rows, expected contrast rows; give another name" in message
    assert platform.tables.names() == [SOURCE]


def test_no_other_stage_may_write_a_contrast_table(finished, decision_table):
    before = finished.tables.pin(CONTRASTS)
    with pytest.raises(TableError, match=r"table haven\.contrasts holds contrast rows, expected source rows"):
        finished.imported(decision_table(), CONTRASTS)
    assert "holds contrast rows, expected results rows" in finished.refused(run(table="contrasts"))
    assert "holds contrast rows, expected inference rows" in finished.refused(inference(upload_table="contrasts"))
    assert finished.tables.pin(CONTRASTS) == before


def test_only_a_dataset_may_read_a_contrast_table(finished):
    again = contrast(source_table="contrasts", destination_table="again")
    for spec in (again, inference(table="contrasts", upload_table="scored_contrasts")):
        assert "table haven.contrasts holds contrast rows, expected source rows" in finished.refused(spec)


# ---- versions, and what happens meanwhile


def test_a_dataset_reads_the_version_that_the_contrast_set_published_even_if_its_table_is_newer(platform, decision_table):
    platform.imported(decision_table())
    platform.built(contrast())
    published = platform.tables.pin(CONTRASTS)
    columns = pa.schema([field for field in platform.tables.schema_of(published) if field.name != "age"])
    newer = platform.tables.replace(CONTRASTS, [], None, columns=columns)  # as of a build that was killed there
    assert (newer.rows, platform.tables.pin(CONTRASTS)) == (0, newer)
    platform.built(dataset())
    manifest = platform.manifest(dataset())
    assert manifest["inputs"]["contrast_set"]["token"] == published.token
    assert manifest["counts"]["decisions"] == PAIRS


def once(monkeypatch: pytest.MonkeyPatch, part: int, happens: Callable[[], object]) -> None:
    """Let something happen once, before a part is sampled."""
    whole, parts = contract.check_block, []

    def check_block(table: pa.Table, *rules: object) -> contract.Block:
        parts.append(table)
        if len(parts) == part:
            happens()
        return whole(table, *rules)

    monkeypatch.setattr(contract, "check_block", check_block)


def test_an_import_during_a_build_does_not_show_in_it(platform, decision_table, monkeypatch):
    before = platform.imported(decision_table())
    once(monkeypatch, 2, lambda: platform.imported(decision_table((7, 8), test=(8,))))
    platform.built(contrast(), contrast(destination_table="after"))
    assert platform.manifest(contrast())["inputs"]["source_table"]["token"] == before.token
    assert set(platform.rows(CONTRASTS)["_individual"].to_pylist()) == {1, 2, 3, 4, 5, 6}
    assert set(platform.rows("haven.after")["_individual"].to_pylist()) == {7, 8}


def test_of_two_builds_at_once_the_one_that_ends_last_is_discarded(platform, decision_table, monkeypatch):
    platform.imported(decision_table())
    once(monkeypatch, 2, lambda: platform.built(contrast(seed=1)))
    message = platform.refused(contrast())
    assert "another build published a newer version while this one ran; this one was discarded" in message
    manifest = platform.manifest(contrast())
    assert manifest["spec"]["seed"] == 1
    assert platform.tables.pin(CONTRASTS).snapshot == manifest["snapshot"]
    assert len(platform.rows(CONTRASTS)) == 2 * PAIRS


def fails() -> None:
    raise RuntimeError("the second shard fails")


def test_reexecution_from_failure_reruns_the_failed_shard_and_the_commit_only(platform, decision_table, monkeypatch):
    platform.imported(decision_table())
    platform.built(contrast(destination_table="fresh"))
    (platform.home / "dagster").mkdir()
    once(monkeypatch, 2, fails)
    with dg.DagsterInstance.get() as instance:
        register(instance, platform.specs, [(contrast(), "")])
        failed = platform.execute(instance, contrast())
        assert not failed.success
        assert platform.manifest(contrast()) is None
        again = platform.execute(instance, contrast(), dg.ReexecutionOptions.from_failure(failed.run_id, instance))
    assert again.success
    steps = {event.step_key for event in again.all_events if event.event_type_value == "STEP_SUCCESS"}
    assert steps == {"contrast_set.sample_part[part_00001]", "contrast_set.publish_contrasts"}
    assert platform.rows(CONTRASTS) == platform.rows("haven.fresh")


def test_publishing_again_changes_nothing(platform, decision_table):
    platform.imported(decision_table())
    (platform.home / "dagster").mkdir()
    with dg.DagsterInstance.get() as instance:
        register(instance, platform.specs, [(contrast(), "")])
        first = platform.execute(instance, contrast())
        before = platform.manifest(contrast()), platform.tables.pin(CONTRASTS), commits(platform)
        publish = dg.ReexecutionOptions(parent_run_id=first.run_id, step_selection=["contrast_set.publish_contrasts"])
        assert platform.execute(instance, contrast(), publish).success
    assert (platform.manifest(contrast()), platform.tables.pin(CONTRASTS), commits(platform)) == before


def test_a_build_that_failed_between_the_table_and_the_manifest_is_ended_by_reexecution(
    platform, decision_table, monkeypatch
):
    platform.imported(decision_table())
    (platform.home / "dagster").mkdir()
    with dg.DagsterInstance.get() as instance, monkeypatch.context() as patch:
        register(instance, platform.specs, [(contrast(), "")])
        patch.setattr(type(platform.artefacts), "_publish", lambda *_: fails())
        failed = platform.execute(instance, contrast())
        assert not failed.success
        assert platform.manifest(contrast()) is None
        patch.undo()
        committed = platform.tables.pin(CONTRASTS)
        again = platform.execute(instance, contrast(), dg.ReexecutionOptions.from_failure(failed.run_id, instance))
    assert again.success
    assert platform.manifest(contrast())["snapshot"] == committed.snapshot
    assert platform.tables.pin(CONTRASTS) == committed
    assert committed.rows == 2 * PAIRS


def test_a_build_that_loses_leaves_no_files(platform, decision_table, monkeypatch):
    platform.imported(decision_table())
    once(monkeypatch, 2, lambda: platform.built(contrast(seed=1)))
    platform.refused(contrast())
    scan = platform.tables._load(CONTRASTS).scan()
    named = {Path(task.file.file_path.removeprefix("file://")) for task in scan.plan_files()}
    assert data_files(platform) == named
