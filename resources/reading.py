"""Reading: the data files of one version of a table as a stream, whose memory does not grow with the files.

pyiceberg's own reader decodes each file as a whole; it is left what it alone can read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic_core.shards import RowGroup
from mimic_core.sources import INDIVIDUAL, SPLITS, TRAIN
from resources.footers import Footers, cut, turns_of
from resources.iceberg import equal, plain_schema, widens

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, FileScanTask, Table

ROWS_PER_BATCH = 65_536
READ_BUFFER = 2**20  # bytes per column; without it pyarrow reads the compressed columns of a whole row group
FIELD_ID = b"PARQUET:field_id"


def read_batches(
    table: "Table", columns: Sequence[str] | None = None, where: Mapping[str, Any] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a table in the order of its files' names, at most `ROWS_PER_BATCH` at a time.

    Args:
        table: loaded at the version to read.
        columns: to read, in this order; None reads all.
        where: column -> value; only rows with these values, other files are not opened.
    """
    scan = table.scan(row_filter=equal(where), selected_fields=tuple(columns or ("*",)))
    wanted = _arrow_schema(table.schema(), columns or table.schema().column_names)
    for task in sorted(scan.plan_files(), key=lambda task: task.file.file_path):
        yield from _read_file(table, scan, task, wanted, where or {})


def row_groups(table: "Table") -> list[RowGroup] | None:
    """List the row groups of a table's files, in the order of the files' names; None where pyiceberg has to read a file."""
    groups: list[RowGroup] = []
    wanted = _arrow_schema(table.schema(), [name for name in (INDIVIDUAL, TRAIN) if name in table.schema().column_names])
    for task in sorted(table.scan().plan_files(), key=lambda task: task.file.file_path):
        if task.delete_files or task.file.file_format != "PARQUET":
            return None
        with table.io.new_input(task.file.file_path).open() as opened:
            file = pq.ParquetFile(opened, pre_buffer=False)
            names = _names_in_file(file.schema_arrow, wanted, table)
            if names is None:
                return None
            groups += groups_of(file, task.file.file_path, names)
    return groups


def groups_of(file: pq.ParquetFile, name: str, columns: Mapping[str, str]) -> list[RowGroup]:
    """List the row groups of a Parquet file.

    Args:
        columns: what `_individual` and `_train` are called in it, where it has them.
    """
    index = {file.schema.column(position).path: position for position in range(file.metadata.num_columns)}
    groups = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if not group.num_rows:  # it has no bounds, and needs none
            continue
        ids, train = (group.column(index[columns[c]]) if c in columns else None for c in (INDIVIDUAL, TRAIN))
        lowest, highest = _bounds(ids)
        # not of floats: NaN, which is how pandas writes a missing flag, is not in their bounds
        flags = frozenset(flag for flag in _bounds(train) if type(flag) in (bool, int))
        groups.append(
            RowGroup(
                file=name,
                index=number,
                rows=group.num_rows,
                lowest=lowest if type(lowest) is int else None,
                highest=highest if type(highest) is int else None,
                splits={frozenset({True}): SPLITS[:1], frozenset({False}): SPLITS[1:]}.get(flags, SPLITS),
            )
        )
    return groups


