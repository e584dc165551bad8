"""Row filters: the small grammar of `where`, such as `region = 'north' and age >= 18`, and the rows that it selects."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import SpecError, TableError, did_you_mean

Value = bool | int | float | str
COMPARISONS = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
GRAMMAR = (
    "expected COLUMN = VALUE, joined by `and`; the comparisons are = != < <= > >=, a value is a number, true, false or "
    "'text' ('' within a text is a quote), and a column name with other characters than letters, digits and _ stands in "
    'double quotes ("")'
)
# one condition; a number may have a sign, decimals and an exponent
_CONDITION = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_]\w*)|"(?P<quoted>(?:[^"]|"")+)")
        \s*(?P<operator><=|>=|!=|=|<|>)
        \s*(?:'(?P<text>(?:[^']|'')*)'|(?P<flag>true|false)\b|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.]))\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_ZONE = re.compile(r":.*([zZ]|[-+]\d\d:?\d\d)$")  # a time without one is of UTC
_AND = re.compile(r"and\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One comparison of a column with a value."""

    column: str
    operator: str
    value: Value

    def __str__(self) -> str:
        value = f"'{self.value}'" if isinstance(self.value, str) else str(self.value).lower()
        return f"{self.column} {self.operator} {value}"


def parse_filter(text: str) -> tuple[Condition, ...]:
    """Parse a filter; a row is selected when all of its conditions hold.

    Raises:
        SpecError: it does not follow the grammar; says where.

    >>> [str(condition) for condition in parse_filter("region = 'north' and age >= 18")]
    ["region = 'north'", 'age >= 18']
    """
    conditions, position = [], 0
    while True:
        found = _CONDITION.match(text, position)
        if found is None:
            raise SpecError(f"cannot be understood from {text[position:].strip()!r} on: {GRAMMAR}")
        conditions.append(Condition(column=_name(found), operator=found["operator"], value=_value(found)))
        position = found.end()
        if position == len(text):
            return tuple(conditions)
        joined = _AND.match(text, position)
        if joined is None:
            raise SpecError(f"cannot be understood from {text[position:].strip()!r} on: {GRAMMAR}")
        position = joined.end()


def check_filter(conditions: Sequence[Condition], schema: pa.Schema, table: str) -> None:
    """Check that a table has the columns of a filter, and that they can be compared with its values.

    Raises:
        TableError: they are not there or of another type; all of them at once.
    """
    problems = []
    for condition in conditions:
        if condition.column not in schema.names:
            problems.append(f"there is no column {condition.column!r}{did_you_mean(condition.column, schema.names)}")
        elif not _comparable(schema.field(condition.column).type, condition):
            kind = schema.field(condition.column).type
            problems.append(f"column {condition.column!r} is {kind}, which cannot be compared as in `{condition}`")
    if problems:
        raise TableError(
            f"table {table} does not fit `where`:\n  "
            + "\n  ".join(problems)
            + f"\n  its columns are {', '.join(schema.names)}"
        )


def selected_rows(rows: pa.RecordBatch, conditions: Sequence[Condition]) -> np.typing.NDArray[np.bool_]:
    """Return (rows,) whether all conditions hold; a comparison with null or NaN does not hold, as in SQL."""
    selected = np.ones(rows.num_rows, np.bool_)
    for condition in conditions:
        column = rows.column(condition.column)
        holds = pc.fill_null(COMPARISONS[condition.operator](column, _scalar(condition.value, column.type)), False)
        if pa.types.is_floating(column.type):  # unlike SQL, NaN differs from every number
            holds = pc.and_(holds, pc.invert(pc.fill_null(pc.is_nan(column), True)))
        selected &= holds.to_numpy(zero_copy_only=False)
    return selected


def equalities(conditions: Sequence[Condition], schema: pa.Schema) -> dict[str, Any]:
    """Return column -> value of conditions that ask for one value, by which files can be left unread."""
    found = {}
    for condition in conditions:
        kind = schema.field(condition.column).type
        if condition.operator == "=":
            with suppress(pa.ArrowInvalid):  # a decimal with more digits than the column has
                found[condition.column] = _scalar(condition.value, kind).cast(kind).as_py()
    return found


def _name(found: re.Match[str]) -> str:
    return found["name"] or found["quoted"].replace('""', '"')


def _value(found: re.Match[str]) -> Value:
    if found["text"] is not None:
        return found["text"].replace("''", "'")
    if found["flag"] is not None:
        return found["flag"].lower() == "true"
    number = found["number"]
    return int(number) if re.fullmatch(r"[-+]?\d+", number) else float(number)


def _comparable(kind: pa.DataType, condition: Condition) -> bool:
    value = condition.value
    if isinstance(value, bool):
        return bool(pa.types.is_boolean(kind)) and condition.operator in {"=", "!="}
    if isinstance(value, str):
        fits = pa.types.is_string(kind) or pa.types.is_temporal(kind)
    else:
        fits = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        fits = fits or (pa.types.is_integer(kind) and (isinstance(value, int) or value.is_integer()))
    if not fits or (scalar := _scalar(value, kind)) is None:
        return False
    try:
        COMPARISONS[condition.operator](pa.nulls(0, kind), scalar)
    except pa.ArrowInvalid:  # no decimal type holds both
        return False
    return True


def _scalar(value: Value, kind: pa.DataType) -> Any:
    """Return a value in the type of a column, so that neither loses digits; None where it has no place in that type."""
    try:
        if pa.types.is_integer(kind):
            return pa.scalar(int(value), kind)
        if pa.types.is_decimal(kind):
            return pa.scalar(Decimal(str(value)))
        if pa.types.is_floating(kind):
            return pa.scalar(float(value), kind)
        if pa.types.is_timestamp(kind) and kind.tz is not None and not _ZONE.search(str(value)):
            return pa.scalar(f"{value}Z" if ":" in str(value) else f"{value}T00:00:00Z").cast(kind)
        return pa.scalar(value).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError, TypeError):
        return None
