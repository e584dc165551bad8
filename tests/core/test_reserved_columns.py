"""`_weight`, `_alternative` and `_sampling_log_probability`: what the contract asks, and the way into records and back."""

import gzip
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block, check_decisions
from mimic_core.datasets import (
    by_shard,
    join_labels,
    labels,
    listed_labels,
    rules,
    schema_document,
    shard_path,
    within_max_choices,
)
from mimic_core.effects import summarise
from mimic_core.errors import TableError
from mimic_core.evaluation import combine
from mimic_core.filters import parse_filter
from mimic_core.identifiers import surrogates
from mimic_core.inferences import explain_rows, inference_rows, measure_selected
from mimic_core.manifests import file_entry, seal
from mimic_core.records import decode, encode, layout
from mimic_core.rows import join_rows, slice_decisions, take_decisions
from mimic_core.shards import plan_parts
from mimic_core.sources import check_schema, columns_to_read, standard_columns
from mimic_core.specs import DatasetSpec
from mimic_core.splits import alternative_labels, read_dataset, read_rows, read_schema, read_stream

RESERVED = ("_weight", "_alternative", "_sampling_log_probability")


def table(individuals=6, **changes):
    """Return two decisions of two choices for each individual; a changed column is given, one given as None is left out."""
    n, random = individuals * 4, np.random.default_rng(0)
    columns = {
        "_individual": np.arange(n) // 4,
        "_decision": np.arange(n) // 2 % 2,
        "_choice": np.arange(n) % 2,
        "_selected": np.arange(n) % 2 == np.arange(n) // 2 % 2,
        "_train": np.arange(n) // 4 % 3 != 0,
        "_weight": 1.0 + np.arange(n) // 2 % 5,
        "_alternative": ["car" if i % 2 else "train" for i in range(n)],
        "_sampling_log_probability": -random.random(n),
        "size": random.normal(size=n),
    }
    return pa.table({name: values for name, values in (columns | changes).items() if values is not None})


def broken(**changes):
    return [
        str(found) for found in check_decisions(table(**changes).to_batches(), Rules(features=("size",))).outcome.violations
    ]


def with_value(name, place, value):
    values = table()[name].to_pylist()
    values[place] = value
    return {name: pa.array(values, table().schema.field(name).type)}


def test_a_table_with_all_of_them_keeps_the_contract():
    assert broken() == []


