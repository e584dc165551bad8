from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.configs import parse_spec
from mimic_core.contract import check_block
from mimic_core.datasets import (
    by_shard,
    ids_by_shard,
    require_fits,
    require_trainable,
    rules,
    schema_document,
    shard_path,
)
from mimic_core.errors import SpecError, TableError
from mimic_core.filters import parse_filter
from mimic_core.identifiers import join_id_tables, surrogates
from mimic_core.records import decode, encode, layout
from mimic_core.shards import Shard, plan_parts
from mimic_core.sources import KEYS
from mimic_core.specs import DatasetSpec

(WHOLE,) = plan_parts({"train": 1, "test": 1}, None)


def dataset(**changes):
    document = {
        "database": "haven",
        "table": "t",
        "max_choices": 3,
        "features": ["size", "age"],
        "space": "s",
        "dataset": "d",
    }
    return parse_spec(DatasetSpec, {**document, **changes})


def table(n=4, **changes):
    """Return n decisions of two choices; the individual of decision d is d // 2."""
    columns = {
        "_individual": np.repeat(np.arange(n) // 2, 2),
        "_decision": np.repeat(np.arange(n) % 2, 2),
        "_choice": np.tile([0, 1], n),
        "_selected": np.tile([True, False], n),
        "_train": np.ones(2 * n, bool),
        "size": np.arange(2.0 * n),
        "age": np.arange(2 * n) % 5,
    }
    return pa.table({**columns, **changes})


def records(source, spec, part=WHOLE, place=0):
    """Return the bytes of a shard of a table, of all its training decisions unless told."""
    held = dict(by_shard(check_block(source, rules(spec)), part))
    return b"".join(encode(held[place], spec.max_choices)) if place in held else b""


def test_a_block_is_checked_sorted_and_counted():
    block = check_block(table().take([7, 0, 3, 2, 6, 5, 4, 1]), rules(dataset()))
    assert block.rows.x[:, 0].tolist() == list(range(8))
    assert (block.individuals("train").to_pylist(), block.individuals("test").to_pylist()) == ([0, 1], [])
    assert (block.outcome.rows, block.outcome.decisions, block.outcome.largest_choice_set) == (8, 4, 2)
    assert block.outcome.violations == ()


def test_the_records_of_a_shard_hold_the_features_in_the_order_of_the_spec():
    spec = dataset(features=["age", "size"])
    x = decode(records(table(), spec), layout(3, 2), "a.tfrecord")["x"]
    assert x[3].tolist() == [[1.0, 6.0], [2.0, 7.0], [0.0, 0.0]]


def test_records_do_not_depend_on_the_order_of_rows():
    spec, mixed = dataset(), np.random.default_rng(0).permutation(8)
    assert records(table(), spec) == records(table().take(mixed), spec)


def test_a_missing_value_is_replaced_and_a_value_that_exists_is_not():
    source = table(size=pa.array([None, float("nan"), *range(6)], pa.float64()))
    spec = dataset(missing_values_map={"size": -1, "age": 99})
    x = decode(records(source, spec), layout(3, 2), "a.tfrecord")["x"]
    assert x[:2, :2, 0].ravel()[:3].tolist() == [-1.0, -1.0, 0.0]
    assert 99 not in x
    assert check_block(source, rules(spec)).outcome.violations == ()


def test_rows_and_decisions_that_break_a_rule_are_reported_together():
    source = table(size=pa.array([None, *range(7)]), _choice=[0, 0, None, 1, 0, 1, 0, 1], _selected=[False] * 8)
    found = [violation.rule for violation in check_block(source, rules(dataset())).outcome.violations]
    assert found == [
        "rows with a null _choice",
        "rows whose feature 'size' is null or NaN without an entry in missing_values_map",
        "decisions that offer a _choice twice",
        "decisions with no selected row",
    ]


def test_an_empty_shard_is_no_violation_and_no_bytes():
    block = check_block(table().slice(0, 0), rules(dataset()))
    assert block.outcome.violations == ()
    assert (block.outcome.rows, len(block.individuals("train"))) == (0, 0)
    assert list(by_shard(block, WHOLE)) == []
    assert list(encode(block.rows, 3)) == []
    assert [place for place, _ in by_shard(check_block(table(), rules(dataset())), WHOLE)] == [0]


def test_a_path_tells_the_split_the_shard_and_the_number_of_shards():
    assert shard_path(Shard(split="test", index=12, count=100)) == "test/00012-of-00100.tfrecord"
    assert shard_path(Shard(split="test", index=12, count=100), "GZIP") == "test/00012-of-00100.tfrecord.gz"


def test_a_schema_says_all_that_a_reader_needs():
    file = {"path": "train/00000-of-00001.tfrecord", "split": "train", "bytes": 0, "sha256": "", "decisions": 0, "rows": 0}
    schema = schema_document(dataset(missing_values_map={"age": -1}), [file], [])
    assert schema["dataset"] == "s/d"
    assert (schema["features"], schema["max_choices"], schema["missing_values_map"]) == (["size", "age"], 3, {"age": -1})
    assert schema["files"] == [file]
    assert (schema["framing"], schema["compression"]) == ("TFRecord, uncompressed, one tf.train.Example per decision", None)
    assert schema["fields"] == {
        "x": {"dtype": "float32", "shape": [3, 2]},
        "n_choices": {"dtype": "int64", "shape": []},
        "selected": {"dtype": "int64", "shape": []},
        "individual": {"dtype": "int64", "shape": []},
        "decision": {"dtype": "int64", "shape": []},
        "choices": {"dtype": "int64", "shape": [3]},
    }


def test_a_schema_says_that_its_files_are_compressed():
    schema = schema_document(dataset(compression="GZIP"), [], [])
    assert (schema["framing"], schema["compression"]) == ("TFRecord, GZIP, one tf.train.Example per decision", "GZIP")


def test_a_dataset_without_training_individuals_is_refused():
    require_trainable(1, 10, "haven.t")
    with pytest.raises(
        TableError, match=r"table haven\.t: the training split is empty: none of 1,234 rows has _train = true"
    ):
        require_trainable(0, 1234, "haven.t")


def test_an_experiment_with_less_max_choices_than_the_largest_decision_is_refused():
    require_fits(3, 3, "s/d")
    expected = "max_choices: 3 is less than the 4 choices of the largest decision in dataset s/d; give max_choices 4 or more"
    with pytest.raises(SpecError, match=expected):
        require_fits(3, 4, "s/d")


EXTREMES = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)]
IDS = st.one_of(st.integers(-2, 6), st.sampled_from(EXTREMES), st.integers(-(2**63), 2**63 - 1))
DECISIONS = st.dictionaries(st.tuples(IDS, IDS), st.lists(IDS, min_size=1, max_size=3, unique=True), min_size=1, max_size=12)
SIZES = [None, float("nan"), 0.5, -2.0, 3e38]


