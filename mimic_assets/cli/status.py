"""`mimic status`: every partition of every stage, what it is, and why those are not current that are not."""

from collections import Counter
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import EMPTY, print_columns, print_json, print_line, print_table
from mimic_assets.cli.plan import AS_JSON, KEYS
from mimic_assets.cli.planning import ends_without_home, opened
from mimic_assets.cli.servers import ServerNamed, named_server
from mimic_assets.cli.trainings import words_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mimic_assets.cli.watching import Look
    from mimic_core.world import Node

COLOURS = {"current": "green", "failed": "red", "missing": "yellow", "out_of_date": "yellow", "waiting": "yellow"}
COLUMNS = {
    "asset": 0,
    "key": 0,
    "state": 0,
    "version": 170,
    "counts": 140,
    "since": 110,
    "run_id": 200,
}  # from which width on, if shown
MOST_IN_TABLE = 300  # rows; it takes 0.5 CPU seconds per 1,000, lines a hundredth of that
MOST_ALIKE = 3  # partitions that are named with one reason; the table has the others


@click.command()
@KEYS
@click.option(
    "--follow", is_flag=True, help="Show what is queued and running as it goes on, epoch by epoch, until it ended."
)
@AS_JSON
def status(keys: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Show what is current, and why the rest is not.

    Every partition of every stage, or those of some KEYs, with version, counts, and since when it is what it is. A narrow
    terminal shows fewer columns. Files of the spec folder that are not registered are named below.

    \b
      current      made from its spec, by this code, from its inputs as they are
      out_of_date  something of these changed
      waiting      for an input that is not current
      missing      never built, or removed
      failed       its last build at the version that it should have failed
      queued, running

    \b
    Examples:
      mimic status
      mimic status 07c49bc0 --json
      mimic status --follow
      mimic --server https://dagster.example.org status
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json do not go together; give one of them")
    server = named_server()
    if server is None and ends_without_home(
        keys, {"partitions": [], "spec_files": {}, "spec_folder": None} if as_json else None
    ):
        return
    if follow:
        from mimic_assets.cli.watching import LOOK_SECONDS, LOOK_THERE_SECONDS, watch

        with _looks_at_flights(server, keys) as look:
            watch(look, LOOK_SECONDS if server is None else LOOK_THERE_SECONDS)
        return
    document = _document(server, keys)
    if as_json:
        print_json(document)
        return
    rows = document["partitions"]
    if rows:
        _print(rows)
        _print_reasons(rows)
        _print_notes(rows)
    else:
        click.echo(EMPTY)
    for file, problem in document["spec_files"].items():
        print_line(f"spec file {file} is not registered: {problem}")
    if document["spec_folder"]:
        print_line(f"spec folder: {document['spec_folder']}")


def _document(server: "ServerNamed | None", keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what `--json` prints, of this machine or of a server."""
    if server is not None:
        from mimic_assets.cli.remote import connect

        return connect(server).ask("status", keys=keys)
    from mimic_assets.standing import status_document

    with opened() as (instance, resources):
        return status_document(instance, resources, keys)


@contextmanager
def _looks_at_flights(server: "ServerNamed | None", keys: tuple[str, ...]) -> "Iterator[Look]":
    """Give what looks at the partitions in flight, and at those that were, on this machine or on a server."""
    if server is not None:
        from mimic_assets.cli.remote import connect

        connected = connect(server)
        yield lambda seen: connected.ask("in_flight", keys=keys, seen=list(seen))["partitions"]
        return
    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.standing import in_flight

    with opened() as (instance, resources):

        def look(seen: "Collection[Node]") -> list[dict[str, Any]]:
            end_dead_runs(instance, resources)
            return in_flight(instance, resources, keys, seen)

        yield look


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console()
    shown = [each | {"counts": _counts(each["counts"])} for each in rows]
    if console.is_terminal and len(rows) <= MOST_IN_TABLE:
        _print_table(shown, [name for name, width in COLUMNS.items() if console.width >= width])
    else:
        print_columns([list(COLUMNS), *([each[name] or "" for name in COLUMNS] for each in shown)])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in list(counts.items())[:4])


def _print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in columns:
        # a run id that is cut short cannot be copied
        table.add_column(name, overflow="fold", no_wrap=name not in ("key", "counts"))
    for each in rows:
        shown = each | {"state": Text(each["state"], style=COLOURS.get(each["state"], "cyan"))}
        table.add_row(*(shown[name] or "" for name in columns))
    print_table(table)


def _print_reasons(rows: list[dict[str, Any]]) -> None:
    """Print why partitions are not current; many that are alike are named together."""
    from mimic_core.wording import listed

    behind = [each for each in rows if each["state"] != "current"]
    for (asset, reasons), alike in groupby(behind, key=lambda each: (each["asset"], each["reasons"])):
        keys = [each["key"] for each in alike]
        print_line(f"{asset} {listed(keys, MOST_ALIKE)}: {'; '.join(reasons)}")
    if behind:
        counted = Counter(each["state"] for each in rows)
        click.echo(", ".join(f"{number:,} {state}" for state, number in counted.items()) + "; see `mimic plan`")


def _print_notes(rows: list[dict[str, Any]]) -> None:
    """Print what a state does not tell: what the rows of a table break, and how far a training is."""
    for each in rows:
        if each["broken"]:
            print_line(f"{each['asset']} {each['key']}: {each['broken']}; see `mimic tables check {each['key']}`")
        if each["epoch"]:
            kept = "" if each["state"] == "running" else "an unfinished training is kept, "
            print_line(f"{each['asset']} {each['key']}: {kept}{words_of(each['epoch'])}")
