"""Output: how tables and lines are printed on standard output. Imported at start-up, so nothing heavy stands here."""

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

EMPTY = "nothing yet; import a table with `mimic tables import DATABASE.TABLE FILE`"  # said by many commands
RUN_ID = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")


def print_table(table: "Table") -> None:
    """Print a table; a pipe or file gets whole lines, never cut to the width of a terminal."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=400)).print(table)


def print_columns(rows: "Sequence[Sequence[str]]", indent: str = "", *, numbers: bool = False) -> None:
    """Print rows as lines whose columns are aligned; numbers in all but the first column end below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = [str.ljust] + [str.rjust if numbers else str.ljust] * (len(widths) - 1)
    cells = ([to(cell, width) for to, cell, width in zip(align, row, widths, strict=True)] for row in rows)
    lines = (f"{indent}{'  '.join(row)}".rstrip() for row in cells)
    click.echo("\n".join(lines))


def print_line(text: str, indent: str = "", colour: str | None = None) -> None:
    """Print a text for people with a hanging indent, run ids by their first digits, by which commands know them too.

    A terminal gets it wrapped between words, a pipe or file whole lines.
    """
    from rich.console import Console

    console = Console()
    begin = indent
    for line in RUN_ID.sub(r"\1", text).splitlines():
        wrapper = textwrap.TextWrapper(console.width, initial_indent=begin, subsequent_indent=f"{indent}  ")
        wrapper.break_long_words = wrapper.break_on_hyphens = False  # a key that is cut cannot be copied
        click.secho(wrapper.fill(line) if console.is_terminal else f"{begin}{line}", fg=colour)
        begin = f"{indent}  "


def print_json(document: "Mapping[str, Any]") -> None:
    """Print one JSON object, a line for each entry of its lists; indented as a whole it would take ten times as long."""

    def text(value: object) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        return json.dumps(value)

    click.echo("{\n " + ",\n ".join(f"{json.dumps(name)}: {text(value)}" for name, value in document.items()) + "\n}")


def about(seconds: float) -> str:
    """Say how long something takes, as exactly as one can know it.

    >>> about(0.2), about(75), about(600), about(10_000)
    ('1 s', '75 s', '10 min', '2.8 h')
    """
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
