"""`mimic plan`: what is to be rebuilt, in which order, why, and how long that may take."""

from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import EMPTY, about, print_json, print_line
from mimic_assets.cli.planning import ends_without_home, opened
from mimic_assets.cli.servers import ServerNamed, named_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]  # of a partition

KEYS = click.argument("keys", metavar="[KEY]...", nargs=-1)
FAILED = click.option("--failed", is_flag=True, help="Also what failed at the version that it should have.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
NOTHING: "Mapping[str, Any]" = {"partitions": [], "not_built": []}  # what `--json` prints where there is no home
ADVICE = {
    "failed at this version": "`mimic rebuild KEY` tries again, --failed all but those refreshed by hand",
    "refreshed by hand": "`mimic rebuild KEY` builds it",
}


@click.command()
@KEYS
@FAILED
@AS_JSON
def plan(keys: tuple[str, ...], failed: bool, as_json: bool) -> None:
    """Show what `mimic rebuild` would build, and what it would not.

    In order, upstream first, with the reasons and the time that each may take: as long as its last build, or as others of
    its experiment or stage; a training that goes on, as its epochs took. KEY and --failed are as in `mimic rebuild`.

    \b
    Examples:
      mimic plan
      mimic plan mimic-log-odds/example-dataset --json
      mimic --server https://dagster.example.org plan
    """
    server = named_server()
    if server is None and ends_without_home(keys, NOTHING if as_json else None):
        return
    document = _document(server, keys, failed)
    print_plan(document, as_json)
    if not as_json and document.get("held", {}).get("builds"):
        held = document["held"]
        print_line(
            f"more than MIMIC_MAX_RUNS_PER_CHANGE ({held['most']}): where rebuild_sensor is on, {held['builds']:,} "
            "of these wait until somebody launches the job approve_rebuild; `mimic rebuild` does not wait"
        )


def _document(server: "ServerNamed | None", keys: tuple[str, ...], failed: bool) -> dict[str, Any]:
    """Return the plan, of this machine or of a server."""
    if server is not None:
        from mimic_assets.cli.remote import connect

        return connect(server).ask("plan", keys=keys, failed=failed)
    from mimic_assets.plans import plan_document

    with opened() as (instance, resources):
        return plan_document(instance, resources, keys, failed)


def print_plan(document: "Mapping[str, Any]", as_json: bool) -> None:
    """Print what would be built and what not, of `mimic_assets.plans.described`, as JSON or for people."""
    rows, left_out = document["partitions"], document["not_built"]
    if as_json:
        print_json({"partitions": rows, "not_built": left_out})
        return
    if rows:
        click.echo("to be built, in this order:")
        for row in rows:
            _print_build(row)
        click.echo(_total([row["seconds"] for row in rows]))
    else:
        print_nothing(left_out, document["empty"])
    print_left_out(left_out)


def print_nothing(left_out: "Sequence[Row]", empty: bool) -> None:
    """Print that there is nothing to build."""
    if empty:
        click.echo(EMPTY)
    else:
        click.echo("nothing is to be built" if left_out else "nothing is to be built; everything is current")


def print_left_out(rows: "Sequence[Row]") -> None:
    """Print which partitions are left out, and why."""
    by_reason: dict[str, list[Row]] = {}
    for row in rows:
        by_reason.setdefault(row["why"], []).append(row)
    for why, partitions in by_reason.items():
        print_line(f"not built, {why}: {len(partitions):,}{f'; {ADVICE[why]}' if why in ADVICE else ''}")
        for row in partitions:
            print_line(f"{row['asset']} {row['key']}: {'; '.join(row['reasons'])}", indent="  ")


def _print_build(row: "Row") -> None:
    time = "time unknown" if row["seconds"] is None else f"about {about(row['seconds'])}"
    print_line(f"{row['asset']} {row['key']}, {time}: {'; '.join(row['reasons'])}", indent="  ")


def _total(seconds: "Sequence[float | None]") -> str:
    known = [number for number in seconds if number is not None]
    builds = f"{len(seconds):,} build{'s' * (len(seconds) > 1)}"
    if not known:
        return f"{builds}; nothing like {'them' if len(seconds) > 1 else 'it'} was built before, so the time is unknown"
    unknown = f", and {len(seconds) - len(known):,} of unknown time" if len(known) < len(seconds) else ""
    return f"{builds}, about {about(sum(known))} one after another{unknown}"
