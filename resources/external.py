"""External tables: Parquet files where people keep them, read as a source table without copying; never written.

A table is registered by an empty table in the catalog whose property `mimic.location` says where the files lie. Its content
token is a hash of names, sizes and times of its files, so it is known without reading them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mimic_core.errors import ConflictError, NotFoundError, StorageError, TableError
from mimic_core.manifests import fingerprint
from mimic_core.shards import RowGroup
from resources.files import SourceFile, find_files, reading
from resources.footers import Footers, cut, turns_of
from resources.imports import columns_of, open_files, standard_rows
from resources.paths import S3Path, size_and_stamp
from resources.plain_tables import PLAIN, plain_files
from resources.storage import S3

LOCATION = "mimic.location"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of an external table as they are now.

    Attributes:
        token: changes when a file is changed, added, removed or renamed, and when its time of change is set anew.
        changed: when the newest file was changed, in seconds since 1970.
    """

    files: tuple[SourceFile, ...]
    token: str
    changed: float


def require_parquet(location: str, name: str) -> None:
    """Check that what lies at a location can be a table.

    Raises:
        TableError: nothing is there, no Parquet files, files that do not fit each other or a table, or no rows.
    """
    if any(file.kind == "csv" for file in find_files([location])):
        raise TableError(
            f"{location}: only Parquet files can be registered, CSV files have no types; "
            f"copy them into a table with `mimic tables import {name} {location}`"
        )
    files, _ = open_files([location])
    if not count_rows(files):
        raise TableError(f"{location}: there are no rows; expected a decision table")


def list_files(location: str, name: str) -> Listing:
    """List the files of a table.

    Raises:
        NotFoundError: they are gone.
    """
    try:
        files = plain_files(location) if location.startswith(PLAIN) else find_files([location])
        facts = [size_and_stamp(file.path) for file in files]
    except StorageError:
        raise
    except (TableError, OSError) as error:
        if location.startswith(PLAIN):
            raise NotFoundError(str(error)) from error
        raise NotFoundError(
            f"table {name}: its files at {location} cannot be found: {error}; put them back, "
            f"or tell where they are with `mimic tables register {name} LOCATION`"
        ) from error
    entries = {
        _below(location, file.path): [size, stamp, *_values(location, file)]
        for file, (size, stamp, _) in zip(files, facts, strict=True)
    }
    changed = max(changed for _, _, changed in facts)
    return Listing(files=tuple(files), token=fingerprint(entries)[:24], changed=changed)


def _below(location: str, path: Path | S3Path) -> str:
    """Return what a file is called at a location, so that files that are moved as a whole are the same table."""
    if isinstance(path, S3Path):
        return str(path).removeprefix(location)
    root = Path(location)
    return str(path.relative_to(root.parent if root == path else root))


def _values(location: str, file: SourceFile) -> list[Any]:
    """Return what a table's catalog, and not its path, says that a file has in columns of folders."""
    return [file.keys.to_pylist(), str(file.keys.schema)] if location.startswith(PLAIN) and file.keys.column_names else []


def properties(location: str) -> dict[str, str]:
    """Return the properties of the catalog's table that is registered for a path or a URL of S3."""
    return {LOCATION: location if location.startswith(S3) else f"file://{location}"}


def place_of(properties: Mapping[str, str]) -> str:
    """Return where the files of a registered table lie: a path of this machine, or a URL of S3."""
    return properties[LOCATION].removeprefix("file://")


def require_writable(properties: Mapping[str, str], name: str) -> None:
    """Refuse to write into a table that is registered where its files lie.

    Raises:
        TableError: it is.
    """
    if LOCATION in properties:
        raise TableError(
            f"table {name} is registered where its files lie, {place_of(properties)}, and is never written; "
            "change the files there, or give another name"
        )


