"""Choices shown: how Dagster shows the sizes of choice sets and the shares of alternatives, as pictures and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mimic_assets.pictures import and_more, markdown_table, picture
from mimic_core import profile_plots

MOST_ROWS = 40  # of a table


def choice_sets_shown(sizes: Sequence[tuple[int, int]], of: str = "") -> dict[str, Any]:
    """Return the metadata for the sizes of choice sets; none without decisions.

    Args:
        sizes: number of choices, ascending, and how many decisions offer so many.
        of: what each name begins with, where they are not those of the partition that is shown.
    """
    if not sizes:
        return {}
    decisions, rows = (sum(values) for values in zip(*((count, size * count) for size, count in sizes), strict=True))
    return {
        f"{of}choice_sets": picture("choice-set sizes", profile_plots.choice_set_sizes(sizes)),
        f"{of}choices_per_decision": float(f"{rows / decisions:.6g}"),
        f"{of}largest_choice_set": sizes[-1][0],
        f"{of}single_choice_decisions": dict(sizes).get(1, 0),
    }


def offered_shown(alternatives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata for how often alternatives are offered and selected; none where choices have no labels."""
    return _shown(alternatives, ("offered", "selected"), "share of selected")


def paired_shown(alternatives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata for how often alternatives are the selected or the rejected one of a pair; none without labels."""
    rows = [{**row, "rejected": row["offered"] - row["selected"]} for row in alternatives]
    return _shown(rows, ("selected", "rejected"), "share of selected")


def _shown(rows: Sequence[Mapping[str, Any]], kinds: tuple[str, str], heading: str) -> dict[str, Any]:
    if not rows:
        return {}
    total = max(1, sum(row["selected"] for row in rows))
    cells = [
        (row["alternative"], *(f"{row[kind]:,}" for kind in kinds), f"{row['selected'] / total:.4f}")
        for row in [row for row in rows if row["alternative"] is not None][:MOST_ROWS]
    ]
    more = sum(row.get("labels", 1) for row in rows) - len(cells)
    table = markdown_table([("alternative", *kinds, heading), *cells])
    return {
        "alternatives": picture("shares of alternatives", profile_plots.alternative_shares(rows, kinds)),
        "alternatives_table": dg.MetadataValue.md(table + and_more(more)),
    }
