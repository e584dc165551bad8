import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.errors import TableError
from mimic_core.sources import (
    Shard,
    check_schema,
    columns_to_read,
    decision_starts,
    feature_values,
    hash64,
    select_shard,
    shard_index,
    shards,
    sort_rows,
    standard_columns,
)

EXTREMES = [0, -1, 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
IDS = st.one_of(st.sampled_from(EXTREMES), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


def table(individual, decision=None, choice=None, **columns):
    """Return a table of these rows; by default each is a decision of its own, selected, for training."""
    n = len(individual)
    return pa.table(
        {
            "_individual": pa.array(individual, pa.int64()),
            "_decision": pa.array(range(n) if decision is None else decision, pa.int64()),
            "_choice": pa.array(range(n) if choice is None else choice, pa.int64()),
            "_selected": pa.array(columns.pop("selected", [True] * n), pa.bool_()),
            "_train": pa.array(columns.pop("train", [True] * n), pa.bool_()),
            "size": pa.array(columns.pop("size", np.arange(n, dtype=float)), pa.float64()),
            **columns,
        }
    )


def sharded(source, partitions, batch_rows=3):
    """Select every shard from a stream of small batches."""
    return {s: select_shard(source.to_batches(max_chunksize=batch_rows), source.schema, s) for s in shards(partitions)}


def test_shards_are_listed_train_first_with_their_place():
    assert shards({"train": 2, "test": 1}) == [
        Shard(split="train", index=0, count=2),
        Shard(split="train", index=1, count=2),
        Shard(split="test", index=0, count=1),
    ]


def test_the_hash_is_that_of_splitmix64():
    # the first outputs of splitmix64 with state 0, from its reference implementation in C
    gamma = 0x9E3779B97F4A7C15
    states = np.array([0, gamma, 2 * gamma % 2**64], np.uint64).view(np.int64)
    assert [int(h) for h in hash64(states)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_hash_depends_on_its_seed():
    ids = np.arange(100)
    assert not (hash64(ids, 0) == hash64(ids, 1)).any()


def test_shards_get_about_equal_numbers_of_individuals():
    for ids in (np.arange(10_000), np.arange(10_000) * 1024 - 7):
        counts = np.bincount(shard_index(ids, 10), minlength=10)
        assert counts.sum() == 10_000
        assert (abs(counts - 1000) < 150).all()


def test_a_shard_index_does_not_depend_on_the_other_rows():
    ids = np.array(EXTREMES)
    assert [int(shard_index(ids[i : i + 1], 7)[0]) for i in range(len(ids))] == shard_index(ids, 7).tolist()


@settings(deadline=None, derandomize=True, max_examples=150)
@given(rows=st.lists(st.tuples(IDS, st.booleans()), max_size=30), train=st.integers(1, 5), test=st.integers(1, 4))
def test_the_union_of_all_shards_is_the_table_exactly_once(rows, train, test):
    source = table([i for i, _ in rows], train=[t for _, t in rows])
    parts = sharded(source, {"train": train, "test": test})
    united = sorted(row["_decision"] for part in parts.values() for row in part.to_pylist())
    assert united == list(range(len(rows)))
    for shard, part in parts.items():
        assert all(row["_train"] == (shard.split == "train") for row in part.to_pylist())
        assert all(source.slice(row["_decision"], 1).to_pylist() == [row] for row in part.to_pylist())


@settings(deadline=None, derandomize=True, max_examples=60)
@given(individual=st.lists(IDS, min_size=1, max_size=20), order=st.randoms(use_true_random=False), count=st.integers(1, 5))
def test_a_shard_holds_whole_individuals_in_any_row_order(individual, order, count):
    source = table(individual)
    mixed = source.take(order.sample(range(len(individual)), len(individual)))
    partitions = {"train": count, "test": 1}
    first = {s: set(part["_individual"].to_pylist()) for s, part in sharded(source, partitions).items()}
    second = {s: set(part["_individual"].to_pylist()) for s, part in sharded(mixed, partitions).items()}
    assert first == second
    assert sum(map(len, first.values())) == len(set(individual))


def test_a_null_individual_or_flag_falls_to_exactly_one_shard():
    source = table([None, 1, None, 2], train=[True, None, None, False])
    parts = sharded(source, {"train": 3, "test": 2})
    assert sorted(d for part in parts.values() for d in part["_decision"].to_pylist()) == [0, 1, 2, 3]


def test_without_a_train_column_every_row_is_a_test_row():
    source = table([3, 1, 2]).drop_columns("_train")
    parts = sharded(source, {"train": 2, "test": 2})
    assert sum(len(part) for shard, part in parts.items() if shard.split == "train") == 0
    assert sum(len(part) for shard, part in parts.items() if shard.split == "test") == 3


def test_a_shard_of_no_rows_is_an_empty_table_with_all_columns():
    part = sharded(table([]), {"train": 1, "test": 1})[Shard(split="train", index=0, count=1)]
    assert len(part) == 0
    assert part.schema == table([]).schema
    assert sort_rows(part, ["size"], {}).decisions == 0


def test_rows_are_sorted_by_individual_decision_and_choice():
    source = table([2, 1, 1, 1], [0, 7, 5, 5], [0, 0, 3, -3], selected=[True, True, False, True], size=[1, 2, 3, 4])
    rows = sort_rows(source, ["size"], {})
    assert rows.individual.tolist() == [1, 1, 1, 2]
    assert rows.decision.tolist() == [5, 5, 7, 0]
    assert rows.choice.tolist() == [-3, 3, 0, 0]
    assert rows.selected.tolist() == [True, False, True, True]
    assert rows.x.tolist() == [[4.0], [3.0], [2.0], [1.0]]
    assert rows.starts.tolist() == [0, 2, 3]
    assert rows.counts.tolist() == [2, 1, 1]
    assert (len(rows), rows.decisions, rows.individuals.tolist()) == (4, 3, [1, 2])


def test_a_decision_id_that_repeats_across_individuals_is_another_decision():
    assert sort_rows(table([1, 2, 1, 2], [0, 0, 0, 0], [0, 0, 1, 1]), ["size"], {}).starts.tolist() == [0, 2]


def test_ids_beyond_two_to_the_53_stay_apart():
    rows = sort_rows(table([2**53 + 1, 2**53], [0, 0], [-(2**63), 2**63 - 1]), ["size"], {})
    assert rows.individual.tolist() == [2**53, 2**53 + 1]
    assert rows.choice.tolist() == [2**63 - 1, -(2**63)]
    assert rows.decisions == 2


def test_rows_do_not_depend_on_the_order_of_the_table():
    source = table(np.repeat(np.arange(5), 4) - 2, np.tile([0, 0, 1, 1], 5), np.tile([0, 1], 10))
    expected = sort_rows(source, ["size"], {})
    rows = sort_rows(source.take(np.random.default_rng(0).permutation(20)), ["size"], {})
    for name in ("individual", "decision", "choice", "selected", "x", "starts"):
        assert np.array_equal(getattr(rows, name), getattr(expected, name))


def test_null_and_nan_become_the_value_of_the_map():
    source = table([0, 1, 2], size=[None, float("nan"), 5.0])
    assert sort_rows(source, ["size"], {"size": -1}).x.tolist() == [[-1.0], [-1.0], [5.0]]
    assert np.isnan(sort_rows(source, ["size"], {}).x).tolist() == [[True], [True], [False]]


def test_features_are_columns_in_the_order_asked():
    source = table([0, 1], age=pa.array([7, 8]))
    assert sort_rows(source, ["age", "size"], {}).x.tolist() == [[7.0, 0.0], [8.0, 1.0]]


def test_without_a_selected_column_nothing_is_selected():
    assert not sort_rows(table([1]).drop_columns("_selected"), ["size"], {}).selected.any()


def test_decisions_start_where_individual_or_decision_changes():
    assert decision_starts(np.array([1, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1])).tolist() == [0, 2, 3]
    assert decision_starts(np.array([], np.int64), np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_(), pa.decimal128(5, 2)])
def test_numbers_of_any_type_become_float32(kind):
    values = [decimal.Decimal(1), None] if pa.types.is_decimal(kind) else [np.float16(1), None]
    column = pa.table({"size": pa.array(values if kind != pa.bool_() else [True, None], kind)})
    found = feature_values(column, "size", None)
    assert found.dtype == np.float32
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_number_beyond_float32_becomes_infinite():
    column = pa.table({"size": [1e39, -1e39, 3e38]})
    assert feature_values(column, "size", None).tolist() == [np.inf, -np.inf, np.float32(3e38)]


def test_a_schema_that_fits_is_accepted():
    check_schema(table([]).schema, ["size"], table="haven.t")


def test_every_problem_of_a_schema_is_named_at_once():
    kinds = {"_individual": pa.int32(), "_choise": pa.int64(), "_choice": pa.bool_(), "_train": pa.int8()}
    schema = pa.schema(kinds | {"size": pa.string(), "agee": pa.float32()})
    with pytest.raises(TableError) as caught:
        check_schema(schema, ["size", "age"], table="haven.t")
    assert str(caught.value) == (
        "table haven.t is not a decision table with these features:\n"
        "  column '_decision' is missing\n"
        "  column '_selected' is missing\n"
        "  column 'age' is missing (did you mean 'agee'?)\n"
        "  column '_individual' is int32, expected int64 or string\n"
        "  column '_choice' is bool, expected int64 or string\n"
        "  column '_train' is int8, expected bool\n"
        "  feature 'size' is string, expected numbers\n"
        "  its columns are _individual, _choise, _choice, _train, size, agee; mend the table or the config"
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.timestamp("us"), pa.date32(), pa.list_(pa.float32()), pa.binary()])
def test_a_feature_that_is_no_number_is_refused(kind):
    schema = table([]).schema.append(pa.field("age", kind))
    with pytest.raises(TableError, match=r"feature 'age' is .*, expected numbers"):
        check_schema(schema, ["size", "age"], table="haven.t")


def test_flags_may_be_absent_where_they_are_not_required_but_not_of_another_type():
    keys = ("_individual", "_decision", "_choice")
    schema = table([]).drop_columns(["_selected", "_train"]).schema
    check_schema(schema, ["size"], table="haven.t", required=keys)
    with pytest.raises(TableError, match="column '_selected' is int64, expected bool"):
        check_schema(schema.append(pa.field("_selected", pa.int64())), ["size"], table="haven.t", required=keys)


def test_a_build_reads_keys_flags_and_features_and_nothing_else():
    schema = table([], age=pa.array([], pa.int64()), unused=pa.array([], pa.string())).schema
    assert columns_to_read(schema, ["age"]).names == ["_individual", "_decision", "_choice", "_selected", "_train", "age"]
    assert columns_to_read(schema.remove(4), ["age"]).names == ["_individual", "_decision", "_choice", "_selected", "age"]


def test_an_imported_table_gets_int64_ids_bool_flags_and_plain_strings():
    imported = pa.table(
        {
            "_individual": pa.array([1, 2], pa.int8()),
            "_decision": pa.array([1, 2], pa.uint64()),
            "_selected": pa.array([0, 1], pa.int64()),
            "_train": pa.array([1, None], pa.uint8()),
            "_alternative": pa.array(["a", "b"]).dictionary_encode(),
            "name": pa.array(["a", "b"], pa.large_string()),
            "size": pa.array([1, 2], pa.int16()),
        }
    )
    standard = standard_columns(imported)
    assert standard.schema.types == [pa.int64(), pa.int64(), pa.bool_(), pa.bool_(), pa.string(), pa.string(), pa.int16()]
    assert standard["_selected"].to_pylist() == [False, True]
    assert standard["_train"].to_pylist() == [True, None]
    assert standard["_alternative"].to_pylist() == ["a", "b"]


def test_a_flag_with_another_number_than_0_and_1_is_refused():
    with pytest.raises(TableError, match=r"column '_selected' holds other numbers than 0 and 1 in 1 rows \(2\)"):
        standard_columns(pa.table({"_selected": [0, 1, 2]}))


def test_an_id_beyond_int64_is_refused():
    with pytest.raises(TableError, match=r"column '_choice' \(uint64\) does not fit int64: .*18446744073709551615"):
        standard_columns(pa.table({"_choice": pa.array([2**64 - 1], pa.uint64())}))


@pytest.mark.parametrize("values", [[None], [True], [b"a"], [[1]]])
def test_ids_that_are_neither_whole_numbers_nor_text_are_refused(values):
    with pytest.raises(TableError, match=r"column '_individual' is .*, expected whole numbers or text as ids"):
        standard_columns(pa.table({"_individual": values}))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_ids_of_text_stay_text_and_an_empty_one_is_missing(kind):
    column = standard_columns(pa.table({"_decision": pa.array(["007", "", None]).cast(kind)}))["_decision"]
    assert column.type == pa.string()
    assert column.to_pylist() == ["007", None, None]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.float64(), [2.0**53 - 1, -0.0, float("nan"), None]),
        (pa.float32(), [2.0**24 - 1, 0.0, None, float("nan")]),
        (pa.decimal128(18, 0), [decimal.Decimal(10**17), decimal.Decimal(0), None, None]),
        (pa.decimal128(20, 2), [decimal.Decimal("7.00"), decimal.Decimal("0.00"), None, None]),
        (pa.decimal32(5, 2), [decimal.Decimal("7.00"), decimal.Decimal("0.00"), None, None]),
    ],
)
def test_whole_floats_and_decimals_are_ids(kind, values):
    column = standard_columns(pa.table({"_choice": pa.array(values, kind)}))["_choice"]
    assert column.type == pa.int64()
    assert column.to_pylist() == [int(values[0]), 0, None, None]


