import decimal
from datetime import datetime

import pyarrow as pa
import pytest

from mimic_core.errors import SpecError, TableError
from mimic_core.filters import check_filter, equalities, parse_filter, selected_rows

BIG = 2**53 + 1


def rows():
    return pa.record_batch(
        {
            "id": pa.array([1, BIG, None], pa.int64()),
            "real": pa.array([0.1, float("nan"), None], pa.float64()),
            "single": pa.array([0.1, 2.0, None], pa.float32()),
            "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00"), None]),
            "region": ["north", "o'hare", None],
            "flag": [True, False, None],
            "whole": pa.array([decimal.Decimal(1), decimal.Decimal(2), None], pa.decimal128(38, 0)),
            "zoned": pa.array([datetime(2020, 1, 1), datetime(2021, 1, 1), None], pa.timestamp("us", "UTC")),
            "seen": pa.array([datetime(2020, 1, 1), datetime(2021, 1, 1), None], pa.timestamp("us")),
            "odd name": [1, 2, None],
        }
    )


def selected(text):
    conditions = parse_filter(text)
    check_filter(conditions, rows().schema, "haven.t")
    return [row for row in range(3) if selected_rows(rows(), conditions)[row]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id = 1", [0]),
        ("id=1", [0]),
        (f"id = {BIG}", [1]),
        (f"id < {BIG}", [0]),
        ("id = 1e0", [0]),
        ("id != 1", [1]),
        ("real <= 0.1", [0]),
        ("real != 7", [0]),
        (f"real < {BIG}", [0]),
        ("single = 0.1", [0]),
        ("single < 1e300", [0, 1]),
        ("price >= 1.5", [0, 1]),
        ("price = 2", [1]),
        ("region = 'north'", [0]),
        ("region = 'o''hare'", [1]),
        ("region != 'north'", [1]),
        ("flag = true", [0]),
        ("flag != TRUE", [1]),
        ("seen >= '2020-06-01'", [1]),
        ("zoned = '2020-01-01'", [0]),
        ("zoned <= '2020-01-01 00:00:00'", [0]),
        ("zoned = '2020-01-01T01:00:00+01:00'", [0]),
        ("zoned > '2020-01-01T00:00:00Z'", [1]),
        ("whole > 1", [1]),
        ('"odd name" = -0 AND id > 0', []),
        ('"odd name" > +1.0', [1]),
        ("id > 0 and region = 'north' and flag = true", [0]),
    ],
)
def test_rows_are_selected_where_all_conditions_hold_and_null_never_does(text, expected):
    assert selected(text) == expected


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", "''"),
        ("id", "'id'"),
        ("id == 1", "'id == 1'"),
        ("id = 1 or id = 2", "'or id = 2'"),
        ("id = 1 and", "''"),
        ("id = 1andy = 2", "'id = 1andy = 2'"),
        ("id = 1; drop table t", "'; drop table t'"),
        ("id in (1, 2)", r"'id in \(1, 2\)'"),
        ("region = north", "'region = north'"),
        ("(id = 1)", r"'\(id = 1\)'"),
        ("__import__('os').system('ls') = 1", r".*"),
    ],
)
def test_what_the_grammar_does_not_know_is_quoted_with_the_grammar(text, rest):
    with pytest.raises(SpecError, match=rf"cannot be understood from {rest}.* on: expected COLUMN = VALUE, joined by `and`"):
        parse_filter(text)


def test_columns_and_values_that_do_not_fit_are_named_all_at_once():
    conditions = parse_filter(
        "ids = 1 and id = 1.5 and region > 3 and flag < true and seen = 'soon' and whole < 0.5 and price > 1e400 and id < 1"
        + "0" * 400
    )
    with pytest.raises(TableError) as caught:
        check_filter(conditions, rows().schema, "haven.t")
    text = str(caught.value)
    assert text.startswith(
        "table haven.t does not fit `where`:\n"
        "  there is no column 'ids' (did you mean 'id'?)\n"
        "  column 'id' is int64, which cannot be compared as in `id = 1.5`\n"
        "  column 'region' is string, which cannot be compared as in `region > 3`\n"
        "  column 'flag' is bool, which cannot be compared as in `flag < true`\n"
        "  column 'seen' is timestamp[us], which cannot be compared as in `seen = 'soon'`\n"
        "  column 'whole' is decimal128(38, 0), which cannot be compared as in `whole < 0.5`\n"
        "  column 'price' is decimal128(3, 2), which cannot be compared as in `price > inf`\n"
        "  column 'id' is int64, which cannot be compared as in `id < 1000"
    )
    assert text.endswith("its columns are id, real, single, price, region, flag, whole, zoned, seen, odd name")


def test_only_values_that_a_column_can_hold_are_looked_for_in_files():
    conditions = parse_filter("id = 7 and price = 2 and price = 1.505 and region = 'n' and seen = '2020-01-01' and real < 3")
    assert equalities(conditions, rows().schema) == {
        "id": 7,
        "price": decimal.Decimal("2.00"),
        "region": "n",
        "seen": datetime(2020, 1, 1),
    }
