"""Alternatives: the tables by label that manifests hold and Dagster shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from mimic_assets.pictures import markdown_table
from mimic_core.alternatives import AlternativeShare

HEADER = ("alternative", "offered", "selected", "observed share", "predicted share")

Tables = dict[str, list[dict[str, Any]]]


def labelled(tables: Mapping[str, Sequence[AlternativeShare]], labels: Mapping[int, Any]) -> Tables:
    """Return the tables of splits as plain values, each alternative by its label, in the order of the labels."""
    rows = {split: [asdict(each) for each in table] for split, table in tables.items() if table}
    named = {
        split: [row | {"alternative": str(labels[row["alternative"]])} for row in table] for split, table in rows.items()
    }
    return {split: sorted(table, key=lambda row: str(row["alternative"])) for split, table in named.items()}


def alternatives_shown(tables: Tables) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the metadata for the tables of a manifest; none where choices have no labels."""
    parts = [f"{split}\n\n{markdown_table([HEADER, *map(_cells, table)])}" for split, table in tables.items()]
    return {"alternatives": dg.MetadataValue.md("\n\n".join(parts))} if parts else {}


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    shares = (f"{row[name]:.4f}" for name in ("observed_share", "predicted_share"))
    return (row["alternative"], f"{row['offered']:,}", f"{row['selected']:,}", *shares)
