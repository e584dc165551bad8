"""The overview: one asset without partitions, whose newest materialization says how everything stands."""

import re
from typing import Any

import dagster as dg

from mimic_assets.failures import fails_clearly
from mimic_assets.pictures import and_more, behind_a_link, inert, markdown_table
from mimic_assets.planning import plan_with_reports
from mimic_core.overview import Overview, compose
from resources.inventory import Inventory

AT_ONCE = 900  # characters; Dagster's page puts Markdown of 1,000 and more behind a link
# pixels: what the page leaves for a table on a screen of 1,500, and what a letter, one of a heading, and a column take
ROOM, LETTER, SMALL_LETTER, COLUMN = 400, 8.4, 6.2, 16
LINK, PARTS = re.compile(r"\[(.*?)\]\(.*?\)"), re.compile(r"(?<=-)| ")
ELSEWHERE = "; the pages of the assets have all of them"


@dg.asset(group_name="overview", kinds={"markdown"})
@fails_clearly
def overview(context: dg.AssetExecutionContext, inventory: Inventory) -> dg.MaterializeResult[Any]:
    """Begin here: what there is in every stage, what is out of date and why, and how good the newest is.

    - *Overview* and the newest materialization show it. `attention` names what needs somebody, and what to do.
      Then come the best run of each experiment and the newest of the other stages, with their key numbers. Runs on pairs
      stand apart: their numbers do not compare with the others'. The numbers by stage and state are plotted over time.
    - The sensor `up_to_date_sensor` refreshes it within a minute of every change. *Materialize* does so at once.
    - `mimic status` says on a terminal what is up to date, of all but the reports, which are made when somebody asks.
    """
    return dg.MaterializeResult(metadata=overview_shown(compose(*plan_with_reports(context.instance, inventory))))


def overview_shown(found: Overview) -> dict[str, Any]:
    """Return the metadata that shows an overview: tables as far as they are seen at once, and what needs attention."""
    shown = {"stages": dg.MetadataValue.md(markdown_table(list(found.stages)))}
    behind, rows = sum(found.behind.values()), list(found.attention)
    if behind:
        shown["attention"] = dg.MetadataValue.md(_first_lines(rows[1:], behind))
    if len(markdown_table(rows, numbers=False)) >= AT_ONCE:
        shown["all attention"] = behind_a_link(
            markdown_table(rows, numbers=False) + and_more(behind - len(rows) + 1, ELSEWHERE)
        )
    for title, table in found.newest.items():
        shown |= _newest_shown(title, list(table), found.built[title])
    return {**shown, **found.numbers}


def _first_lines(rows: list[tuple[str, ...]], whole: int) -> str:
    """Return what needs attention, of which the page breaks the lines, as far as it is seen at once.

    Each is a paragraph: of a list the page cuts off what is as wide as its margin, and of a table more.
    """
    lines: list[str] = []
    for partition, state, advice in rows:
        line = inert(f"{partition} {state}. To do: {advice}")
        if lines and len("\n\n".join([*lines, line])) >= AT_ONCE:
            break
        lines.append(line)
    return "\n\n".join(lines) + and_more(whole - len(lines), ELSEWHERE)


def _newest_shown(title: str, rows: list[tuple[str, ...]], whole: int) -> dict[str, Any]:
    """Return a table as far as it is seen at once: all rows, if need be with fewer columns, else the first; and as it is.

    Args:
        whole: how many rows there are, of which `rows` may be some.
    """
    table = markdown_table(rows) + and_more(whole - len(rows) + 1, ELSEWHERE)
    widest = max((number for number in range(2, len(rows[0]) + 1) if _width(rows, number) <= ROOM), default=2)
    narrower = ([row[:number] for row in rows] for number in range(widest, 1, -1))
    seen = next((part for part in narrower if len(markdown_table(part)) < AT_ONCE), [row[:widest] for row in rows])
    kept = max((number for number in range(2, len(seen) + 1) if len(markdown_table(seen[:number])) < AT_ONCE), default=2)
    if seen[:kept] == rows:
        return {title: dg.MetadataValue.md(table)}
    at_once = markdown_table(seen[:kept]) + and_more(whole - kept + 1, ELSEWHERE)
    return {title: dg.MetadataValue.md(at_once), f"all {title}": behind_a_link(table)}


def _width(rows: list[tuple[str, ...]], columns: int) -> float:
    """Return how many pixels some columns need; a table that needs more than there are moves the ends of all lines away."""
    heading, *others = rows
    return sum(
        COLUMN + max(SMALL_LETTER * _longest(heading[column]), *(LETTER * _longest(row[column]) for row in others))
        for column in range(columns)
    )


def _longest(cell: str) -> int:
    """Return the letters of the longest part of a cell in which the page does not break the line."""
    return max(map(len, PARTS.split(LINK.sub(r"\1", cell))))
