import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from mimic_core.contract import Rules, check_block
from mimic_core.rows import decision_starts, feature_matrix, hash64

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
