"""Tables whose ids are text, of which only some rows are wanted, or some decisions are broken, through every stage."""

import re
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core.configs import parse_spec
from mimic_core.identifiers import surrogates
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec
from mimic_core.splits import read_rows

KEYS = ["_individual", "_decision", "_choice"]
DROP: dict[str, Any] = {"invalid_decisions": "drop"}
WIDTHS: dict[str, Any] = {"train_partitions": 2, "test_partitions": 1}


def dataset(**changes: object) -> DatasetSpec:
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"], **WIDTHS}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "space": "s", "dataset": "d"} | changes)


def contrast(**changes: object) -> ContrastSpec:
    document = {"database": "haven", "source_table": "features", "destination_table": "pairs", **WIDTHS}
    return parse_spec(ContrastSpec, document | {"decisions_per_individual": 2, "alternatives_per_decision": 2} | changes)


def run(**changes: object) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": {"layers": []}} | changes)


def inference(of: RunSpec, **changes: object) -> InferenceSpec:
    document = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s", **WIDTHS}
    document |= {"experiment_name": "e", "run_id": of.run_id, "upload_table": "scored"}
    return parse_spec(InferenceSpec, document | changes)


def texts(table: pa.Table, *names: str) -> pa.Table:
    """Spell out the ids of some columns, with characters that break naive code."""
    for name in names:
        spelt = pa.array([f"{name[1]} '{value}' ü/{value}" for value in table[name].to_pylist()])
        table = table.set_column(table.column_names.index(name), name, spelt)
    return table


def records(platform, spec: DatasetSpec, split: str) -> list[bytes]:
    """The features of each decision of a split; neither decisions nor their choices have an order."""
    rows = read_rows(platform.folder(spec), split, list(spec.features))
    bounds = zip(rows.starts, [*rows.starts[1:], len(rows)], strict=True)
    return sorted(b"".join(sorted(row.tobytes() for row in rows.x[a:b])) for a, b in bounds)


# ---- text ids


@pytest.fixture(scope="module")
def spelt(shared_platform, decision_table):
    """Everything built twice: from a table of numbers, and from the same table with text ids."""
    shared_platform.imported(decision_table())
    shared_platform.imported(texts(decision_table(), *KEYS), "haven.texts")
    two = {"dataset": "t"}
    shared_platform.built(dataset(), dataset(table="texts", **two), run(), run(**two))
    shared_platform.built(inference(run()), inference(run(), table="texts", upload_table="scored_texts"))
    shared_platform.built(contrast(source_table="texts"), dataset(table="pairs", dataset="p", max_choices=2))
    return shared_platform


def test_text_ids_give_the_same_decisions_and_the_same_model_as_numbers(spelt):
    for split in ("train", "test"):
        assert records(spelt, dataset(table="texts", dataset="t"), split) == records(spelt, dataset(), split)
    of_texts, of_numbers = (spelt.manifest(run(dataset=name))["metrics"] for name in ("t", "d"))
    assert of_texts == pytest.approx(of_numbers, abs=1e-9)


def test_id_tables_beside_a_dataset_lead_from_its_records_to_the_texts(spelt, decision_table):
    spec = dataset(table="texts", dataset="t")
    entries = spelt.manifest(spec)["id_tables"]
    assert {entry["path"] for entry in entries} >= {"ids/train-00001-of-00002.parquet", "ids/test-00000-of-00001.parquet"}
    ids = pa.concat_tables([pq.read_table(spelt.folder(spec) / entry["path"]) for entry in entries])
    found = {(row["column"], row["surrogate"]): row["id"] for row in ids.to_pylist()}
    source = texts(decision_table(), *KEYS)
    for split in ("train", "test"):
        rows = read_rows(spelt.folder(spec), split, ["size"])
        back = {found["_individual", i] for i in rows.individual.tolist()}
        assert back == set(source.filter(pc.equal(source["_train"], split == "train"))["_individual"].to_pylist())
        assert {found["_choice", c] for c in rows.choice.tolist()} <= set(source["_choice"].to_pylist())
    assert spelt.manifest(dataset())["id_tables"] == []