def rows_of_table(decisions, random):
    """Return (individual, decision, choice, selected, train, size, age) of {(individual, decision): choices}, mixed."""
    rows = [
        (i, d, c, c == choices[-1], i % 4 != 0, random.choice(SIZES), random.choice([0, 7, None]))
        for (i, d), choices in decisions.items()
        for c in choices
    ]
    return random.sample(rows, len(rows))


def plain_records(rows):
    """Return (individual, decision) -> choices, selected and values, as a person would read them off the rows."""
    found = {}
    for i, d, c, selected, _, size, age in sorted(rows, key=lambda row: row[:3]):
        choices, chosen, x = found.setdefault((i, d), ([], [], []))
        choices.append(c)
        chosen.append(selected)
        x.append([-9.0 if size is None or size != size else float(np.float32(size)), -1.0 if age is None else age])
    return found


def decoded(data):
    """Return records as `plain_records` does."""
    arrays = decode(data, layout(3, 2), "a.tfrecord")
    found = {}
    for i, d, n, selected, choices, x in zip(
        *(arrays[name] for name in ("individual", "decision", "n_choices", "selected", "choices", "x")), strict=True
    ):
        assert not choices[n:].any()
        assert not x[n:].any()
        found[int(i), int(d)] = choices[:n].tolist(), [k == selected for k in range(n)], x[:n].tolist()
    return found


