"""Columns: how Dagster shows what the columns of a table hold, and where they come from."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mimic_core.column_lineage import Origin, column_lineage, origins_in_words
from mimic_core.meanings import TABLES, UNIQUE, meaning_of

MOST_DRAWN = 12  # columns that one comes from: each would be a line to a box, and of more nobody sees anything
SCHEMA, LINEAGE = "dagster/column_schema", "dagster/column_lineage"


def usual_columns(asset: str) -> dict[str, dg.TableSchema]:
    """Return the metadata of an asset for the columns that all its tables have, or may have; none where it has no table."""
    columns = TABLES.get(asset, {})
    return {SCHEMA: table_schema(asset, {name: column.type for name, column in columns.items()})} if columns else {}


def columns_shown(document: dict[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of a build for its columns; `document` is its manifest."""
    if not types:
        return {}
    origins = column_lineage(document, list(types))
    lineage = {
        name: [dg.TableColumnDep(asset_key=asset, column_name=column) for asset, column in above]
        for name, above in origins.items()
        if len(above) <= MOST_DRAWN
    }
    return {SCHEMA: table_schema(document["asset"], types, origins), LINEAGE: dg.TableColumnLineage(lineage)}


def table_schema(
    asset: str, types: Mapping[str, str], origins: Mapping[str, Sequence[Origin]] | None = None
) -> dg.TableSchema:
    """Describe the columns of a table of an asset.

    Args:
        types: column -> type, in the order of the table. What should be unique is said where all columns of it are there.
        origins: column -> the columns that it comes from. The open-source UI (1.13) draws no column lineage, so it is
            said in words too.
    """
    unique = UNIQUE.get(asset, ())
    return dg.TableSchema(
        [_column(asset, name, kind, (origins or {}).get(name, ())) for name, kind in types.items()],
        dg.TableConstraints(other=[f"unique: {', '.join(unique)}"]) if unique and types.keys() >= set(unique) else None,
    )


def _column(asset: str, name: str, kind: str, origins: Sequence[Origin]) -> dg.TableColumn:
    known = TABLES.get(asset, {}).get(name)
    said = [meaning_of(asset, name), *([origins_in_words(origins)] if origins else [])]
    return dg.TableColumn(
        name,
        kind,
        description="; ".join(said),
        constraints=dg.TableColumnConstraints(nullable=known is None or known.nullable),
        tags={"optional": ""} if known and known.optional else {},
    )
