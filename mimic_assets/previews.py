"""Previews: the first rows of what was built, as a table on Dagster's pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from mimic_core import heads
from resources.tables import Pin, TableStore

if TYPE_CHECKING:
    from mimic_core.history import Epoch

MOST_COLUMNS = 20  # that are read
# pixels: what the page of a partition leaves on a screen of 1,500, what a letter of a name and of a value, and a column take
ROOM, NAME_LETTER, LETTER, COLUMN = 580, 7.2, 8.4, 17
LONGEST_TEXT = 24  # a run id is cut to fewer digits
RUN_ID_DIGITS = 8
EXACT_IN_A_BROWSER = 2**53  # whole numbers below it


def preview_of(pin: Pin, tables: TableStore, rows: int, where: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the metadata for the first rows of a pinned version.

    Args:
        rows: how many; 0 reads and shows none.
        where: column -> value; only rows with these values.
    """
    if not rows:
        return {}
    names = tables.schema_of(pin).names
    return preview_shown(tables.first_rows(pin, shown_columns(names), rows, where), len(names))


def head_entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the manifest entries of the files of a dataset that its first rows are read from."""
    first = next(file for file in document["files"] if file["decisions"])
    ids = [entry for entry in document["id_tables"] if heads.are_ids_of(entry["path"], first["path"])]
    return [document["schema"], first, *ids]


def preview_of_dataset(folder: Path, features: int, rows: int) -> dict[str, Any]:
    """Return the metadata for the first rows of a dataset's version folder; none are read and shown for 0 `rows`."""
    if not rows:
        return {}
    head = heads.first_rows(folder, rows, MOST_COLUMNS)
    return preview_shown(head, len(head.column_names) + max(features - MOST_COLUMNS, 0))


def last_epochs_shown(history: "Sequence[Epoch]", rows: int) -> dict[str, Any]:
    """Return the metadata for the last epochs of a training, of which most people want to know; none for 0 `rows`."""
    return preview_shown(pa.Table.from_pylist([asdict(epoch) for epoch in history[-rows:]])) if rows else {}


def preview_shown(rows: pa.Table, columns: int | None = None) -> dict[str, Any]:
    """Return the metadata for some rows; none where there are none.

    Args:
        columns: how many there are, where not all were read.
    """
    if not len(rows):
        return {}
    read, every = rows.select(shown_columns(rows.column_names)), columns or len(rows.column_names)
    values = [{name: _short(value) for name, value in row.items()} for row in read.to_pylist()]
    shown = _fitting(read.column_names, values)
    records = [dg.TableRecord({name: row[name] for name in shown}) for row in values]
    types = dg.TableSchema([dg.TableColumn(name, str(read.schema.field(name).type)) for name in shown])
    # a table is shown at once, a Markdown text of more than 1,000 characters behind a link
    preview: dict[str, Any] = {"preview": dg.MetadataValue.table(records, types)}
    cut = {"columns": every, "columns_in_preview": len(types.columns)} if every > len(types.columns) else {}
    return preview | cut


def shown_columns(names: list[str]) -> list[str]:
    """Return the columns of a table that a preview has, in their order; of many the reserved ones and the first others."""
    if len(names) <= MOST_COLUMNS:
        return names
    chosen = set(_reserved_first(names)[:MOST_COLUMNS])
    return [name for name in names if name in chosen]


def _fitting(names: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """Return the columns that the page has room for; with more it would push the ends of all its lines out of sight."""
    chosen, room = set[str](), float(ROOM)
    for name in _reserved_first(names):
        room -= COLUMN + max(NAME_LETTER * len(name), *(LETTER * len(str(row[name])) for row in rows))
        if room < 0 and chosen:
            break
        chosen.add(name)
    return [name for name in names if name in chosen]


def _reserved_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: not name.startswith("_"))


def _short(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT_IN_A_BROWSER else str(value)
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    text = " ".join(str(value).split())
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:RUN_ID_DIGITS]
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
