"""Rows: sorted, numbered and filled as a plain reading of the table gives them, value by value."""

import decimal
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.contract import Rules, check_block
from mimic_core.rows import decision_starts, feature_matrix, hash64, sort_keys, take_decisions

EXTREMES = [0, -1, 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
IDS = st.one_of(st.sampled_from(EXTREMES), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
NAMES = ("individual", "decision", "choice", "selected", "x", "starts")


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


def flat(source, features=("size",), **missing):
    """Return a table as flat rows, whatever its flags."""
    return check_block(source, Rules(features=tuple(features), missing_values_map=missing, labelled=False)).rows


def column(name, values, replacement=None):
    """Return the values of one column as they are computed with."""
    missing = {} if replacement is None else {name: replacement}
    return feature_matrix(pa.table({name: values}), [name], missing)[:, 0]


def same(found, expected):
    """Tell whether rows are equal in every array, and in its type."""
    pairs = [(getattr(found, name), getattr(expected, name)) for name in NAMES]
    return all(
        one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f") for one, other in pairs
    )


def test_the_hash_is_that_of_splitmix64():
    # the first outputs of splitmix64 with state 0, from its reference implementation in C
    gamma = 0x9E3779B97F4A7C15
    states = np.array([0, gamma, 2 * gamma % 2**64], np.uint64).view(np.int64)
    assert [int(h) for h in hash64(states)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_hash_depends_on_its_seed():
    ids = np.arange(100)
    assert not (hash64(ids, 0) == hash64(ids, 1)).any()


def test_rows_are_sorted_by_individual_decision_and_choice():
    rows = flat(table([2, 1, 1, 1], [0, 7, 5, 5], [0, 0, 3, -3], selected=[True, True, False, True], size=[1, 2, 3, 4]))
    assert rows.individual.tolist() == [1, 1, 1, 2]
    assert rows.decision.tolist() == [5, 5, 7, 0]
    assert rows.choice.tolist() == [-3, 3, 0, 0]
    assert rows.selected.tolist() == [True, False, True, True]
    assert rows.x.tolist() == [[4.0], [3.0], [2.0], [1.0]]
    assert rows.starts.tolist() == [0, 2, 3]
    assert rows.counts.tolist() == [2, 1, 1]
    assert (len(rows), rows.decisions, rows.individuals.tolist()) == (4, 3, [1, 2])


def test_a_decision_id_that_repeats_across_individuals_is_another_decision():
    assert flat(table([1, 2, 1, 2], [0, 0, 0, 0], [0, 0, 1, 1])).starts.tolist() == [0, 2]


def test_ids_beyond_two_to_the_53_stay_apart():
    rows = flat(table([2**53 + 1, 2**53], [0, 0], [-(2**63), 2**63 - 1]))
    assert rows.individual.tolist() == [2**53, 2**53 + 1]
    assert rows.choice.tolist() == [2**63 - 1, -(2**63)]
    assert rows.decisions == 2


def test_rows_do_not_depend_on_the_order_of_the_table():
    source = table(np.repeat(np.arange(5), 4) - 2, np.tile([0, 0, 1, 1], 5), np.tile([0, 1], 10))
    assert same(flat(source.take(np.random.default_rng(0).permutation(20))), flat(source))


def test_null_and_nan_become_the_value_of_the_map():
    source = table([0, 1, 2], size=[None, float("nan"), 5.0])
    assert flat(source, size=-1).x.tolist() == [[-1.0], [-1.0], [5.0]]
    assert np.isnan(flat(source).x).tolist() == [[True], [True], [False]]


def test_features_are_columns_in_the_order_asked():
    assert flat(table([0, 1], age=pa.array([7, 8])), ["age", "size"]).x.tolist() == [[7.0, 0.0], [8.0, 1.0]]


def test_without_a_selected_column_nothing_is_selected():
    assert not flat(table([1]).drop_columns("_selected")).selected.any()


def test_decisions_start_where_individual_or_decision_changes():
    assert decision_starts(np.array([1, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1])).tolist() == [0, 2, 3]
    assert decision_starts(np.array([], np.int64), np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_(), pa.decimal128(5, 2)])
def test_numbers_of_any_type_become_float32(kind):
    values = [decimal.Decimal(1), None] if pa.types.is_decimal(kind) else [np.float16(1), None]
    found = column("size", pa.array(values if kind != pa.bool_() else [True, None], kind))
    assert found.dtype == np.float32
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_number_beyond_float32_becomes_infinite():
    assert column("size", [1e39, -1e39, 3e38]).tolist() == [np.inf, -np.inf, np.float32(3e38)]
    assert column("size", [None, 1.0], 1e39).tolist() == [np.inf, 1.0]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.decimal128(5, 2)])