@pytest.mark.parametrize("value", [None, -0.5, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_named(value):
    found = broken(**with_value("_weight", 0, value))
    assert "rows whose _weight is null, negative or not finite: 1 (individual 0 decision 0)" in found


def test_a_weight_is_one_of_the_whole_decision_and_may_be_0():
    assert broken(**with_value("_weight", 2, 9.0)) == ["decisions with more than one _weight: 1 (individual 0 decision 1)"]
    assert broken(_weight=np.zeros(24)) == []


def test_an_alternative_and_a_log_probability_are_never_null():
    assert broken(**with_value("_alternative", 3, None)) == ["rows with a null _alternative: 1 (individual 0 decision 1)"]
    for value in (None, float("-inf")):
        assert broken(**with_value("_sampling_log_probability", 4, value)) == [
            "rows whose _sampling_log_probability is null or not finite: 1 (individual 1 decision 0)"
        ]


def test_what_is_unknown_of_rows_to_score_is_no_fault_and_counts_nothing():
    future, unknown = Rules(features=("size",), labelled=False), [None] * 2 + [float("nan")] * 2 + [2.0] * 20
    source = table(_weight=pa.array(unknown), **with_value("_sampling_log_probability", 4, None))
    block = check_block(source, future)
    assert block.outcome.violations == ()
    assert block.rows.weight.tolist() == [0.0] * 2 + [2.0] * 10
    utility = np.linspace(-1, 1, len(block.rows))
    (part,) = plan_parts({"train": 1, "test": 1}, None, per_step=1)
    assert inference_rows(block, utility, part, experiment_name="e", run_id="r")["probability"].null_count == 0
    found = combine([measure_selected(block, utility, split) for split in ("train", "test")])
    known = check_block(source.slice(4), future)
    assert found.nll == combine([measure_selected(known, utility[4:], split) for split in ("train", "test")]).nll
    slope = np.ones((len(block.rows), 1))
    scored, expected = (
        explain_rows(
            inference_rows(one, values, part, experiment_name="e", run_id="r"), one, slopes, ["size"], ["size"], run_id="r"
        )
        for one, values, slopes in ((block, utility, slope), (known, utility[4:], slope[4:]))
    )
    for one, other in zip(summarise(scored[1], ["size"]), summarise(expected[1], ["size"]), strict=True):
        assert one.elasticity_mean == pytest.approx(other.elasticity_mean, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "values", "rule"),
    [
        ("_weight", [-1.0, -1.0], "rows whose _weight is negative or infinite: 2"),
        ("_weight", [float("inf")] * 2, "rows whose _weight is negative or infinite: 2"),
        ("_weight", [1.0, None], "decisions with more than one _weight: 1"),
        ("_weight", [None, 0.0], "decisions with more than one _weight: 1"),
        ("_sampling_log_probability", [None, float("-inf")], "rows whose _sampling_log_probability is infinite: 1"),
        ("_alternative", [None, "car"], "rows with a null _alternative: 1"),
    ],
)
def test_what_is_wrong_of_rows_to_score_stays_wrong(name, values, rule):
    source = table(**{name: pa.array(values + table()[name].to_pylist()[2:])})
    found = check_decisions(source.to_batches(), Rules(features=("size",), labelled=False)).outcome.violations
    assert [f"{one.rule}: {one.count}" for one in found] == [rule]


def test_rows_that_a_filter_leaves_out_may_hold_anything():
    conditions = parse_filter("region = 'n'")
    region = ["n"] * 20 + ["s"] * 4
    source = table(region=region, **with_value("_weight", 21, -1.0))
    assert check_decisions(source.to_batches(), Rules(where=conditions)).outcome.violations == ()


def test_columns_of_a_wrong_type_are_named_before_anything_is_read():
    schema = table(_weight=["much"] * 24, _alternative=np.arange(24) / 2, _sampling_log_probability=["x"] * 24).schema
    with pytest.raises(TableError) as caught:
        check_schema(schema, ["size"], table="haven.t")
    for name, kind in (("_weight", "string"), ("_sampling_log_probability", "string")):
        assert f"column {name!r} is {kind}, expected numbers" in str(caught.value)
    assert "column '_alternative' is double, expected int64 or string" in str(caught.value)


def test_they_are_read_wherever_a_table_has_them_and_are_no_features():
    assert set(RESERVED) < set(columns_to_read(table().schema, ["size"]).names)
    assert not set(RESERVED) & set(columns_to_read(table(**dict.fromkeys(RESERVED)).schema, ["size"]).names)


def test_an_import_turns_labels_into_plain_text_or_whole_numbers():
    words = pa.array(["car", "train"] * 12).dictionary_encode()
    kinds = [
        standard_columns(table(_alternative=labels)).schema.field("_alternative").type
        for labels in (words, pa.array(["car"] * 24, pa.large_string()), pa.array([1] * 24, pa.int8()))
    ]
    assert kinds == [pa.string(), pa.string(), pa.int64()]


def test_flat_rows_carry_them_through_sorting_choosing_and_joining():
    source = table()
    mixed = check_block(source.take(np.random.default_rng(1).permutation(len(source))), Rules(features=("size",))).rows
    rows = check_block(source, Rules(features=("size",))).rows
    for one, other in zip(vars(mixed).values(), vars(rows).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert rows.optional == RESERVED
    assert rows.weight.tolist() == [1.0 + i % 5 for i in range(12)]
    assert rows.alternative.tolist() == surrogates(source["_alternative"]).tolist()
    assert rows.offset.tolist() == pytest.approx(source["_sampling_log_probability"].to_pylist())
    chosen = take_decisions(rows, np.array([3, 1]))
    assert chosen.weight.tolist() == [4.0, 2.0]
    assert chosen.offset.tolist() == rows.offset[[6, 7, 2, 3]].tolist()
    again = join_rows(slice_decisions(rows, 0, 5), slice_decisions(rows, 5, 12))
    for one, other in zip(vars(again).values(), vars(rows).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def dataset(folder: Path, source: pa.Table, **changes):
    """Write a dataset of two training shards and one test shard; returns the checked block."""
    document = {"database": "haven", "table": "t", "space": "s", "dataset": "d", "train_partitions": 2, "max_choices": 3}
    spec, files = parse_spec(DatasetSpec, document | {"features": ["size"]} | changes), []
    block = check_block(source, rules(spec))
    (part,) = plan_parts(spec.partitions, None, per_step=max(spec.partitions.values()))
    held = dict(by_shard(block, part))
    for place, shard in enumerate(part.shards):
        data = b"".join(encode(held[place], spec.max_choices)) if place in held else b""
        data = gzip.compress(data) if spec.compression else data
        path = folder / shard_path(shard, spec.compression)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        decisions = held[place].decisions if place in held else 0
        files.append(file_entry(data, path=shard_path(shard, spec.compression), split=shard.split, decisions=decisions))
    optional = [name for name in RESERVED if name in source.column_names]
    alternatives = listed_labels(labels(block))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [], optional, alternatives)))
    return block


