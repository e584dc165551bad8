"""`mimic rebuild` and `mimic build`: registered partitions are built, stage by stage, planned anew after each."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import click

from mimic_assets.cli.output import print_json
from mimic_assets.cli.plan import AS_JSON, FAILED, KEYS, NOTHING, print_left_out, print_nothing, print_plan
from mimic_assets.cli.planning import Planned, ends_without_home, planned, say_what_is_current
from mimic_assets.cli.summary import sum_up

if TYPE_CHECKING:
    from mimic_assets.outcomes import Outcome
    from mimic_core.planner import Plan
    from mimic_core.selection import Scope, Work
    from mimic_core.world import Node


@click.command()
@KEYS
@FAILED
@click.option("--dry-run", is_flag=True, help="Build nothing; print what `mimic plan` prints.")
@AS_JSON
def rebuild(keys: tuple[str, ...], failed: bool, dry_run: bool, as_json: bool) -> None:
    """Build all that is not current, upstream first.

    With KEYs only these and what they hang on. KEY is as in `mimic status`, or ASSET:KEY, or at least 8 digits that begin a
    run id. What is refreshed by hand, or failed at the version that it should have, is built if its KEY is given. A build
    that was interrupted did not fail; one that was canceled in the UI did. A failure ends nothing but what hangs on it.

    The exit status is 1 when a build failed, or something was left out because it failed before or cannot be read. What is
    refreshed by hand, is being built already, or waits for something else, does not count.

    \b
    Examples:
      mimic rebuild --dry-run
      mimic rebuild
      mimic rebuild 07c49bc0 --failed
    """
    if ends_without_home(keys, NOTHING if as_json else None):
        return
    from mimic_assets.plans import described, scope_of

    with planned() as now:
        scope = scope_of(keys, failed, now.plan)
        if dry_run:
            print_plan(described(now.plan, now.world, scope(now.plan)), as_json)
        else:
            _finish(*_work_off(now, now.plan, scope), as_json)


@click.command()
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--downstream", is_flag=True, help="Then build everything that hangs on them and is not current.")
@AS_JSON
def build(keys: tuple[str, ...], downstream: bool, as_json: bool) -> None:
    """Build registered partitions now, whatever their state.

    They are built from what is published, as by Materialize in the UI. KEY is as in `mimic rebuild`; with --downstream it
    may be a source table.

    \b
    Examples:
      mimic build mimic-log-odds/example-dataset
      mimic build haven.example_log_odds_features --downstream
    """
    from mimic_assets.cli.environment import require_home
    from mimic_assets.plans import refuse_sources
    from mimic_core.selection import Scope, Work, find_partitions
    from mimic_core.world import SOURCE, State

    def below(plan: "Plan") -> Scope:
        nodes = set(plan.below(named))
        return Scope(nodes=nodes, named=nodes)

    require_home()
    with planned() as now:
        named = find_partitions(keys, now.plan.partitions)
        if not downstream:
            refuse_sources(named)
        named_to_build = [now.plan.partitions[node] for node in named if node.asset != SOURCE]
        say_what_is_current([str(each.node) for each in named_to_build if each.state == State.CURRENT])
        _say_what_is_old(named, now.plan)
        outcomes, work, plan = [], Work(to_build=(), left_out={}), now.plan
        for _, stage in groupby((node for node in named if node.asset != SOURCE), key=lambda node: node.asset):
            outcomes += _build_stage(now, list(stage))
        if downstream:
            more, work, plan = _work_off(now, _plan_anew(now), below)
            outcomes += more
    _finish(outcomes, work, plan, as_json)


def _work_off(now: Planned, plan: "Plan", scope: "Callable[[Plan], Scope]") -> "tuple[list[Outcome], Work, Plan]":
    """Build stage after stage until nothing can be built any more; each partition is tried once at each version.

    Returns:
        What came of the builds, and what is left then.
    """
    from mimic_core.selection import find_work

    outcomes: list[Outcome] = []
    tried: set[tuple[Node, str]] = set()
    while ready := [partition for partition in find_work(plan, scope(plan), tried).to_build if partition.ready]:
        stage = [partition for partition in ready if partition.node.asset == ready[0].node.asset]
        tried |= {(partition.node, partition.version) for partition in stage}
        outcomes += _build_stage(now, [partition.node for partition in stage])
        plan = _plan_anew(now)
    return outcomes, find_work(plan, scope(plan), tried), plan


def _plan_anew(now: Planned) -> "Plan":
    from mimic_assets.planning import make_plan

    return make_plan(now.instance, now.resources["inventory"])[0]


def _build_stage(now: Planned, nodes: "Sequence[Node]") -> "list[Outcome]":
    """Build partitions of one asset; what they print goes to standard error."""
    from mimic_assets.cli.building import build as build_partitions
    from mimic_assets.registration import add_partitions
    from mimic_core.backend import import_keras
    from mimic_core.specs import PARTITION_SPECS
    from mimic_core.world import INFERENCE, RUN

    (kind,) = [kind for kind in PARTITION_SPECS if kind.asset == nodes[0].asset]
    specs = [now.resources["specs"].get(kind, node.key).spec for node in nodes]
    add_partitions(now.instance, kind.asset, [spec.key for spec in specs])  # somebody may have deleted some in the UI
    # seconds in which no progress could be shown
    before = import_keras if kind.asset in (RUN, INFERENCE) else lambda: None
    with redirect_stdout(sys.stderr):
        return build_partitions(now.instance, specs, now.resources["artefacts"], before)


def _say_what_is_old(named: "Sequence[Node]", plan: "Plan") -> None:
    from mimic_core.planner import IS
    from mimic_core.world import State

    for node in named:
        for above in plan.partitions[node].upstream:
            state = plan.partitions[above].state if above in plan.partitions else State.MISSING
            if above not in named and state not in (State.CURRENT, State.MISSING):
                published = f"{above}, which {IS[state]}, as it is published; `mimic rebuild` builds that first"
                click.echo(f"mimic: {node} reads {published}", err=True)


def _finish(outcomes: "Sequence[Outcome]", work: "Work", plan: "Plan", as_json: bool) -> None:
    from mimic_assets.plans import not_built
    from mimic_core.selection import LeftOut

    failed = {(outcome.asset, outcome.key) for outcome in outcomes if outcome.status == "failed"}
    work = replace(work, left_out={node: why for node, why in work.left_out.items() if node not in failed})
    left_out = not_built(work, plan)
    if as_json:
        print_json({"partitions": [outcome.document() for outcome in outcomes], "not_built": left_out})
    elif outcomes:
        sum_up(outcomes)
        print_left_out(left_out)
        numbers = {"built": len(outcomes) - len(failed), "failed": len(failed), "not built": len(work.left_out)}
        click.echo(", ".join(f"{number:,} {what}" for what, number in numbers.items() if number))
    else:
        print_nothing(left_out, not plan.partitions)
        print_left_out(left_out)
    if failed or {LeftOut.FAILED, LeftOut.UNREADABLE} & set(work.left_out.values()):
        raise click.exceptions.Exit(1)