def describe(properties: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return what a pin says of a registered table: `location`, `token`, `columns` (as an import stores them) and `rows`.

    Raises:
        NotFoundError: the files are gone.
        TableError: they cannot be read as one table any more.
        ConflictError: they are changed at this very moment.
    """
    try:
        return describe_files(place_of(properties), name)
    except TableError as error:
        raise TableError(f"table {name}: {error}") from error


def describe_files(location: str, name: str, used: Collection[str] | None = None) -> dict[str, Any]:
    """Return what a pin says of the files at a location, as `describe`.

    Args:
        name: what messages call them, the location itself where they are no table of the catalog.
        used: as in `resources.imports.open_files`.

    Raises:
        NotFoundError: there are none.
        TableError: they cannot be read as one table.
        ConflictError: they are changed at this very moment.
    """
    listing = list_files(location, name)
    columns, rows = columns_of(listing.files, used), count_rows(listing.files)
    require_unchanged(location, name, listing.token)
    return {"location": location, "token": listing.token, "columns": columns, "rows": rows}


def require_unchanged(location: str, name: str, token: str) -> Listing:
    """Check that the files of a table are those of a token.

    Raises:
        NotFoundError: they are gone.
        ConflictError: they were changed.
    """
    listing = list_files(location, name)
    if listing.token != token:
        if name == location:  # they are no table of the catalog
            raise ConflictError(f"{location}: was changed while it was read; run this again")
        raise ConflictError(
            f"table {name}: its files at {location} were changed since this build began; start the build again"
        )
    return listing


def read_rows(
    location: str, name: str, token: str, schema: pa.Schema, columns: Sequence[str] | None, where: Mapping[str, Any] | None
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a table, which must be those of a token before the first row and after the last.

    Args:
        schema: its columns, as `describe` gave them.
        columns: to read, in this order; None reads all.
        where: column -> value; only rows with these values, other files and row groups are not read.

    Raises:
        ConflictError: the files were changed.
        TableError: a file cannot be read, or an id or flag is not one.
    """
    try:
        for file in require_unchanged(location, name, token).files:
            for part in standard_rows(file, schema, columns, where):
                yield from part.to_batches()
    except TableError as error:
        require_unchanged(location, name, token)  # that tells more than what a reader finds in half a file
        raise _of_table(name, location, error) from error
    require_unchanged(location, name, token)


def row_groups(location: str, name: str, token: str) -> list[RowGroup] | None:
    """List the row groups of a table's files, in the order in which they are read; None of CSV files, which have none."""
    files = require_unchanged(location, name, token).files
    if any(file.kind == "csv" for file in files):
        return None
    return [group for file in files for group in reading([file.path], file.row_groups)]


def read_groups(
    location: str, name: str, token: str, schema: pa.Schema, columns: Sequence[str], groups: Sequence[RowGroup]
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Stream some row groups of a table in the order given, each as a stream of its own; else as `read_rows`."""
    files = {str(file.path): file for file in require_unchanged(location, name, token).files}

    turns = turns_of(groups)
    footers = Footers(turn[0].file for turn in turns)

    def batches(turn: Sequence[RowGroup]) -> Iterator[pa.RecordBatch]:
        indices = [group.index for group in turn]
        try:
            for part in standard_rows(files[turn[0].file], schema, columns, groups=indices, footers=footers):
                yield from part.to_batches()
        except TableError as error:
            require_unchanged(location, name, token)
            raise _of_table(name, location, error) from error

    for turn in turns:
        yield from cut(batches(turn), [group.rows for group in turn])
    require_unchanged(location, name, token)


def count_rows(files: Sequence[SourceFile]) -> int:
    """Count the rows of files: of Parquet from their footers, of CSV by reading one column."""
    return sum(reading([file.path], partial(_rows_of, file)) for file in files)


def _rows_of(file: SourceFile) -> int:
    if file.kind == "csv":  # not by its fragment, which guesses the types from the first rows
        return sum(map(len, file.batches([])))
    return int(file.fragment.count_rows())


def _of_table(name: str, location: str, error: TableError) -> TableError:
    """Return an error about files, whose message names the table if they are one of the catalog."""
    return error if name == location else TableError(f"table {name}: {error}")