def test_an_inference_has_the_texts_and_the_same_scores(spelt, decision_table):
    columns = [*KEYS, "probability", "log_odds", "utility"]
    order = [(name, "ascending") for name in KEYS]
    numbers = texts(spelt.rows("haven.scored"), *KEYS).select(columns).sort_by(order)
    found = spelt.rows("haven.scored_texts").select(columns).sort_by(order)
    assert found.select(KEYS) == numbers.select(KEYS)
    for name in columns[3:]:
        assert np.allclose(found[name], numbers[name], rtol=1e-12)


def test_contrasts_of_text_ids_point_back_by_text(spelt, decision_table):
    pairs, source = spelt.rows("haven.pairs"), texts(decision_table(), *KEYS)
    assert (pairs.schema.field("_decision").type, pairs.schema.field("_old_decision").type) == (pa.int64(), pa.string())
    assert len(pairs) == 6 * 2 * 2 * 2
    keys = {tuple(row.values()): row for row in source.select([*KEYS, "age"]).to_pylist()}
    by_ids = {key[:3]: key[3] for key in keys}
    for row in pairs.to_pylist():
        assert by_ids[row["_individual"], row["_old_decision"], row["_old_choice"]] == row["age"]
    assert spelt.manifest(dataset(table="pairs", dataset="p", max_choices=2))["counts"]["decisions"] == 6 * 2 * 2


def test_a_broken_table_names_text_ids_as_they_are(platform, decision_table):
    table = texts(decision_table(), "_individual")
    leaking = pa.array([i % 2 == 0 for i in range(len(table))])
    platform.imported(table.set_column(4, "_train", leaking))
    message = platform.refused(dataset())
    assert re.search(r"individuals in both train and test: 6 \(individual i '\d' ü/\d, individual i '\d' ü/\d, ", message)


def test_the_ids_of_an_inference_table_have_one_type(platform, decision_table):
    platform.imported(decision_table())
    platform.imported(texts(decision_table(), "_individual"), "haven.texts")
    platform.built(dataset(), run(), inference(run()))
    message = platform.refused(inference(run(dataset="other")))  # the run is not trained
    assert "is not trained" in message
    platform.built(dataset(dataset="t", table="texts"), run(dataset="t"))
    message = platform.refused(inference(run(dataset="t"), table="texts"))
    assert "column '_individual' is int64, and would be string for table haven.texts" in message


# ---- where


def test_a_filter_builds_from_the_rows_that_it_selects(platform, decision_table):
    table = decision_table()
    north = pa.array([("north" if i % 2 else "south") for i in table["_individual"].to_pylist()])
    table = table.append_column("region", north)
    platform.imported(table)
    wanted = {"where": "region = 'south' and age < 5"}
    platform.built(dataset(**wanted), run(), inference(run(), **wanted), contrast(**wanted))
    half = table.filter(pc.equal(table["region"], "south"))
    facts = platform.manifest(dataset())
    assert (facts["counts"]["rows"], facts["contract"]["filtered_rows"]) == (len(half), len(table) - len(half))
    assert facts["inputs"]["source_table"]["columns"]["region"]["type"] == "string"
    assert set(platform.rows("haven.scored")["_individual"].to_pylist()) == {2, 4, 6}
    assert set(platform.rows("haven.pairs")["_individual"].to_pylist()) == {2, 4, 6}


def test_a_filter_that_cuts_through_decisions_is_refused_with_examples(platform, decision_table):
    platform.imported(decision_table())
    for spec in (dataset(where="_choice = 0"), contrast(where="_choice = 0")):
        assert "decisions of which `where` keeps only some rows: 18 (individual " in platform.refused(spec)


@pytest.mark.parametrize("where", ["_train = true", "age < 5 and _train = true"])
def test_a_filter_that_separates_rows_of_a_decision_in_different_shards_is_refused(platform, decision_table, where):
    table = decision_table()
    train = pa.array([i > 0 and flag for i, flag in enumerate(table["_train"].to_pylist())])  # of one choice of (1, 0)
    platform.imported(decision_table(), "haven.whole")
    platform.built(dataset(table="whole"), run())
    platform.imported(table.set_column(4, "_train", train))
    for spec in (dataset(where=where), contrast(where=where), inference(run(), where=where)):
        message = platform.refused(spec)
        assert "decisions of which `where` keeps only some rows: 1 (individual 1 decision 0)" in message
        assert message.count("keeps only some rows") == 1
    assert len(platform.rows("haven.whole")) == len(table)


