import numpy as np
import pyarrow as pa
import pytest

from mimic_core.configs import parse_spec
from mimic_core.contract import check_block
from mimic_core.datasets import (
    require_fits,
    require_trainable,
    rows_of,
    rules,
    schema_document,
    shard_path,
)
from mimic_core.errors import SpecError, TableError
from mimic_core.records import decode, encode, layout
from mimic_core.shards import Shard
from mimic_core.specs import DatasetSpec

TRAIN = Shard(split="train", index=0, count=1)


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


def records(source, spec, shard=TRAIN):
    """Return the bytes of a shard of a table."""
    return b"".join(encode(rows_of(check_block(source, rules(spec)), shard), spec.max_choices))


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
    assert list(encode(rows_of(block, TRAIN), 3)) == []
    rows = rows_of(check_block(table(), rules(dataset())), Shard(split="test", index=0, count=1))
    assert (len(rows), rows.decisions, rows.x.shape) == (0, 0, (0, 2))
    assert list(encode(rows, 3)) == []


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