def test_a_replacement_is_that_of_float32_whatever_the_type_of_its_column(kind):
    for replacement in (-99_999.0, 1234.56, 0.1):
        values = [decimal.Decimal(1) if pa.types.is_decimal(kind) else 1, None]
        assert column("size", pa.array(values, kind), replacement).tolist() == [1.0, np.float32(replacement)]


EVERY_NUMBER = st.one_of(st.floats(width=32), st.floats(), st.sampled_from([1e39, 0.1, 2.0**-149]), st.none())


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    values=st.lists(st.lists(EVERY_NUMBER, max_size=6), min_size=1, max_size=4),
    kind=st.sampled_from([pa.float32(), pa.float64()]),
    replacement=st.sampled_from([None, -1.0, 0.1]),
)
def test_values_are_those_that_are_converted_one_by_one(values, kind, replacement):
    chunks = pa.chunked_array([pa.array(chunk, pa.float64()).cast(kind, safe=False) for chunk in values], kind)
    found = column("size", chunks, replacement)
    for value, converted in zip(chunks.to_pylist(), found, strict=True):
        missing = value is None or math.isnan(value)
        expected = (math.nan if replacement is None else replacement) if missing else value
        with np.errstate(over="ignore"):
            np.testing.assert_equal(converted, np.float32(expected))


KEYS_OF_ROWS = st.one_of(st.integers(-2, 2), st.integers(2**53, 2**53 + 2), IDS)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(rows=st.lists(st.tuples(KEYS_OF_ROWS, KEYS_OF_ROWS, KEYS_OF_ROWS), max_size=25), ordered=st.booleans())
def test_keys_are_sorted_as_tuples_are_and_equal_ones_stay_in_turn(rows, ordered):
    rows = sorted(rows) if ordered else rows
    expected = sorted(range(len(rows)), key=lambda i: rows[i])
    order, keys = sort_keys(*np.array(rows, np.int64).reshape(-1, 3).T)
    assert (range(len(rows)) if order is None else order.tolist()) == (range(len(rows)) if order is None else expected)
    assert (order is None) == (expected == list(range(len(rows))))
    assert list(zip(*(key.tolist() for key in keys), strict=True)) == [rows[i] for i in expected]


@pytest.mark.parametrize("low", [-(2**63), -(2**62), 0, 2**63 - 2**20 - 2])
def test_keys_of_a_narrow_range_anywhere_are_sorted_alike(low):
    """Such keys are packed into one integer, which must not overflow at the ends of int64."""
    offsets = [random.integers(0, 2**20, 200) for random in map(np.random.default_rng, range(3))]
    order, keys = sort_keys(*(low + values for values in offsets))
    expected = np.lexsort(offsets[::-1])
    assert order.tolist() == expected.tolist()
    assert [key.tolist() for key in keys] == [(low + values[expected]).tolist() for values in offsets]


@pytest.mark.parametrize("bits", range(59, 64))
def test_keys_that_just_do_not_fit_into_one_integer_are_sorted_alike(bits):
    order, keys = sort_keys(np.array([2**bits - 1, 0]), np.array([1, 0]), np.array([0, 0]))
    assert order.tolist() == [1, 0]
    assert [key.tolist() for key in keys] == [[0, 2**bits - 1], [0, 1], [0, 0]]


DECISIONS = st.dictionaries(st.tuples(IDS, IDS), st.lists(IDS, min_size=1, max_size=4, unique=True), max_size=6)


