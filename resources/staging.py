"""Staging: rows written as Parquet files under a table's location, invisible until a commit names them."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic_core.errors import NotFoundError, StorageError, TableError
from resources import aws
from resources.iceberg import is_local, local_path, plain_schema
from resources.imports import shaped

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.schema import Schema

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 62_500  # an eighth of a file: what two neighbouring steps may both have to read
ROWS_LOOKED_AT = 10_000
AT_ONCE = 16  # requests for files of a table


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Files that one worker wrote; invisible until a commit names them.

    Attributes:
        bytes: of the files together.
        columns: the table's columns, with their ids, for which the files were written.
        sha256: of the files, where they are not on this machine.
    """

    paths: tuple[str, ...]
    rows: int
    bytes: int
    columns: tuple[str, ...]
    sha256: tuple[str, ...] = ()


def write_files(io: "FileIO", location: str, schema: "Schema", data: Iterable[pa.Table], name: str) -> Staged:
    """Write rows to new files of a bounded size.

    Args:
        io: of the table.
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
    files: list[_File] = []
    rows = rows_in_file = 0
    try:
        for group in row_groups(_fitting(part, target, name) for part in data):
            if writer is None or rows_in_file + group.num_rows > ROWS_PER_FILE:
                if writer is not None:
                    writer.close()
                    files[-1].close()
                files.append(_File(io, f"{base}-{len(files):05d}.parquet"))
                writer = pq.ParquetWriter(files[-1].sink, target, compression="zstd", use_dictionary=_repeating(group))
                rows_in_file = 0
            writer.write_table(group)
            rows, rows_in_file = rows + group.num_rows, rows_in_file + group.num_rows
        if writer is not None:
            writer.close()
            files[-1].close()
    except BaseException as error:
        for file in files:
            file.forget()
        if isinstance(error, OSError):
            reason = aws.arrow_meaning(error) or error.strerror or error
            raise StorageError(
                f"table {name}: rows could not be written: {reason}; the table is unchanged. "
                "Check free space and rights, then run this again"
            ) from error
        raise
    return Staged(
        paths=tuple(file.url for file in files),
        rows=rows,
        bytes=sum(file.bytes for file in files),
        columns=column_ids(schema),
        sha256=tuple(file.sink.digest.hexdigest() for file in files if not is_local(file.url)),
    )


class _Hashed:
    """A stream with the checksum of what was written to it, which else had to be read back from far away."""

    def __init__(self, sink: Any) -> None:
        self._sink, self.digest, self.closed = sink, hashlib.sha256(), False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return int(self._sink.write(data))

    def tell(self) -> int:
        return int(self._sink.tell())

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self.closed = True
        self._sink.close()


class _File:
    """A new data file: on this machine by its path, which takes less of it, else as a stream.

    Attributes:
        sink: what a writer writes to.
        bytes: its size, when it is closed.
    """

    def __init__(self, io: "FileIO", url: str) -> None:
        self._io, self.url, self.bytes = io, url, 0
        if is_local(url):
            path = local_path(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.sink: Any = path
        else:
            self.sink = _Hashed(io.new_output(url).create())

    def close(self) -> None:
        if is_local(self.url):
            self.bytes = self.sink.stat().st_size
        else:
            self.bytes = self.sink.tell()
            self.sink.close()

    def forget(self) -> None:
        with suppress(OSError, pa.ArrowException):
            if not is_local(self.url):
                self.sink.close()  # else its parts would stay
            delete_files(self._io, [self.url])


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


def require_staged(io: "FileIO", staged: Sequence[Staged], name: str) -> None:
    """Check that staged files are still there.

    Raises:
        NotFoundError: maintenance removed files of a build or an import that took or lay longer than the grace period.
    """
    paths = [path for part in staged for path in part.paths]
    if gone := [path for path, there in zip(paths, _each(io, paths, _is_there), strict=True) if not there]:
        raise NotFoundError(
            f"table {name}: files that were staged for it are gone; expected {len(gone)} more, such as "
            f"{gone[0].rpartition('/')[2]}; start the build or the import again"
        )


def delete_files(io: "FileIO", urls: Sequence[str]) -> None:
    """Remove files that no commit will name; those that are gone already are no error."""
    _each(io, urls, _delete)


def _each(io: "FileIO", urls: Sequence[str], ask: Callable[["FileIO", str], Any]) -> list[Any]:
    if all(map(is_local, urls)):
        return [ask(io, url) for url in urls]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda url: ask(io, url), urls))


def _is_there(io: "FileIO", url: str) -> bool:
    return local_path(url).is_file() if is_local(url) else io.new_input(url).exists()


def _delete(io: "FileIO", url: str) -> None:
    if is_local(url):
        local_path(url).unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        io.delete(url)


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
