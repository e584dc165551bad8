"""Columns: those that a table needs for rows of a purpose, and how a table that builds share gets those that it lacks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from mimic_core.errors import TableError

if TYPE_CHECKING:
    from pyiceberg.table import Table


def missing_columns(have: Sequence[str], wanted: pa.Schema) -> list[pa.Field]:
    """Return the columns of a schema that a table lacks."""
    return [field for field in wanted if field.name not in have]


def require_columns(have: pa.Schema, wanted: pa.Schema, name: str, kind: str, *, lacking: bool = False) -> None:
    """Check that a table can hold rows of a schema.

    Args:
        name, kind: of the table, for messages.
        lacking: whether it may lack columns.

    Raises:
        TableError: a column is missing or of another type.
    """
    problems = [
        f"column {field.name!r} is {have.field(field.name).type if field.name in have.names else 'missing'}, "
        f"expected {field.type}"
        for field in wanted
        if (field.name not in have.names and not lacking)
        or (field.name in have.names and have.field(field.name).type != field.type)
    ]
    if problems:
        raise TableError(f"table {name} cannot hold {kind} rows:\n  " + "\n  ".join(problems))


def add_missing(table: "Table", wanted: pa.Schema) -> None:
    """Add the columns that a table lacks after its own, null in the rows that it has; none is dropped or retyped."""
    if added := missing_columns(table.schema().column_names, wanted):
        with table.update_schema() as update:
            update.union_by_name(pa.schema(added))


def still_fit(staged: Sequence[str], present: Sequence[str], *, may_grow: bool) -> bool:
    """Tell whether rows that were staged for some columns can be added to a table that has others by now.

    Args:
        staged, present: columns with their ids and types, see `resources.staging.column_ids`.
        may_grow: whether the table may have got more, which are null in these rows.
    """
    return set(staged) <= set(present) if may_grow else list(staged) == list(present)