@pytest.mark.parametrize(
    ("kind", "value", "digits"), [(pa.float64(), 1.5, 53), (pa.float64(), 2.0**53, 53), (pa.float32(), 2.0**24, 24)]
)
def test_floats_that_are_no_exact_ids_are_refused_with_examples(kind, value, digits):
    message = rf"column '_choice' \(\w+\) holds other numbers than ids in 1 rows \({value}\); .* below 2\^{digits}"
    with pytest.raises(TableError, match=message):
        standard_columns(pa.table({"_choice": pa.array([1, value, None], kind)}))


def test_a_decimal_id_with_a_fraction_is_refused():
    with pytest.raises(TableError, match=r"column '_choice' .* does not fit int64"):
        standard_columns(pa.table({"_choice": [decimal.Decimal("7.50")]}))


def test_flags_may_be_text_or_decimals():
    words = ["True", "FALSE", " t", "f", "1", "0", "", None]
    expected = [True, False, True, False, True, False, None, None]
    assert standard_columns(pa.table({"_train": words}))["_train"].to_pylist() == expected
    assert standard_columns(pa.table({"_train": pa.array([1, 0], pa.decimal128(1, 0))}))["_train"].to_pylist() == [
        True,
        False,
    ]


def test_a_flag_of_another_text_is_refused_with_examples():
    with pytest.raises(TableError, match=r"column '_train' holds other texts than true, false, t, f, 1 and 0 in 2 rows"):
        standard_columns(pa.table({"_train": ["true", "yes", "no"]}))


def test_flags_with_missing_values_keep_them():
    """pandas writes a flag with a gap as 1.0, 0.0 and NaN, and one of gaps only without a type."""
    columns = pa.table({"_train": [1.0, 0.0, float("nan"), None], "_selected": pa.nulls(4)})
    expected = {"_train": [True, False, None, None], "_selected": [None] * 4}
    assert standard_columns(columns).to_pydict() == expected


@pytest.mark.parametrize("values", [[b"1"], [[1]]])
def test_a_flag_that_is_neither_true_nor_a_whole_number_is_refused(values):
    with pytest.raises(TableError, match=r"column '_train' is .*, expected true and false, or 1 and 0"):
        standard_columns(pa.table({"_train": values}))


def test_dictionary_encoded_ids_and_flags_are_decoded():
    table = pa.table({"_individual": pa.array([1, 2]).dictionary_encode(), "_train": pa.array([1, 0]).dictionary_encode()})
    assert standard_columns(table).to_pydict() == {"_individual": [1, 2], "_train": [True, False]}
