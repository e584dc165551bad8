"""`mimic status --follow`: what is queued and running, again and again, until it ended."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_line
from mimic_assets.cli.trainings import words_of
from mimic_core.world import Node, State

if TYPE_CHECKING:
    from rich.table import Table

LOOK_SECONDS = 0.5
LOOK_THERE_SECONDS = 2  # at a server
PATIENCE_SECONDS = 10  # without anything queued or running, since a build may be about to begin
IN_FLIGHT = (State.QUEUED, State.RUNNING)

Lines = dict[Node, tuple[str, str]]  # state, and how far it is
Look = Callable[[Collection[Node]], list[dict[str, Any]]]


def watch(look: Look, pause_seconds: float = LOOK_SECONDS) -> None:
    """Show the partitions in flight until none has been for a while.

    Args:
        look: gives the rows of the partitions in flight, and of some others, see `mimic_assets.standing.in_flight`.
        pause_seconds: between two looks.
    """
    seen: Lines = {}
    quiet = time.monotonic()
    with _shown() as show:
        while seen or time.monotonic() < quiet + PATIENCE_SECONDS:
            lines = {Node(row["asset"], row["key"]): _line(row) for row in look(seen)}
            show({node: said for node, said in lines.items() if seen.get(node) != said}, lines)
            seen = {node: said for node, said in lines.items() if said[0] in IN_FLIGHT}
            if seen:
                quiet = time.monotonic()
            time.sleep(pause_seconds)
    click.echo("nothing is queued or running")


def _line(row: dict[str, Any]) -> tuple[str, str]:
    return row["state"], words_of(row["epoch"]) if row["epoch"] else ""


@contextmanager
def _shown() -> Iterator[Callable[[Lines, Lines], None]]:
    """Give what shows the lines that changed, and all: a table that stays where it is on a terminal, else lines."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        yield _print
        return
    with Live(console=console, auto_refresh=False) as live:

        def show(changed: Lines, lines: Lines) -> None:
            for node, said in changed.items():
                if said[0] not in IN_FLIGHT:
                    live.console.print(f"{node}: {said[0]}", highlight=False)  # stays above the table
            live.update(_table({node: said for node, said in lines.items() if said[0] in IN_FLIGHT}), refresh=True)

        yield show


def _print(changed: Lines, _: Lines) -> None:
    for node, said in changed.items():
        print_line(f"{node}: {', '.join(filter(None, said))}")


def _table(lines: Lines) -> "Table":
    from rich.table import Table

    table = Table(box=None, show_header=bool(lines))
    for name in ("asset", "key", "state", "progress"):
        table.add_column(name, no_wrap=name != "key")
    for node, (state, progress) in lines.items():
        table.add_row(node.asset, node.key, state, progress)
    return table
