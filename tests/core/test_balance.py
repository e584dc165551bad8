"""Balance: what sampling writes is balanced, and every way in which it could not be is counted and refused."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_core.balance import Balance, add_balances, balance, count_pairs, require_balance
from mimic_core.errors import TableError


def pairs(individuals=3, each=2, ids="int64"):
    """Rows of a contrast set: so many pairs of each individual."""
    number = individuals * each
    columns = {
        "_individual": pa.array(np.repeat(np.arange(individuals), 2 * each)).cast(ids),
        "_decision": pa.array(np.repeat(np.arange(number), 2)),
        "_choice": pa.array(np.tile([0, 1], number)),
        "_selected": pa.array(np.tile([True, False], number)),
        "_old_decision": pa.array(np.repeat(np.arange(number) // 2, 2)).cast(ids),
    }
    return pa.table(columns)


def judged(*parts, each=2):
    return balance([count_pairs(part) for part in parts], each)


def with_value(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


@pytest.mark.parametrize("ids", ["int64", "string"])
def test_pairs_are_balanced_also_where_an_individual_is_divided_over_parts(ids):
    table = pairs(ids=ids)
    found = judged(table.slice(0, 6), table.slice(6))
    assert found == Balance(rows=12, selected=6, pairs=6, broken_pairs=0, individuals=3, uneven_individuals=0)
    assert found.kept
    require_balance(found, "haven.contrasts", 2)
    assert add_balances([found, found, Balance()]).individuals == 6
    assert judged() == Balance()


@pytest.mark.parametrize(
    ("spoilt", "broken", "uneven"),
    [
        (with_value(pairs(), "_selected", 1, True), 1, 0),
        (with_value(pairs(), "_selected", 0, False), 1, 0),
        (with_value(pairs(), "_decision", 3, 77), 1, 0),
        (with_value(pairs(), "_old_decision", 3, 77), 1, 0),
        (with_value(pairs(), "_individual", 3, 77), 1, 2),
        (pairs().slice(2), 0, 1),
        (pairs().slice(1), 6, 1),
        (pa.concat_tables([pairs(), pairs().slice(0, 2)]), 0, 1),
    ],
)
def test_what_is_not_balanced_is_counted(spoilt, broken, uneven):
    found = judged(spoilt)
    assert (found.broken_pairs, found.uneven_individuals, found.kept) == (broken, uneven, False)


def test_a_contrast_set_that_is_not_balanced_is_refused_with_numbers():
    spoilt = judged(with_value(pairs(), "_selected", 1, True).filter(pc.less(pairs()["_individual"], 2)))
    with pytest.raises(
        TableError, match=r"haven.contrasts is not balanced: 1 of 4 pairs .* 0 of 2 individuals .* 5 of 8 rows"
    ):
        require_balance(spoilt, "haven.contrasts", 2)
