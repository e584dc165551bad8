"""Imports: people's Parquet and CSV files, opened as one dataset with the column types that a table stores."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mimic_core.errors import TableError
from mimic_core.sources import standard_columns

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".gz": "csv"}
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


def open_files(paths: Sequence[Path]) -> "ds.Dataset":
    """Open Parquet or CSV files or folders as one dataset; all of one format.

    Raises:
        TableError: a path is missing, holds no such file, or files do not fit each other.
    """
    import pyarrow.dataset as ds

    files: list[str] = []
    for path in paths:
        if not path.exists():
            raise TableError(f"{path}: there is no such file or folder")
        found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise TableError(f"{path}: no .parquet or .csv file in this folder")
        files += map(str, found)
    empty = [file for file in files if not Path(file).stat().st_size]
    if empty:
        raise TableError(f"{', '.join(empty[:5])}: the file is empty; expected a decision table")
    kinds = {SUFFIXES.get(Path(file).suffix) for file in files}
    if len(kinds) > 1 or None in kinds:
        raise TableError(f"expected .parquet files or .csv files, all of one kind, found {', '.join(files[:5])}")
    try:
        parts = [ds.dataset(file, format=kinds.copy().pop()) for file in files]
        return ds.dataset(
            files,
            format=kinds.pop(),
            schema=pa.unify_schemas([part.schema for part in parts], promote_options="permissive"),
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise TableError(f"{', '.join(files[:5])}: cannot be read as one table: {error}") from error


def standard_parts(
    source: "ds.Dataset", schema: pa.Schema, paths: Sequence[Path], on_rows: Callable[[int], None]
) -> Iterator[pa.Table]:
    """Stream the files' rows with the column types that a table stores.

    Raises:
        TableError: a file cannot be read, or an id or flag is not one.
    """
    rows = 0
    try:
        for batch in source.to_batches(batch_readahead=2, fragment_readahead=1):
            if batch.num_rows:
                yield shaped(standard_columns(pa.Table.from_batches([batch])), schema)
                rows += batch.num_rows
                on_rows(rows)
    except TableError as error:
        raise TableError(f"{', '.join(map(str, paths))}: {error}; the table is unchanged") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise TableError(
            f"{', '.join(map(str, paths))}: cannot be read: {error}; the table is unchanged. "
            "A CSV column takes its type from the first rows: write 1.0 there for 1 where later numbers have decimals"
        ) from error


def storable_schema(schema: pa.Schema, paths: Sequence[Path]) -> pa.Schema:
    """Return the column types that an import stores."""
    if all(pa.types.is_null(field.type) for field in schema):
        raise TableError(f"{', '.join(map(str, paths))}: there are no rows; expected a decision table")
    try:
        standard = standard_columns(schema.empty_table()).schema
    except TableError as error:
        raise TableError(f"{', '.join(map(str, paths))}: {error}") from error
    fields = []
    for field in standard:
        kind = _stored_type(field.type)
        if kind is None:
            raise TableError(
                f"{', '.join(map(str, paths))}: column {field.name!r} is {field.type}; "
                "expected numbers, true or false, text or times; "
                "leave the column out, or give it a type"
            )
        fields.append(pa.field(field.name, kind))
    names = [field.name for field in fields]
    if len(set(names)) < len(names) or not names:
        raise TableError(f"{', '.join(map(str, paths))}: expected columns with different names, found {names}")
    return pa.schema(fields)


def _stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which Iceberg keeps a column; None where it has none."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_date(kind):
        return pa.date32()
    kind = WIDER.get(kind, kind)
    plain = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal128,
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
