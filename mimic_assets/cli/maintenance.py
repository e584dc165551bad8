"""`mimic tables maintain` and `mimic gc`: remove what is out of use, and say what and how much."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    from resources.garbage import Collected
    from resources.maintenance import Maintained
    from resources.usage import InUse

DRY_RUN = click.option("--dry-run", is_flag=True, help="Change nothing; print what would be done.")
GRACE = click.option(
    "--grace",
    metavar="HOURS",
    type=click.FloatRange(0),
    default=24,
    show_default=True,
    help="How long a file that nothing names stays; longer than any import that may be running.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


@click.command()
@click.argument("names", metavar="[DATABASE.TABLE...]", nargs=-1)
@click.option(
    "--keep",
    metavar="DAYS",
    type=click.FloatRange(0),
    default=7,
    show_default=True,
    help="How long an old version stays after it was superseded.",
)
@GRACE
@DRY_RUN
@AS_JSON
def maintain(names: tuple[str, ...], keep: float, grace: float, dry_run: bool, as_json: bool) -> None:
    """Expire old versions of tables, compact small files, remove files that nothing names.

    Without names, all tables. Neither rows nor content change, so nothing is out of date after it, and unfinished runs keep
    what they read: nothing that went out of use since the oldest of them began is removed.

    \b
    Examples:
      mimic tables maintain --dry-run
      mimic tables maintain haven.example_log_odds_features --keep 30
    """
    from mimic_assets.cli.environment import local_resources, require_home
    from resources.maintenance import Terms
    from resources.upkeep import maintain_all

    require_home()
    resources = local_resources()
    done = []
    with _usage() as usage, _progress() as say:

        def terms() -> Terms:
            return Terms(in_use=usage(), keep=keep * 86400, grace=grace * 3600, dry_run=dry_run)

        for result in maintain_all(resources["tables"], resources["artefacts"], names, terms):
            say(f"{result.table}: {'left alone' if result.error else 'done'}")
            done.append(result)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "tables": [result.document() for result in done]}, indent=1))
    else:
        _print_tables(done, dry_run)
    _finish([f"{result.table}: {result.error}" for result in done if result.error])


@click.command()
@GRACE
@DRY_RUN
@AS_JSON
def gc(grace: float, dry_run: bool, as_json: bool) -> None:
    """Remove files that no manifest and no unfinished run refers to.

    These are superseded and abandoned versions of datasets, models and reports, those of retired runs, old versions of
    specs, what killed writers left, and folders that are empty then. Nothing that went out of use since the oldest
    unfinished run began is removed. `mimic tables maintain` does the same for tables.

    \b
    Examples:
      mimic gc --dry-run
      mimic gc --grace 0
    """
    from mimic_assets.cli.environment import local_resources, require_home
    from resources.garbage import collect_garbage
    from resources.maintenance import Terms

    require_home()
    resources = local_resources()
    with _usage() as usage, _progress() as say:
        say("looking")
        terms = Terms(in_use=usage(), grace=grace * 3600, dry_run=dry_run)
        found = collect_garbage(resources["artefacts"], resources["specs"], terms)
    if as_json:
        removed = [item.document() for item in found.garbage]
        click.echo(json.dumps({"dry_run": dry_run, "bytes": found.bytes, "removed": removed}, indent=1))
    else:
        _print_garbage(found, dry_run)
    _finish(found.left)


@contextmanager
def _usage() -> "Iterator[Callable[[], InUse]]":
    """Say what unfinished runs use, and give what asks it anew."""
    from datetime import UTC, datetime
    from math import isfinite

    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.live import in_use

    with open_instance() as instance:
        end_dead_runs(instance, local_resources())
        used = in_use(instance)
        if isfinite(used.since):
            since = datetime.fromtimestamp(used.since, UTC).isoformat(timespec="seconds")
            click.echo(
                f"what went out of use after {since} stays, when the oldest of these unfinished runs began: "
                f"{', '.join(sorted(used.runs))}",
                err=True,
            )
        yield lambda: in_use(instance)


def _print_tables(done: "list[Maintained]", dry_run: bool) -> None:
    from rich.table import Table

    shown = Table("table", title="nothing was changed; this would be done" if dry_run else None)
    for name in ("versions expired", "files compacted", "into", "files removed", "bytes freed"):
        shown.add_column(name, justify="right")
    touched = 0
    for result in done:
        numbers = (result.expired, result.compacted, result.into, result.files, result.bytes)
        if any(numbers):
            shown.add_row(result.table, *(f"{number:,}" for number in numbers))
            touched += 1
    if touched:
        print_table(shown)
    click.echo(f"nothing to do for {len(done) - touched:,} of {len(done):,} tables" if len(done) > touched else "done")


def _print_garbage(found: "Collected", dry_run: bool) -> None:
    from rich.table import Table

    if found.garbage:
        shown = Table("what", "path")
        shown.add_column("bytes", justify="right")
        for item in found.garbage:
            shown.add_row(item.reason, item.path, f"{item.bytes:,}")
        print_table(shown)
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {len(found.garbage):,} files and version folders, {found.bytes:,} bytes")


def _finish(left: Any) -> None:
    for message in left:
        click.echo(f"mimic: left alone: {message}", err=True)
    if left:
        raise click.exceptions.Exit(1)


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("maintaining") as spinner:
        yield spinner.update