def with_originals(records, originals):
    """Return records with the ids for which surrogates stand, and which of these were used."""
    individual, decision, choice = (originals[name] for name in KEYS)
    found = {
        (individual[i], decision[d]): ([choice[c] for c in choices], *values)
        for (i, d), (choices, *values) in records.items()
    }
    used = {(i, d, c) for (i, d), (choices, *_) in records.items() for c in choices}
    return found, {name: {ids[k]: originals[name][ids[k]] for ids in used} for k, name in enumerate(KEYS)}


def cut_anywhere(source, random):
    """Cut a table into tables of whole individuals, in the order of the individuals, at random places."""
    ids = surrogates(source["_individual"])
    different = np.unique(ids)
    cuts = sorted(random.sample(range(1, len(different)), random.randint(0, len(different) - 1)))
    return [
        source.filter(pa.array(np.isin(ids, different[start:end]))) for start, end in pairwise([0, *cuts, len(different)])
    ]


PARTITIONS = st.fixed_dictionaries({"train": st.integers(1, 4), "test": st.integers(1, 3)})


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts"])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(decisions=DECISIONS, random=st.randoms(use_true_random=False), partitions=PARTITIONS, filtered=st.booleans())
def test_the_records_of_all_shards_are_those_of_a_plain_reading(text, decisions, random, partitions, filtered):
    rows = rows_of_table(decisions, random)
    columns = dict(zip([*KEYS, "_selected", "_train", "size", "age"], zip(*rows, strict=True), strict=True))
    kinds = dict.fromkeys(KEYS, pa.int64()) | {"size": pa.float64(), "age": pa.int32()}
    source = pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})
    if text:
        for position, name in enumerate(KEYS):
            source = source.set_column(position, name, source[name].cast(pa.string()))
    # `where` leaves out whole individuals here, so it splits no decision
    region = [i % 2 == 0 or not filtered for i, *_ in rows]
    source = source.append_column("region", pa.array(["n" if kept else None for kept in region], pa.string()))
    rows = [row for row, kept in zip(rows, region, strict=True) if kept]
    spec = dataset(missing_values_map={"size": -9, "age": -1}, **({"where": "region = 'n'"} if filtered else {}))
    assert spec.conditions == (parse_filter("region = 'n'") if filtered else ())

    blocks, found = [check_block(part, rules(spec)) for part in cut_anywhere(source, random)], {}
    assert not any(block.outcome.violations for block in blocks)
    (whole,) = plan_parts(partitions, None, per_step=4)
    for place in range(len(whole.shards)):
        parts = [rows for block in blocks for at, rows in by_shard(block, whole) if at == place]
        records = decoded(b"".join(bytes(part) for rows in parts for part in encode(rows, 3)))
        assert list(records) == sorted(records)
        ids = join_id_tables([ids for block in blocks for at, ids in ids_by_shard(block, whole) if at == place])
        assert text or not len(ids)
        originals = {name: {} for name in KEYS}
        for row in ids.to_pylist():
            originals[row["column"]][row["surrogate"]] = int(row["id"])
        records, used = with_originals(records, originals) if text else (records, originals)
        assert originals == used
        assert not records.keys() & found.keys()
        found |= records
    expected = {key: sorted(zip(*record, strict=True)) for key, record in plain_records(rows).items()}
    assert {key: sorted(zip(*record, strict=True)) for key, record in found.items()} == expected


def test_the_records_of_a_shard_are_the_same_bytes_however_its_rows_are_cut_into_blocks():
    spec, random = dataset(), np.random.default_rng(0)
    (halves,) = plan_parts({"train": 2, "test": 1}, None, per_step=2)
    whole = records(table(12), spec, halves, 1)
    assert whole
    for _ in range(5):
        cuts = np.sort(random.choice(np.arange(1, 6), random.integers(0, 5), replace=False)) * 4
        parts = [table(12).slice(start, end - start) for start, end in pairwise([0, *cuts.tolist(), 24])]
        assert b"".join(records(part, spec, halves, 1) for part in parts) == whole
    assert len(whole) > 0