def read_groups(table: "Table", columns: Sequence[str], groups: Sequence[RowGroup]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Stream some row groups of a table in the order given, each as a stream of its own."""
    tasks = {task.file.file_path: task for task in table.scan().plan_files()}
    wanted = _arrow_schema(table.schema(), columns)
    files = [(name, list(turns)) for name, turns in groupby(turns_of(groups), key=lambda turn: turn[0].file)]
    footers = Footers(name for name, _ in files)
    for name, turns in files:
        with (
            table.io.new_input(tasks[name].file.file_path).open() as source,
            footers.opened(name, source, READ_BUFFER) as file,
        ):
            names = _names_in_file(file.schema_arrow, wanted, table)
            assert names is not None  # noqa: S101  else it has no row groups
            for turn in turns:
                batches = _read_columns(file, names, wanted, wanted, {}, [group.index for group in turn])
                yield from cut(batches, [group.rows for group in turn])


def _bounds(column: Any) -> tuple[Any, Any]:
    """Return the lowest and the highest value of a column of a row group; None where they, or its nulls, are not known."""
    found = column.statistics if column is not None else None
    if found is None or not found.has_min_max or not found.has_null_count or found.null_count:
        return None, None
    return found.min, found.max


def counted(batches: Iterable[pa.RecordBatch], on_rows: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """Pass batches on and tell, after each is done with, how many rows there were so far."""
    rows = 0
    for batch in batches:
        yield batch
        rows += batch.num_rows
        on_rows(rows)


def first_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> pa.Table:
    """Return the first rows of a stream, of which no more is read than that needs."""
    found = schema.empty_table()
    for batch in batches:
        found = pa.concat_tables([found, pa.Table.from_batches([batch]).cast(schema)]).slice(0, rows)
        if len(found) == rows:
            break
    return found


def read_files(table: "Table", tasks: "Sequence[FileScanTask]") -> Iterator[pa.RecordBatch]:
    """Stream all columns of some of a table's files, in the order given."""
    wanted = _arrow_schema(table.schema(), table.schema().column_names)
    for task in tasks:
        yield from _read_file(table, table.scan(), task, wanted, {})


def _read_file(
    table: "Table", scan: "DataScan", task: "FileScanTask", wanted: pa.Schema, where: Mapping[str, Any]
) -> Iterator[pa.RecordBatch]:
    from pyiceberg.io.pyarrow import ArrowScan

    needed = _arrow_schema(table.schema(), dict.fromkeys([*wanted.names, *where]))
    if not task.delete_files and task.file.file_format == "PARQUET":
        with table.io.new_input(task.file.file_path).open() as opened:
            file = pq.ParquetFile(opened, pre_buffer=False, buffer_size=READ_BUFFER)
            if (names := _names_in_file(file.schema_arrow, needed, table)) is not None:
                yield from _read_columns(file, names, needed, wanted, where)
                return
    reader = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter)
    target = _without_ids(wanted)
    for batch in reader.to_record_batches([task]):
        rows = pa.Table.from_batches([batch]).select(target.names).cast(target)
        yield from rows.to_batches(max_chunksize=ROWS_PER_BATCH)


def _read_columns(
    file: pq.ParquetFile,
    names: Mapping[str, str],
    needed: pa.Schema,
    wanted: pa.Schema,
    where: Mapping[str, Any],
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    target = _without_ids(wanted)
    for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=list(names.values())):
        arrays = {
            field.name: batch.column(names[field.name]).cast(field.type)
            if field.name in names
            else pa.nulls(batch.num_rows, field.type)
            for field in needed
        }
        rows = pa.RecordBatch.from_arrays([arrays[name] for name in target.names], schema=target)
        kept = [pc.equal(arrays[column], pa.scalar(value, arrays[column].type)) for column, value in where.items()]
        if kept:
            rows = rows.filter(reduce(pc.and_, kept))
        if rows.num_rows:
            yield rows


def _names_in_file(found: pa.Schema, needed: pa.Schema, table: "Table") -> dict[str, str] | None:
    """Return what the columns are called in a file, without those that it has not; None leaves the file to pyiceberg.

    Columns are the same if they have the same field id: their names and types may have changed after the file was written.
    """
    plain = {field.metadata[FIELD_ID]: field for field in plain_schema(found) if FIELD_ID in (field.metadata or {})}
    if len(plain) < len(found):
        return None
    given_otherwise = {partition.source_id for spec in table.specs().values() for partition in spec.fields}
    names = {}
    for field in needed:
        identity = field.metadata[FIELD_ID]
        if identity in plain:
            kind = plain[identity].type
            if kind != field.type and not widens(kind, field.type):
                return None
            names[field.name] = plain[identity].name
        elif int(identity) in given_otherwise or table.schema().find_field(int(identity)).initial_default is not None:
            return None
    return names


def _arrow_schema(schema: "Schema", columns: Sequence[str] | Mapping[str, None]) -> pa.Schema:
    """Return columns of a table in an order, with their types and field ids."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    arrow = plain_schema(schema_to_pyarrow(schema, include_field_ids=True))
    return pa.schema([arrow.field(name) for name in columns])


def _without_ids(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.remove_metadata() for field in schema])
