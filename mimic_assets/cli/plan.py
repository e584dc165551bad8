"""`mimic plan`: what is to be rebuilt, in which order, why, and how long that may take."""

import time
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import EMPTY, about, print_json, print_line
from mimic_assets.cli.planning import ends_without_home, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mimic_core.planner import Partition, Plan
    from mimic_core.selection import LeftOut, Scope, Work
    from mimic_core.world import Node, World

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
    """
    if ends_without_home(keys, NOTHING if as_json else None):
        return
    with planned() as now:
        scope = scope_of(keys, failed, now.plan)
    print_plan(now.plan, now.world, scope(now.plan), as_json)
    if not as_json and not keys:
        _print_held(now.plan, now.resources)


def scope_of(keys: "Sequence[str]", failed: bool, plan: "Plan") -> "Callable[[Plan], Scope]":
    """Return what gives the scope of `mimic rebuild` in a plan: all partitions, or those of some keys and what is above.

    Raises:
        SpecError: a key means nothing, several partitions, or a source table.
    """
    from mimic_core.selection import Scope, find_partitions

    if not keys:
        return lambda _: Scope(failed=failed)
    named = find_partitions(keys, plan.partitions)
    refuse_sources(named)
    return lambda plan: Scope(nodes={*named, *plan.above(named)}, named=set(named), failed=failed)


def refuse_sources(named: "Sequence[Node]") -> None:
    """Check that partitions can be built.

    Raises:
        SpecError: one of them is a source table.
    """
    from mimic_core.errors import SpecError
    from mimic_core.world import SOURCE

    if sources := [node.key for node in named if node.asset == SOURCE]:
        raise SpecError(
            f"{', '.join(sources)}: source tables are imported, not built; "
            f"`mimic build --downstream {sources[0]}` builds what hangs on it"
        )


def print_plan(plan: "Plan", world: "World", scope: "Scope", as_json: bool) -> None:
    """Print what would be built of a scope and what not, as JSON or for people."""
    from mimic_core.planner import expected_seconds
    from mimic_core.selection import find_work

    work = find_work(plan, scope)
    seconds = expected_seconds([partition.node for partition in work.to_build], world)
    if as_json:
        rows = [row(partition) | {"seconds": seconds[partition.node]} for partition in work.to_build]
        print_json({"partitions": rows, "not_built": not_built(work, plan)})
        return
    if work.to_build:
        click.echo("to be built, in this order:")
        for partition in work.to_build:
            _print_build(partition, seconds[partition.node])
        click.echo(_total(seconds))
    else:
        print_nothing(work, plan)
    print_left_out(work, plan)


def row(partition: "Partition") -> dict[str, Any]:
    """Return what `--json` prints of a partition."""
    return {
        "asset": partition.node.asset,
        "key": partition.node.key,
        "state": str(partition.state),
        "reasons": list(partition.reasons),
    }


def not_built(work: "Work", plan: "Plan") -> list[dict[str, Any]]:
    """Return what `--json` prints of the partitions that are left out."""
    return [row(plan.partitions[node]) | {"why": str(why)} for node, why in work.left_out.items()]


def print_nothing(work: "Work", plan: "Plan") -> None:
    """Print that there is nothing to build."""
    if not plan.partitions:
        click.echo(EMPTY)
    else:
        click.echo("nothing is to be built" if work.left_out else "nothing is to be built; everything is current")


def print_left_out(work: "Work", plan: "Plan") -> None:
    """Print which partitions are left out, and why."""
    by_reason: dict[LeftOut, list[Partition]] = {}
    for node, why in work.left_out.items():
        by_reason.setdefault(why, []).append(plan.partitions[node])
    for why, partitions in by_reason.items():
        print_line(f"not built, {why}: {len(partitions):,}{f'; {ADVICE[why]}' if why in ADVICE else ''}")
        for partition in partitions:
            print_line(f"{partition.node}: {'; '.join(partition.reasons)}", indent="  ")


def _print_held(plan: "Plan", resources: "Mapping[str, Any]") -> None:
    """Print how many builds the sensor would not ask for by itself."""
    from mimic_core.rebuilds import choose
    from resources.rebuilding import approved

    policy = resources["rebuild_policy"].policy()
    if held := choose(plan, policy, time.time(), approved(resources["artefacts"])).held:
        print_line(
            f"more than MIMIC_MAX_RUNS_PER_CHANGE ({policy.max_runs_per_change}): where rebuild_sensor is on, {len(held):,} "
            "of these wait until somebody launches the job approve_rebuild; `mimic rebuild` does not wait"
        )


def _print_build(partition: "Partition", seconds: float | None) -> None:
    time = "time unknown" if seconds is None else f"about {about(seconds)}"
    print_line(f"{partition.node}, {time}: {'; '.join(partition.reasons)}", indent="  ")


def _total(seconds: "Mapping[Node, float | None]") -> str:
    known = [number for number in seconds.values() if number is not None]
    builds = f"{len(seconds):,} build{'s' * (len(seconds) > 1)}"
    if not known:
        return f"{builds}; nothing like {'them' if len(seconds) > 1 else 'it'} was built before, so the time is unknown"
    unknown = f", and {len(seconds) - len(known):,} of unknown time" if len(known) < len(seconds) else ""
    return f"{builds}, about {about(sum(known))} one after another{unknown}"