def test_a_filter_that_holds_for_no_row_is_refused(platform, decision_table):
    platform.imported(decision_table())
    platform.built(dataset(), run())
    for spec in (dataset(dataset="n", where="age > 5"), contrast(where="age > 5"), inference(run(), where="age > 5")):
        assert "`where` holds for none of its 42 rows; nothing was published" in platform.refused(spec)


def test_contrast_sets_of_other_rows_have_other_versions(platform, decision_table):
    platform.imported(decision_table())
    changes = [{}, {"where": "age < 5"}, {"where": "age < 6"}, DROP, {"train_partitions": 1}]
    tokens, prints = [], []
    for change in changes:
        platform.built(contrast(**change), dataset(table="pairs", dataset="p", max_choices=2))
        tokens.append(platform.tables.pin("haven.pairs").token)
        prints.append(platform.manifest(dataset(table="pairs", dataset="p"))["fingerprint"])
    assert len(set(tokens)) == len(set(prints)) == 4
    assert (tokens[4], prints[4]) == (tokens[0], prints[0])  # the number of shards changes no row


def test_a_filter_that_does_not_fit_its_table_is_refused(platform, decision_table):
    platform.imported(decision_table())
    message = platform.refused(dataset(where="sizes = 1 and age = 'old'"))
    assert "table haven.features does not fit `where`" in message
    assert "there is no column 'sizes' (did you mean 'size'?)" in message
    assert "column 'age' is double, which cannot be compared as in `age = 'old'`" in message


# ---- invalid decisions


def broken(table: pa.Table) -> pa.Table:
    """Break decisions 0 to 2 of different individuals each by another rule, and let individual 5 leak."""
    rows = table.to_pylist()
    of = {(row["_individual"], row["_decision"]): [] for row in rows}
    for row in rows:
        of[row["_individual"], row["_decision"]].append(row)
    of[1, 1][0]["age"] = float("inf")
    of[2, 0][1]["_selected"] = of[2, 0][0]["_selected"] = True
    of[3, 2][1]["_choice"] = of[3, 2][0]["_choice"]
    of[4, 0][0]["_choice"] = None
    of[5, 1][0]["_train"] = False
    of[6, 0][0]["_train"] = None
    rows[-1]["_individual"] = None  # the third choice of decision (6, 2) belongs to nobody
    return pa.Table.from_pylist(rows, table.schema)


def decisions(table: pa.Table) -> set[tuple[int, int]]:
    return set(zip(table["_individual"].to_pylist(), table["_decision"].to_pylist(), strict=True))


# by a dataset, which asks most: (1, 1) is infinite, (2, 0) selects two, (3, 2) repeats a choice, (4, 0) lacks one, 5 leaks,
# (6, 0) has a null flag, and (6, 2) lost its selected row
LEFT = {(1, 0), (1, 2), (2, 1), (2, 2), (3, 0), (3, 1), (4, 1), (4, 2), (6, 1)}