@pytest.mark.parametrize("left_out", [(), RESERVED[:1], RESERVED[1:], RESERVED])
def test_records_hold_what_the_table_has_and_come_back(tmp_path, left_out):
    block = dataset(tmp_path, table(**dict.fromkeys(left_out)))
    rows = read_rows(tmp_path, "train")
    assert rows.optional == tuple(name for name in RESERVED if name not in left_out)
    expected = take_decisions(block.rows, np.flatnonzero(block.train[block.rows.starts]))
    for one, other in zip(vars(rows).values(), vars(expected).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_records_without_them_are_the_bytes_that_they_always_were():
    rows = check_block(table(**dict.fromkeys(RESERVED)), Rules(features=("size",))).rows
    assert list(layout(3, 1).fields) == ["x", "n_choices", "selected", "individual", "decision", "choices"]
    arrays = decode(b"".join(encode(rows, 3)), layout(3, 1), "a.tfrecord")
    assert "weight" not in arrays


def test_tensorflow_reads_them_as_fields_of_the_example(tmp_path):
    import tensorflow as tf

    block = dataset(tmp_path, table())
    path = next((tmp_path / "test").iterdir())
    example = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset([str(path)]))).numpy()).features.feature
    assert list(example["weight"].float_list.value) == [block.rows.weight[0]]
    assert list(example["alternatives"].int64_list.value) == [*block.rows.alternative[:2], 0]
    assert list(example["sampling_log_probability"].float_list.value) == [*block.rows.offset[:2], 0.0]
    (batch,) = read_dataset(tmp_path, "test")
    assert batch["weight"].shape == (4,)
    assert batch["sampling_log_probability"].shape == batch["alternatives"].shape == (4, 3)


@pytest.mark.parametrize(("text", "numbers"), [(["car", "train"], None), (None, [7, 9])])
def test_the_schema_tells_what_each_alternative_is_called(tmp_path, text, numbers):
    values = np.array(text or numbers)[np.arange(24) % 2]
    block = dataset(tmp_path, table(_alternative=values))
    known = alternative_labels(read_schema(tmp_path))
    called = [known[code] for code in block.rows.alternative.tolist()]
    assert called == [str(value) for value in values]


