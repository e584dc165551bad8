"""Iceberg: small translations between pyiceberg's words and ours; nothing here commits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mimic_core.errors import TableError
from resources.imports import shaped

if TYPE_CHECKING:
    from pyiceberg.table import Table

TOKEN, WRITE = "mimic.content-token", "mimic.write"  # of a snapshot: what it holds, and which commit made it


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Replace large strings, which pyiceberg gives back, by strings."""
    return pa.schema([field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in schema])


def widens(given: pa.DataType, stored: pa.DataType) -> bool:
    """Tell whether numbers of one type may go into a column of another."""
    integer, real = pa.types.is_integer, pa.types.is_floating
    return bool(
        (integer(given) and (real(stored) or integer(stored)) and given.bit_width <= stored.bit_width)
        or (real(given) and real(stored) and given.bit_width <= stored.bit_width)
    )


def equal(where: Mapping[str, Any] | None) -> Any:
    """Return the condition that each column has its value; None selects all rows."""
    from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo

    condition: BooleanExpression = AlwaysTrue()
    for column, value in (where or {}).items():
        condition = And(condition, EqualTo(column, value))  # type: ignore[call-arg, arg-type]
    return condition


def fitting(rows: pa.Table, target: pa.Schema, name: str) -> pa.Table:
    """Order and widen rows to a table's columns.

    Raises:
        TableError: a value does not fit its column.
    """
    try:
        return shaped(rows, target)
    except pa.ArrowInvalid as error:
        raise TableError(f"these rows do not fit table {name}: {error}") from error


def content_token(table: "Table") -> str:
    """Return the content token of a table's present version: the one it was written with, or its snapshot."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return "0"
    properties = snapshot.summary.additional_properties if snapshot.summary else {}
    return str(properties.get(TOKEN, snapshot.snapshot_id))


def landed(table: "Table", write: str) -> bool:
    """Tell whether a commit is in the history: its answer may have been lost."""
    return any(s.summary and s.summary.additional_properties.get(WRITE) == write for s in table.snapshots())


def file_hash(url: str) -> str:
    """Return the SHA-256 of a data file."""
    with local_path(url).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_path(url: str) -> Path:
    """Return the path of a `file://` URL."""
    return Path(url.removeprefix("file://"))
