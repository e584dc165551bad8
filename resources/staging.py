"""Staging: rows written as Parquet files under a table's location, invisible until a commit names them."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic_core.errors import NotFoundError, StorageError, TableError
from resources.iceberg import local_path, plain_schema
from resources.imports import shaped

if TYPE_CHECKING:
    from pyiceberg.schema import Schema

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 62_500  # an eighth of a file: what two neighbouring steps may both have to read
ROWS_LOOKED_AT = 10_000


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Files that one worker wrote; invisible until a commit names them.

    Attributes:
        bytes: of the files together.
        columns: the table's columns, with their ids, for which the files were written.
    """

    paths: tuple[str, ...]
    rows: int
    bytes: int
    columns: tuple[str, ...]


def write_files(location: str, schema: "Schema", data: Iterable[pa.Table], name: str) -> Staged:
    """Write rows to new files of a bounded size.

    Args:
        location: URL of a folder and the beginning of the files' names.
        schema: the Iceberg schema of the table that the files are for.
        name: of the table, for messages.

    Raises:
        TableError: rows do not fit the schema.
        StorageError: the files could not be written; nothing is left behind.
    """
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    target = plain_schema(schema_to_pyarrow(schema, include_field_ids=True))
    base = f"{location}-{uuid.uuid4().hex}"
    writer: pq.ParquetWriter | None = None
    paths: list[Path] = []
    rows = rows_in_file = 0
    try:
        for group in row_groups(_fitting(part, target, name) for part in data):
            if writer is None or rows_in_file + group.num_rows > ROWS_PER_FILE:
                if writer is not None:
                    writer.close()
                paths.append(local_path(f"{base}-{len(paths):05d}.parquet"))
                paths[-1].parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(paths[-1], target, compression="zstd", use_dictionary=_repeating(group))
                rows_in_file = 0
            writer.write_table(group)
            rows, rows_in_file = rows + group.num_rows, rows_in_file + group.num_rows
        if writer is not None:
            writer.close()
    except BaseException as error:
        for path in paths:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(
                f"table {name}: rows could not be written: {error.strerror or error}; the table is unchanged. "
                "Check free space and rights, then run this again"
            ) from error
        raise
    return Staged(
        paths=tuple(f"file://{path}" for path in paths),
        rows=rows,
        bytes=sum(path.stat().st_size for path in paths),
        columns=column_ids(schema),
    )


def row_groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into tables of `ROWS_PER_GROUP`, but for the last: steps divide a table by its row groups."""
    waiting: list[pa.Table] = []
    rows, full = 0, min(ROWS_PER_GROUP, ROWS_PER_FILE)
    for part in parts:
        start = 0
        while rows + part.num_rows - start >= full:
            piece = part.slice(start, full - rows)
            yield pa.concat_tables([*waiting, piece])
            start, rows = start + piece.num_rows, 0
            waiting.clear()
        if start < part.num_rows:
            waiting.append(part.slice(start))
            rows += part.num_rows - start
    if waiting:
        yield pa.concat_tables(waiting)


def require_staged(staged: Sequence[Staged], name: str) -> None:
    """Check that staged files are still there.

    Raises:
        NotFoundError: maintenance removed files of a build or an import that took or lay longer than the grace period.
    """
    if gone := [path for part in staged for path in part.paths if not local_path(path).is_file()]:
        raise NotFoundError(
            f"table {name}: files that were staged for it are gone; expected {len(gone)} more, such as "
            f"{local_path(gone[0]).name}; start the build or the import again"
        )


def discard(staged: Staged) -> None:
    """Remove files that no commit will name."""
    for path in staged.paths:
        local_path(path).unlink(missing_ok=True)


def column_ids(schema: "Schema") -> tuple[str, ...]:
    """Return the columns of a table with their ids and types, as comparable texts."""
    return tuple(map(str, schema.fields))


def _repeating(rows: pa.Table) -> list[str]:
    """Name the columns that are worth a dictionary: all but real numbers that hardly repeat.

    Measured: 20 columns of random numbers take three times as long to write with one, and a quarter more space.
    """
    looked_at = rows.slice(0, ROWS_LOOKED_AT)
    return [
        field.name
        for field in rows.schema
        if not pa.types.is_floating(field.type) or pc.count_distinct(looked_at[field.name]).as_py() <= len(looked_at) / 2
    ]


def _fitting(rows: pa.Table, target: pa.Schema, name: str) -> pa.Table:
    """Order and widen rows to a table's columns."""
    try:
        return shaped(rows, target)
    except pa.ArrowInvalid as error:
        raise TableError(f"these rows do not fit table {name}: {error}") from error