def test_labels_of_parts_are_joined_and_too_many_are_refused(monkeypatch):
    parts = [labels(check_block(table(_alternative=[name] * 24), Rules())) for name in ("b", "a", "b")]
    assert [entry["label"] for entry in listed_labels(join_labels(parts, "haven.t"))] == ["a", "b"]
    monkeypatch.setattr("mimic_core.datasets.MOST_ALTERNATIVES", 1)
    with pytest.raises(
        TableError, match=r"table haven\.t: '_alternative' has 2 different labels, expected at most 1: it says"
    ):
        join_labels(parts, "haven.t")


def test_labels_of_rows_that_are_left_out_are_none_of_the_dataset():
    region, names = ["n"] * 20 + ["s"] * 4, [f"{'n' if i < 20 else 's'}{i % 2}" for i in range(24)]
    block = check_block(table(_alternative=names, region=region), Rules(where=parse_filter("region = 'n'")))
    assert sorted(labels(block)["id"].to_pylist()) == ["n0", "n1"]
    document = {"database": "haven", "table": "t", "space": "s", "dataset": "d", "max_choices": 2, "overflow": "sample"}
    spec = parse_spec(DatasetSpec, document | {"features": ["size"]})
    keys = {"_individual": [1] * 4, "_decision": [1] * 4, "_choice": range(4), "_selected": [False] * 3 + [True]}
    wide = pa.table(keys | {"_train": [True] * 4, "_alternative": list("abcd"), "size": [0.0] * 4})
    sampled = within_max_choices(check_block(wide, rules(spec)), spec)
    assert len(sampled.rows) == len(labels(sampled)) == 2
    assert "d" in labels(sampled)["id"].to_pylist()


@pytest.mark.parametrize("block_bytes", [1, 300, 10**6])
def test_a_split_that_is_read_anew_for_every_pass_gives_whole_individuals(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("mimic_core.splits.BLOCK_BYTES", block_bytes)
    dataset(tmp_path, table(40))
    stream, rows = read_stream(tmp_path, "train", most_bytes=0), read_rows(tmp_path, "train")
    assert (stream.rows, stream.decisions) == (None, rows.decisions)
    for _ in range(2):
        blocks = list(stream)
        seen = [individual for block in blocks for individual in block.individuals.tolist()]
        assert sorted(seen) == rows.individuals.tolist()
        assert sum(block.weight.sum() for block in blocks) == rows.weight.sum()
        assert sum(block.x.sum(dtype=float) for block in blocks) == pytest.approx(rows.x.sum(dtype=float))
    assert len(blocks) > 1
    assert read_stream(tmp_path, "train").rows is not None
    assert next(iter(read_stream(tmp_path, "test", most_bytes=0))).optional == RESERVED


@pytest.mark.parametrize("most_bytes", [0, float("inf")])
def test_a_stream_of_text_ids_from_compressed_files_of_which_one_is_empty_has_the_rows_of_the_split(
    tmp_path, monkeypatch, most_bytes
):
    monkeypatch.setattr("mimic_core.splits.BLOCK_BYTES", 300)
    names = pa.array([f"person {i // 4}" for i in range(40)])
    source = table(10, _individual=names)
    dataset(tmp_path, source, train_partitions=6, compression="GZIP")
    decisions = [file["decisions"] for file in read_schema(tmp_path)["files"] if file["split"] == "train"]
    assert (decisions.count(0) > 0, max(decisions) > 2) == (True, True)
    expected = read_rows(tmp_path, "train")
    assert set(expected.individuals) == set(surrogates(pc.unique(names.filter(source["_train"].combine_chunks()))))
    stream = read_stream(tmp_path, "train", most_bytes=most_bytes)
    assert (stream.rows is None) == (most_bytes == 0)
    for _ in range(2):
        found = reduce(join_rows, stream)
        ordered = take_decisions(found, np.lexsort((found.decision[found.starts], found.individual[found.starts])))
        for one, other in zip(vars(ordered).values(), vars(expected).values(), strict=True):
            np.testing.assert_array_equal(one, other)
