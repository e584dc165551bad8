"""`mimic status`: every partition of every stage, what it is, and why those are not current that are not."""

from collections import Counter
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import EMPTY, print_columns, print_json, print_line, print_table
from mimic_assets.cli.plan import AS_JSON, KEYS, row
from mimic_assets.cli.planning import ends_without_home, planned
from mimic_assets.cli.trainings import epoch_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import dagster as dg

    from mimic_core.planner import Partition
    from mimic_core.world import Node, World

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
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json do not go together; give one of them")
    if ends_without_home(keys, {"partitions": [], "spec_files": {}, "spec_folder": None} if as_json else None):
        return
    if follow:
        from mimic_assets.cli.watching import watch

        watch(keys)
        return
    from mimic_core.selection import find_partitions

    with planned() as now:
        nodes = find_partitions(keys, now.plan.partitions) if keys else list(now.plan.partitions)
        times = _times_of_runs(now.instance, now.world, nodes)
    partitions = [now.plan.partitions[node] for node in nodes]
    rows = [_row(partition, now.world, times, now.resources) for partition in partitions]
    not_registered, unknown = ({}, "") if keys else _not_registered(now.resources, now.world)
    if as_json:
        print_json({"partitions": rows, "spec_files": not_registered, "spec_folder": unknown or None})
    elif rows:
        _print(rows)
        _print_reasons(partitions)
        _print_notes(rows)
    else:
        click.echo(EMPTY)
    if not as_json:
        for file, problem in not_registered.items():
            print_line(f"spec file {file} is not registered: {problem}")
        if unknown:
            print_line(f"spec folder: {unknown}")


def _not_registered(resources: dict[str, Any], world: "World") -> tuple[dict[str, str], str]:
    """Return why files of the spec folder are not registered as they are, and what is wrong with the folder as a whole."""
    from mimic_core.errors import CorruptFileError, StorageError
    from resources.spec_folder import overruled, problems, require_readable

    artefacts, found = resources["artefacts"], {}
    try:
        found = problems(artefacts) | overruled(artefacts, {node: said.digest for node, said in world.registered.items()})
        require_readable(resources["spec_folder"], artefacts)
    except (CorruptFileError, StorageError) as error:
        return found, str(error)
    return found, ""


def _row(partition: "Partition", world: "World", times: "dict[Node, float]", resources: dict[str, Any]) -> dict[str, Any]:
    from mimic_core.world import SOURCE, State

    node = partition.node
    if node.asset == SOURCE:
        table = world.sources[node.key]
        version, counts = table.token or None, {} if table.error else {"rows": table.rows}
    else:
        manifest = world.manifests.get(node, {})
        version, counts = manifest.get("version"), manifest.get("counts", {})
    since = times.get(node) or _since(partition, world)
    said = {
        "run_id": _run_id(node, world),
        "version": version,
        "counts": counts,
        "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds") if since else None,
        "error": _error(partition, world) if partition.state == State.FAILED else None,
        "broken": world.broken.get(node.key) if node.asset == SOURCE else None,
        "epoch": epoch_of(partition, world, resources["artefacts"]),
    }
    return row(partition) | said


def _run_id(node: "Node", world: "World") -> str | None:
    """Return the whole id of a run, of which its key has the beginning; None for all else, and where it cannot be read."""
    from mimic_core.world import RUN

    return world.registered[node].folder.rpartition("/")[2] or None if node.asset == RUN else None


def _since(partition: "Partition", world: "World") -> float | None:
    """Return since when a partition is what it is; None where nobody knows, for example since its files are gone."""
    from mimic_core.world import State

    manifest = world.manifests.get(partition.node, {})
    built_at = datetime.fromisoformat(manifest["built_at"]).timestamp() if "built_at" in manifest else 0.0
    if partition.state == State.CURRENT:
        return built_at or partition.changed_at
    return partition.changed_at if partition.changed_at > built_at else None


def _error(partition: "Partition", world: "World") -> str:
    failed = world.failed.get(partition.node)
    return (failed.reason if failed else "") or "; ".join(partition.reasons)


def _times_of_runs(instance: "dg.DagsterInstance", world: "World", nodes: "Iterable[Node]") -> "dict[Node, float]":
    """Return when the runs of the partitions that are in flight began, and those of the failed ones ended."""
    import dagster as dg

    attempts = {node: attempt for node in nodes if (attempt := world.in_flight.get(node) or world.failed.get(node))}
    if not attempts:
        return {}
    records = instance.get_run_records(dg.RunsFilter(run_ids=[attempt.run_id for attempt in attempts.values()]))
    times = {record.dagster_run.run_id: record.end_time or record.create_timestamp.timestamp() for record in records}
    return {node: times[attempt.run_id] for node, attempt in attempts.items() if attempt.run_id in times}


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


def _print_reasons(partitions: "list[Partition]") -> None:
    """Print why partitions are not current; many that are alike are named together."""
    from mimic_core.wording import listed
    from mimic_core.world import State

    behind = [partition for partition in partitions if partition.state != State.CURRENT]
    for (asset, reasons), alike in groupby(behind, key=lambda partition: (partition.node.asset, partition.reasons)):
        keys = [partition.node.key for partition in alike]
        print_line(f"{asset} {listed(keys, MOST_ALIKE)}: {'; '.join(reasons)}")
    if behind:
        counted = Counter(str(partition.state) for partition in partitions)
        click.echo(", ".join(f"{number:,} {state}" for state, number in counted.items()) + "; see `mimic plan`")


def _print_notes(rows: list[dict[str, Any]]) -> None:
    """Print what a state does not tell: what the rows of a table break, and how far a training is."""
    for each in rows:
        if each["broken"]:
            print_line(f"{each['asset']} {each['key']}: {each['broken']}; see `mimic tables check {each['key']}`")
        if each["epoch"]:
            kept = "" if each["state"] == "running" else "an unfinished training is kept, "
            print_line(f"{each['asset']} {each['key']}: {kept}{words_of(each['epoch'])}")