def shuffled(decisions, random):
    """Return (individual, decision, choice, selected, train, size) of {(individual, decision): choices}, mixed."""
    rows = [
        (i, d, c, c == choices[0], i % 3 != 0, random.choice([None, 1.5, math.nan, -2.0]))
        for (i, d), choices in decisions.items()
        for c in choices
    ]
    return random.sample(rows, len(rows))


def table_of(rows, text=False):
    individual, decision, choice, selected, train, size = zip(*rows, strict=True) if rows else ([],) * 6
    source = table(individual, decision, choice, selected=selected, train=train, size=size)
    for position, name in enumerate(source.column_names[: 3 * text]):
        source = source.set_column(position, name, source[name].cast(pa.string()))
    return source


@settings(deadline=None, derandomize=True, max_examples=150)
@given(decisions=DECISIONS, random=st.randoms(use_true_random=False), cut=st.integers(1, 9))
def test_the_rows_of_a_block_are_those_of_a_plain_reading(decisions, random, cut):
    rows = shuffled(decisions, random)
    source = pa.Table.from_batches(table_of(rows).to_batches(max_chunksize=cut), table_of(rows).schema)
    block = check_block(source, Rules(features=("size",), missing_values_map={"size": -9.0}))
    expected = sorted(rows)
    sizes = [-9.0 if size is None or math.isnan(size) else size for *_, size in expected]
    found = block.rows
    assert list(zip(found.individual.tolist(), found.decision.tolist(), found.choice.tolist(), strict=True)) == [
        row[:3] for row in expected
    ]
    assert (found.selected.tolist(), block.train.tolist()) == ([row[3] for row in expected], [row[4] for row in expected])
    assert (found.x.dtype, found.x[:, 0].tolist()) == (np.float32, sizes)
    ids = [row[:2] for row in expected]
    assert found.starts.tolist() == [i for i, key in enumerate(ids) if i == 0 or key != ids[i - 1]]
    assert block.columns(source.column_names).select(range(3)) == source.select(range(3)).sort_by(
        [(name, "ascending") for name in source.column_names[:3]]
    )
    assert block.in_order == (rows == expected or block.table.equals(block.columns(source.column_names)))
    for split, flag in (("train", True), ("test", False)):
        assert block.individuals(split).to_pylist() == sorted({row[0] for row in rows if row[4] == flag})
        assert list(map(tuple, map(dict.values, block.decisions(split).to_pylist()))) == sorted(
            {row[:2] for row in rows if row[4] == flag}
        )


@settings(deadline=None, derandomize=True, max_examples=60)
@given(decisions=DECISIONS, random=st.randoms(use_true_random=False))
def test_text_ids_make_the_same_decisions_in_another_order(decisions, random):
    rows = shuffled(decisions, random)
    found = check_block(table_of(rows, text=True), Rules(features=("size",), labelled=False))
    ids = found.columns(("_individual", "_decision", "_choice")).to_pydict().values()
    ids = [tuple(map(int, row)) for row in zip(*ids, strict=True)]
    assert sorted(ids) == sorted(row[:3] for row in rows)
    assert {(ids[start][:2], int(count)) for start, count in zip(found.rows.starts, found.rows.counts, strict=True)} == {
        (key, len(choices)) for key, choices in decisions.items()
    }
    values = {row[:3]: row[3:] for row in rows}
    for row, selected, train, size in zip(ids, found.rows.selected, found.train, found.rows.x[:, 0], strict=True):
        np.testing.assert_equal((selected, train, float(size)), tuple(math.nan if v is None else v for v in values[row]))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(decisions=DECISIONS, random=st.randoms(use_true_random=False))
def test_kept_decisions_are_those_of_a_table_that_has_only_them(decisions, random):
    rows = shuffled(decisions, random)
    all_of_them = flat(table_of(rows))
    first = all_of_them.starts
    keep = np.array([random.random() < 0.5 for _ in first], bool)
    ids = zip(all_of_them.individual[first].tolist(), all_of_them.decision[first].tolist(), strict=True)
    kept = {key for key, wanted in zip(ids, keep, strict=True) if wanted}
    assert same(take_decisions(all_of_them, np.flatnonzero(keep)), flat(table_of([row for row in rows if row[:2] in kept])))