def test_invalid_decisions_are_left_out_as_wholes_counted_and_shown_as_a_warning(platform, decision_table):
    source = broken(decision_table())
    platform.imported(source)
    assert "individuals in both train and test: 1 (individual 5)" in platform.refused(dataset())

    result = platform.build(dataset(**DROP))
    assert result.success
    facts = platform.manifest(dataset())
    whole = [row for row in source.to_pylist() if (row["_individual"], row["_decision"]) in LEFT]
    assert facts["counts"]["rows"] == len(whole)
    assert (facts["counts"]["decisions"], facts["counts"]["dropped_decisions"]) == (9, 10)
    rows = read_rows(platform.folder(dataset()), "train", ["size"])
    found = set(zip(rows.individual[rows.starts].tolist(), rows.decision[rows.starts].tolist(), strict=True))
    assert found == {key for key in LEFT if key[0] != 6}
    assert {(rule["rule"], rule["count"]) for rule in facts["contract"]["left_out"]} == {
        ("rows with a null _individual", 1),
        ("rows with a null _choice", 1),
        ("rows with a null _train", 1),
        ("rows whose feature 'age' is infinite (or too large for float32)", 1),
        ("decisions that offer a _choice twice", 1),
        ("decisions with no selected row", sum(1 for d in [(4, 0), (6, 2)] if lost_its_selected(source, d))),
        ("decisions with two or more selected rows", 1),
        ("individuals in both train and test", 1),
    }
    assert "left out: individuals in both train and test: 1 (individual 5)" in facts["notes"]
    check, *_ = [e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["dropped decisions"].value == 10
    assert "individuals in both train and test: 1 (individual 5)" in check.metadata["left out"].value
    assert check.metadata["broken rules"].value == "none"


def lost_its_selected(table: pa.Table, decision: tuple[int, int]) -> bool:
    """Whether no row with all ids is selected in a decision."""
    rows = [row for row in table.to_pylist() if (row["_individual"], row["_decision"]) == decision]
    return not any(row["_selected"] for row in rows if row["_choice"] is not None)


def test_decisions_are_left_out_of_both_splits_whose_numbers_of_shards_differ(platform, decision_table):
    """A part holds other individuals of one split than of the other; what is left out does not say of which split it is."""
    rows = decision_table(range(1, 13), test=range(7, 13)).to_pylist()
    for row in rows:
        row["_choice"] = None if (row["_decision"], row["_choice"]) == (1, 0) else row["_choice"]
    platform.imported(pa.Table.from_pylist(rows))
    spec = dataset(train_partitions=3, test_partitions=2, **DROP)
    platform.built(spec)
    counts = platform.manifest(spec)["counts"]
    assert (counts["decisions"], counts["dropped_decisions"]) == (24, 12)
    for split, individuals in (("train", range(1, 7)), ("test", range(7, 13))):
        found = read_rows(platform.folder(spec), split, ["size"])
        left = set(zip(found.individual.tolist(), found.decision.tolist(), strict=True))
        assert left == {(individual, decision) for individual in individuals for decision in (0, 2)}


def test_each_stage_leaves_out_what_breaks_its_own_rules(platform, decision_table):
    platform.imported(decision_table(), "haven.whole")
    platform.built(dataset(table="whole"), run())
    platform.imported(broken(decision_table()))
    everything = {(i, d) for i in range(1, 7) for d in range(3)}
    platform.built(inference(run(), **DROP), contrast(**DROP))
    assert decisions(platform.rows("haven.scored")) == everything - {(1, 1), (3, 2), (4, 0), (5, 1)}
    pairs = platform.rows("haven.pairs")
    assert {1, 2, 3, 4, 6} >= set(pairs["_individual"].to_pylist())
    drawn = set(zip(pairs["_individual"].to_pylist(), pairs["_old_decision"].to_pylist(), strict=True))
    assert drawn <= LEFT | {(1, 1)}
    assert platform.manifest(contrast())["counts"]["dropped_decisions"] == 9


def test_a_table_of_which_nothing_is_left_builds_nothing(platform, decision_table):
    table = decision_table()
    platform.imported(table.set_column(3, "_selected", pa.array([False] * len(table))))
    assert "the training split is empty" in platform.refused(dataset(**DROP))
    assert "none of its 0 decisions has a rejected choice" in platform.refused(contrast(**DROP))


def test_dropping_changes_nothing_in_a_table_that_keeps_the_contract(platform, decision_table):
    platform.imported(decision_table())
    platform.built(dataset(), dataset(dataset="e", **DROP))
    for split in ("train", "test"):
        assert records(platform, dataset(), split) == records(platform, dataset(dataset="e"), split)
    facts = platform.manifest(dataset(dataset="e"))
    assert (facts["counts"]["dropped_decisions"], facts["notes"], facts["contract"]["left_out"]) == (0, [], [])


def test_broken_text_ids_are_dropped_too(platform, decision_table):
    platform.imported(texts(broken(decision_table()).filter(pc.field("_choice") > -1), "_individual", "_decision"))
    platform.built(dataset(**DROP))
    rows = read_rows(platform.folder(dataset()), "train", ["size"])
    kept = {f"i '{i}' ü/{i}" for i, _ in LEFT if i != 6}
    assert set(rows.individual.tolist()) == set(surrogates(pa.array(sorted(kept))).tolist())
