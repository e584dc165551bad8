"""`mimic status --follow`: what is queued and running, again and again, until it ended."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.ended import end_dead_runs
from mimic_assets.cli.output import print_line
from mimic_assets.cli.planning import planned
from mimic_assets.cli.trainings import epoch_of, words_of
from mimic_assets.planning import make_plan
from mimic_core.planner import Plan
from mimic_core.selection import find_partitions
from mimic_core.world import Node, State, World

if TYPE_CHECKING:
    from rich.table import Table

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10  # without anything queued or running, since a build may be about to begin
IN_FLIGHT = (State.QUEUED, State.RUNNING)

Lines = dict[Node, tuple[str, str]]  # state, and how far it is


def watch(keys: Sequence[str]) -> None:
    """Show the partitions in flight, all or those of some keys, until none has been for a while."""
    seen: Lines = {}
    with planned() as now, _shown() as show:
        asked = set(find_partitions(keys, now.plan.partitions)) if keys else None
        plan, world, quiet = now.plan, now.world, time.monotonic()
        while True:
            lines = _lines(plan, world, asked, now.resources)
            lines |= {node: (str(plan.partitions[node].state), "") for node in seen if _ended(node, lines, plan)}
            show({node: said for node, said in lines.items() if seen.get(node) != said}, lines)
            seen = {node: said for node, said in lines.items() if said[0] in IN_FLIGHT}
            if seen:
                quiet = time.monotonic()
            elif time.monotonic() > quiet + PATIENCE_SECONDS:
                break
            time.sleep(LOOK_SECONDS)
            end_dead_runs(now.instance, now.resources)
            plan, world = make_plan(now.instance, now.resources["inventory"])
    click.echo("nothing is queued or running")


def _ended(node: Node, lines: Lines, plan: Plan) -> bool:
    return node not in lines and node in plan.partitions


def _lines(plan: Plan, world: World, asked: set[Node] | None, resources: dict[str, Any]) -> Lines:
    found = [partition for partition in plan.partitions.values() if partition.state in IN_FLIGHT]
    lines = {}
    for partition in found:
        if asked is None or partition.node in asked:
            running = partition.state == State.RUNNING
            epoch = epoch_of(partition, world, resources["artefacts"]) if running else None
            lines[partition.node] = (str(partition.state), words_of(epoch) if epoch else "")
    return lines


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
