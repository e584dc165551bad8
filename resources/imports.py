"""Imports: people's files as rows with the column types that a table stores."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import StorageError, TableError
from mimic_core.sources import ALTERNATIVE, FLAGS, KEYS, standard_columns
from resources import aws
from resources.files import SourceFile, find_files, reading
from resources.footers import Footers
from resources.paths import S3Path

# Iceberg has fewer widths than Arrow
WIDER = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
}


def open_files(paths: Sequence[Path | str], used: Collection[str] | None = None) -> tuple[list[SourceFile], pa.Schema]:
    """Open Parquet or CSV files or folders, all of one format; returns them with the column types that a table stores.

    Args:
        used: columns that are going to be read, of which those without any value are null flags and numbers; any other
            column that a table cannot store is left out. None wants all columns.

    Raises:
        TableError: a path is missing, holds no such file, or files do not fit each other or a table.
    """
    files = find_files(paths)
    return files, columns_of(files, used)


def columns_of(files: Sequence[SourceFile], used: Collection[str] | None = None) -> pa.Schema:
    """Return the columns of files with the types that a table stores; arguments and errors as of `open_files`."""
    schemas = [reading([file.path], partial(getattr, file, "schema")) for file in files]
    if used is not None:
        schemas = [_usable(schema, used) for schema in schemas]
    return storable_schema(schemas, [file.path for file in files])


def standard_parts(
    files: Sequence[SourceFile], schema: pa.Schema, on_rows: Callable[[int], None] = lambda _: None
) -> Iterator[pa.Table]:
    """Stream the rows of files that are imported, with the column types that a table stores.

    Raises:
        TableError: a file cannot be read, or an id or flag is not one.
    """
    rows = 0
    for file in files:
        try:
            for part in standard_rows(file, schema):
                yield part
                rows += len(part)
                on_rows(rows)
        except TableError as error:
            raise TableError(f"{error}; the table is unchanged") from error


def standard_rows(
    file: SourceFile,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    groups: Sequence[int] | None = None,
    footers: Footers | None = None,
) -> Iterator[pa.Table]:
    """Stream a file's rows with the column types that a table stores.

    Args:
        schema: all columns of the table; one that the file has not is null.
        columns: to read, in this order; None reads all.
        where: column -> value; only rows with these values, a file whose folders' names have others is not opened.
        groups: the row groups to read, in this order; None reads all.
        footers: those of files of which it is one, by their paths.

    Raises:
        TableError: the file cannot be read, or an id or flag is not one.
    """
    names, where = list(schema.names if columns is None else columns), where or {}
    needed = [*names, *(name for name in where if name not in names)]
    target = pa.schema([schema.field(name) for name in needed])
    try:
        if _may_hold(file.keys, target, where):
            for part in file.batches(needed, _condition(file.own_schema, schema, where), groups, footers):
                rows = _chosen(shaped(standard_columns(part), target), target.names, where)
                if len(rows):
                    yield rows.select(names)
    except TableError as error:
        raise TableError(f"{file.path}: {error}") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        if isinstance(error, OSError) and (meaning := aws.arrow_meaning(error)):
            raise StorageError(f"{file.path}: cannot be read: {meaning}") from error
        raise TableError(f"{file.path}: cannot be read: {error}; mend the file") from error


def storable_schema(schemas: Sequence[pa.Schema], paths: Sequence[Path | S3Path]) -> pa.Schema:
    """Return the column types in which a table stores the rows of some files, which may differ in theirs.

    Raises:
        TableError: an id or flag is of a type that cannot be one, a table cannot hold a column, files do not fit each other.
    """
    if all(pa.types.is_null(field.type) for schema in schemas for field in schema):
        raise TableError(f"{', '.join(map(str, paths[:5]))}: there are no rows; expected a decision table")
    stored = [_stored_schema(schema, path) for schema, path in zip(schemas, paths, strict=True)]
    whole = pa.schema([])
    for schema, path in zip(stored, paths, strict=True):
        both = partial(pa.unify_schemas, [whole, schema], promote_options="permissive")
        whole = reading([path], both) if schema != whole else whole
    whole = pa.schema([field.with_type(_stored_type(field.type) or field.type) for field in whole])
    for field in whole:
        if pa.types.is_null(field.type):
            raise TableError(f"{', '.join(map(str, paths[:5]))}: {_no_type(field)}")
    return whole


def _usable(schema: pa.Schema, used: Collection[str]) -> pa.Schema:
    """Return the columns of a file that are used or could be stored, those without any value with a type."""
    if all(pa.types.is_null(field.type) for field in schema):
        return schema  # there are no rows
    fields = [field for field in schema if field.name in used or _stored_type(field.type) is not None]
    typed = {True: pa.bool_(), False: pa.float64()}
    return pa.schema(
        [
            field.with_type(typed[field.name in FLAGS])
            if pa.types.is_null(field.type) and field.name not in (*KEYS, ALTERNATIVE)
            else field
            for field in fields
        ]
    )


def _stored_schema(schema: pa.Schema, path: Path | S3Path) -> pa.Schema:
    try:
        filled = pa.schema([field for field in schema if not pa.types.is_null(field.type)])
        fields = list(standard_columns(filled.empty_table()).schema)
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    for index, field in enumerate(fields):
        kind = _stored_type(field.type)
        if kind is None:
            raise TableError(f"{path}: {_no_type(field)}")
        fields[index] = pa.field(field.name, kind)
    return pa.schema([*fields, *(field for field in schema if pa.types.is_null(field.type))])


def _no_type(field: pa.Field) -> str:
    return (
        f"column {field.name!r} is {field.type}; expected numbers, true or false, text or times; "
        "leave the column out, or give it a type"
    )


def _may_hold(keys: pa.Table, target: pa.Schema, where: Mapping[str, Any]) -> bool:
    """Tell whether a file below folders of these names can hold rows with some values."""
    asked = {name: value for name, value in where.items() if name in keys.column_names}
    return not asked or len(_chosen(shaped(standard_columns(keys), target), list(asked), asked)) > 0


def _chosen(table: pa.Table, columns: Sequence[str], where: Mapping[str, Any]) -> pa.Table:
    """Keep the rows in which some columns, where these are asked for, have their values."""
    for name, value in where.items():
        if name in columns:
            table = table.filter(pc.equal(table[name], pa.scalar(value, table.schema.field(name).type)))
    return table


def _condition(own: pa.Schema, schema: pa.Schema, where: Mapping[str, Any]) -> Any:
    """Return what of a condition can be asked of a file's own columns, so that it reads no more than it must."""
    condition = None
    for name, value in where.items():
        if name not in own.names:
            continue
        kind, target = own.field(name).type, schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_boolean(target) and pa.types.is_integer(kind):
            scalar = pa.scalar(int(value), kind)
        elif kind == target or (_is_plain_number(kind) and _is_plain_number(target)):
            scalar = pa.scalar(value, target)
        else:
            continue
        asked = pc.field(name) == scalar
        condition = asked if condition is None else condition & asked
    return condition


def _is_plain_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which Iceberg keeps a column; None where it has none."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_decimal(kind):  # Iceberg ends at 38 digits
        return pa.float64() if pa.types.is_decimal256(kind) else pa.decimal128(kind.precision, kind.scale)
    kind = WIDER.get(kind, kind)
    plain = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_binary,
    )
    return kind if any(holds(kind) for holds in plain) else None


def shaped(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Order and widen columns; a column that is not there is null."""
    columns = [
        table[field.name].cast(field.type, safe=not pa.types.is_temporal(field.type))
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in target
    ]
    return pa.table(columns, schema=target)
