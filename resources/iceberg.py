"""Iceberg: translations between pyiceberg's words and ours; nothing here commits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mimic_core.errors import TableError
from mimic_core.sources import KEYS, OPTIONAL

if TYPE_CHECKING:
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.snapshots import Snapshot

TOKEN, WRITE = "mimic.content-token", "mimic.write"  # of a snapshot: what it holds, and which commit made it
KIND = "mimic.kind"  # of a table that we made: what it is for
COMPACTS = "mimic.compacts"  # of a snapshot that only wrote files anew: the version whose rows it holds


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Replace large strings and binaries, which pyiceberg gives back, by plain ones."""
    plain = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema])


def widens(given: pa.DataType, stored: pa.DataType) -> bool:
    """Tell whether numbers of one type may go into a column of another."""
    integer, real = pa.types.is_integer, pa.types.is_floating
    return bool(
        (integer(given) and (real(stored) or integer(stored)) and given.bit_width <= stored.bit_width)
        or (real(given) and real(stored) and given.bit_width <= stored.bit_width)
    )


def equal(where: Mapping[str, Any] | None) -> Any:
    """Return the condition that each column has its value, or one of a list of values; None selects all rows."""
    from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, In

    condition: BooleanExpression = AlwaysTrue()
    for column, value in (where or {}).items():
        matches = In(column, value) if isinstance(value, list) else EqualTo(column, value)  # type: ignore[call-arg, arg-type]
        condition = And(condition, matches)
    return condition


def content_token(snapshot: "Snapshot | None") -> str:
    """Return the content token of a version of a table: the one it was written with, or its id."""
    if snapshot is None:
        return "0"
    properties = snapshot.summary.additional_properties if snapshot.summary else {}
    return str(properties.get(TOKEN, snapshot.snapshot_id))


def origin(table: "Table", snapshot: "Snapshot | None") -> "Snapshot | None":
    """Return the version that wrote the rows which a version holds: compaction, ours or another engine's, writes none."""
    while snapshot is not None and (parent := compacted(snapshot)) is not None:
        before = table.snapshot_by_id(parent)
        if before is None:
            break
        snapshot = before
    return snapshot


def compacted(snapshot: "Snapshot") -> int | None:
    """Return the version whose rows a version only wrote to other files; None when it changed rows."""
    from pyiceberg.table.snapshots import Operation

    if snapshot.summary is None:
        return None
    if version := snapshot.summary.additional_properties.get(COMPACTS):
        return int(version)
    return snapshot.parent_snapshot_id if snapshot.summary.operation is Operation.REPLACE else None


def landed(table: "Table", write: str) -> int | None:
    """Return the version that a commit made, or None; the answer to a commit may have been lost."""
    found = [s.snapshot_id for s in table.snapshots() if s.summary and s.summary.additional_properties.get(WRITE) == write]
    return found[-1] if found else None


def transaction_for(table: "Table", columns: pa.Schema | None, *, append: bool) -> "Transaction":
    """Begin a transaction in which a table has the columns that new rows need.

    Args:
        columns: of the new rows; None leaves the table's columns as they are.
        append: whether its present rows stay, and with them their columns.

    Raises:
        TableError: appended rows do not fit the table's types, or lack its keys or flags.
    """
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    transaction = table.transaction()
    if columns is None:
        return transaction
    have = plain_schema(schema_to_pyarrow(table.schema(), include_field_ids=False))
    retyped = [field.name for field in columns if field.name in have.names and have.field(field.name).type != field.type]
    if append:
        problems = [
            f"column {column!r} is {columns.field(column).type}, the table has {have.field(column).type}"
            for column in retyped
            if not widens(columns.field(column).type, have.field(column).type)
        ]
        problems += [
            f"column {column!r} is missing, and no build takes a table with a null there"
            for column in (*KEYS, *OPTIONAL)
            if column in have.names and column not in columns.names
        ]
        if problems:
            name = ".".join(table.name())
            raise TableError(f"these rows do not fit table {name}:\n  " + "\n  ".join(problems))
        retyped = []
    dropped = retyped + [column for column in have.names if column not in columns.names and not append]
    if dropped:
        with transaction.update_schema(allow_incompatible_changes=True) as update:
            for column in dropped:
                update.delete_column(column)
    added = [field for field in columns if field.name not in have.names or field.name in retyped]
    if added:
        with transaction.update_schema() as update:
            update.union_by_name(pa.schema(added))
    return transaction


def file_hash(url: str) -> str:
    """Return the SHA-256 of a data file of this machine."""
    with local_path(url).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_local(url: str) -> bool:
    """Tell whether a URL is that of a file of this machine."""
    return url.startswith(("file:", "/"))


def local_path(url: str) -> Path:
    """Return the path of a `file://` URL."""
    return Path(url.removeprefix("file://"))
