"""Source tables: the names of the reserved columns, the schema of a decision table, and its columns as they are stored.

A decision table has one row per choice offered in a decision; one row of each decision is selected.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import TableError, did_you_mean
from mimic_core.filters import Condition
from mimic_core.wording import listed

INDIVIDUAL, DECISION, CHOICE = "_individual", "_decision", "_choice"
SELECTED, TRAIN = "_selected", "_train"
KEYS = (INDIVIDUAL, DECISION, CHOICE)
FLAGS = (SELECTED, TRAIN)
WEIGHT, ALTERNATIVE, OFFSET = "_weight", "_alternative", "_sampling_log_probability"
OPTIONAL = (*FLAGS, WEIGHT, ALTERNATIVE, OFFSET)  # reserved columns that are read wherever a table has them
SPLITS = ("train", "test")
MOST_COLUMNS = 20  # that a line names


def check_schema(
    schema: pa.Schema,
    features: Sequence[str],
    *,
    table: str,
    required: Sequence[str] = (*KEYS, *FLAGS),
    weights: Sequence[str] = (),
) -> None:
    """Check that a table can be read as a decision table with these features.

    Args:
        required: reserved columns that must be there. `_selected` and `_train` are checked for their type
            wherever they exist.
        weights: columns by which choices are sampled.

    Raises:
        TableError: missing columns, ids and labels that are neither int64 nor text, flags that are not bool, features,
            weights and log-probabilities that are not numeric; all of them at once.
    """
    if problems := schema_problems(schema, features, required=required, weights=weights):
        lines = "\n  ".join(problems)
        raise TableError(
            f"table {table} is not a decision table with these features:\n  {lines}\n"
            f"  its columns are {', '.join(schema.names)}; mend the table or the config"
        )


def schema_problems(
    schema: pa.Schema,
    features: Sequence[str] = (),
    *,
    required: Sequence[str] = (*KEYS, *FLAGS),
    weights: Sequence[str] = (),
) -> list[str]:
    """Return what `check_schema`, which takes the same arguments, finds wrong with a table, a phrase for each column."""
    problems = []
    for name in dict.fromkeys([*required, *features, *weights]):
        if name not in schema.names:
            named = ", which sampling.weights names" if name in weights else ""
            problems.append(f"column {name!r} is missing{did_you_mean(name, schema.names)}{named}")
    present = [name for name in (*KEYS, *FLAGS, ALTERNATIVE) if name in schema.names]
    for name in present:
        kind = schema.field(name).type
        expected = (pa.bool_(),) if name in FLAGS else (pa.int64(), pa.string())
        if kind not in expected:
            problems.append(f"column {name!r} is {kind}, expected {' or '.join(map(str, expected))}")
    for name in dict.fromkeys((WEIGHT, OFFSET, *features, *weights)):
        if name in schema.names and not _is_numeric(schema.field(name).type):
            what = "feature" if name in features else "column"
            problems.append(f"{what} {name!r} is {schema.field(name).type}, expected numbers")
    return problems


def why_unusable(schema: pa.Schema) -> str:
    """Say in one line why the columns of a table are not those of a decision table, be it one that is only to be scored.

    >>> keys = {"_individual": pa.int64(), "_decision": pa.int64(), "_choice": pa.string()}
    >>> why_unusable(pa.schema(keys))
    ''
    >>> why_unusable(pa.schema(keys | {"_weight": pa.string(), "_selected": pa.bool_(), "_train": pa.int8()}))[:56]
    "no decision table: column '_train' is int8, expected boo"
    """
    if not schema_problems(schema, required=KEYS):
        return ""
    columns = listed(schema.names, MOST_COLUMNS)
    return f"no decision table: {'; '.join(schema_problems(schema))}; its columns are {columns}"


def numeric_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that can be features: those of numbers whose names are not reserved."""
    return tuple(field.name for field in schema if not field.name.startswith("_") and _is_numeric(field.type))


def columns_to_read(schema: pa.Schema, features: Sequence[str], where: Sequence[Condition] = ()) -> pa.Schema:
    """Return the columns of a table that a build reads: keys, reserved ones that exist, features, those of the filter."""
    optional = [name for name in OPTIONAL if name in schema.names]
    names = [*KEYS, *optional, *features, *(condition.column for condition in where)]
    return pa.schema([schema.field(name) for name in dict.fromkeys(names)])


def standard_columns(table: pa.Table) -> pa.Table:
    """Give an imported table the types of a decision table: ids of int64 or text, bool flags, plain strings.

    Ids: integers and decimals of any width, and whole floats (what pandas makes of integers beside a gap), become int64;
    text stays text, an empty one is null. Flags: 0 and 1, true and false, t and f, as numbers or as text of any case, become
    bool. Dictionaries are decoded.

    Raises:
        TableError: an id or a flag does not fit.
    """
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if column.type in (pa.large_string(), pa.string_view()):
            column = column.cast(pa.string())
        if field.name in (*KEYS, ALTERNATIVE):
            column = _ids(column, field.name)
        if field.name in FLAGS:
            column = _flags(column, field.name)
        table = table.set_column(index, field.name, column)
    return table


def _ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind):
        return pc.if_else(pc.equal(column, ""), None, column)
    if pa.types.is_floating(kind):
        digits = {16: 11, 32: 24, 64: 53}[kind.bit_width]  # beyond, several whole numbers are one float
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
        exact = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**digits))
        wrong = column.filter(pc.invert(exact))
        if len(wrong):
            raise TableError(
                f"column {name!r} ({kind}) holds other numbers than ids in {len(wrong):,} rows ({_examples(wrong)}); "
                f"expected whole numbers, as {kind} below 2^{digits}"
            )
    elif pa.types.is_decimal(kind):
        return _safely(
            column.cast(pa.decimal256(76, kind.scale)), pa.int64(), name
        )  # narrow ones have no exact cast to int64
    elif not pa.types.is_integer(kind):
        raise TableError(f"column {name!r} is {kind}, expected whole numbers or text as ids")
    return _safely(column, pa.int64(), name)


def _safely(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise TableError(f"column {name!r} ({column.type}) does not fit {kind}: {error}") from error


def _flags(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Turn true and false, 1 and 0, and what files and pandas make of them beside a missing value, to bool."""
    kind, allowed = column.type, pa.array([0, 1, None])
    if pa.types.is_string(kind):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        words = pc.if_else(pc.equal(words, ""), None, words)
        number = pc.if_else(pc.is_in(words, pa.array(["true", "t", "1"])), 1, 2)
        number = pc.if_else(pc.is_in(words, pa.array(["false", "f", "0"])), 0, number)
        number = pc.if_else(pc.is_null(words), None, number)
    elif pa.types.is_floating(kind):
        number = pc.if_else(pc.is_nan(column), None, column)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        number = column
    elif pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.bool_())
    else:
        raise TableError(f"column {name!r} is {kind}, expected true and false, or 1 and 0")
    number = number.cast(pa.float64(), safe=False)
    wrong = column.filter(pc.invert(pc.is_in(number, allowed.cast(pa.float64()))))
    if len(wrong):
        what = "texts than true, false, t, f, 1 and 0" if pa.types.is_string(kind) else "numbers than 0 and 1"
        raise TableError(f"column {name!r} holds other {what} in {len(wrong):,} rows ({_examples(wrong)})")
    return number.cast(pa.bool_())


def _examples(column: pa.ChunkedArray) -> str:
    return ", ".join(map(str, column.slice(0, 5).to_pylist()))


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    )
