"""`mimic rebuild` and `mimic build`: registered partitions are built, stage by stage, planned anew after each."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.plan import (
    AS_JSON,
    FAILED,
    KEYS,
    not_built,
    print_left_out,
    print_nothing,
    print_plan,
    refuse_sources,
    scope_of,
)
from mimic_assets.cli.summary import sum_up

if TYPE_CHECKING:
    import dagster as dg

    from mimic_assets.cli.execution import Outcome
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
    run id. What is refreshed by hand, or failed at the version that it should have, is built if its KEY is given. A failure
    ends nothing but what hangs on it.

    \b
    Examples:
      mimic rebuild --dry-run
      mimic rebuild
      mimic rebuild 07c49bc0 --failed
    """
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.cli.execution import fail_dead_runs
    from mimic_assets.planning import make_plan

    resources = local_resources()
    with open_instance() as instance:
        fail_dead_runs(instance)
        plan, world = make_plan(instance, resources["inventory"])
        scope = scope_of(keys, failed, plan)
        if dry_run:
            print_plan(plan, world, scope(plan), as_json)
        else:
            _finish(*_work_off(instance, resources, scope), as_json)


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
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.cli.execution import fail_dead_runs
    from mimic_assets.planning import make_plan
    from mimic_core.selection import Scope, Work, find_partitions
    from mimic_core.world import SOURCE

    def below(plan: "Plan") -> Scope:
        nodes = set(plan.below(named))
        return Scope(nodes=nodes, named=nodes)

    resources = local_resources()
    with open_instance() as instance:
        fail_dead_runs(instance)
        plan, _ = make_plan(instance, resources["inventory"])
        named = find_partitions(keys, plan.partitions)
        if not downstream:
            refuse_sources(named)
        _say_what_is_old(named, plan)
        outcomes, work = [], Work(to_build=(), left_out={})
        for _, stage in groupby((node for node in named if node.asset != SOURCE), key=lambda node: node.asset):
            outcomes += _build_stage(instance, resources, list(stage))
        if downstream:
            more, work, plan = _work_off(instance, resources, below)
            outcomes += more
    _finish(outcomes, work, plan, as_json)


def _work_off(
    instance: "dg.DagsterInstance", resources: dict[str, Any], scope: "Callable[[Plan], Scope]"
) -> "tuple[list[Outcome], Work, Plan]":
    """Build stage after stage until nothing can be built any more; each partition is tried once at each version.

    Returns:
        What came of the builds, and what is left then.
    """
    from mimic_assets.planning import make_plan
    from mimic_core.selection import find_work

    outcomes: list[Outcome] = []
    tried: set[tuple[Node, str]] = set()
    while True:
        plan, _ = make_plan(instance, resources["inventory"])
        work = find_work(plan, scope(plan), tried)
        ready = [partition for partition in work.to_build if partition.ready]
        if not ready:
            return outcomes, work, plan
        stage = [partition for partition in ready if partition.node.asset == ready[0].node.asset]
        tried |= {(partition.node, partition.version) for partition in stage}
        outcomes += _build_stage(instance, resources, [partition.node for partition in stage])


def _build_stage(instance: "dg.DagsterInstance", resources: dict[str, Any], nodes: "Sequence[Node]") -> "list[Outcome]":
    """Build partitions of one asset; what they print goes to standard error."""
    from mimic_assets.cli.building import build as build_partitions
    from mimic_core.networks import import_keras
    from mimic_core.specs import PARTITION_SPECS
    from mimic_core.world import INFERENCE, RUN

    (kind,) = [kind for kind in PARTITION_SPECS if kind.asset == nodes[0].asset]
    specs = [resources["specs"].get(kind, node.key).spec for node in nodes]
    # seconds in which no progress could be shown
    before = import_keras if kind.asset in (RUN, INFERENCE) else lambda: None
    with redirect_stdout(sys.stderr):
        return build_partitions(instance, specs, resources["artefacts"], before)


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
    failed = {(outcome.asset, outcome.key) for outcome in outcomes if outcome.status == "failed"}
    work = replace(work, left_out={node: why for node, why in work.left_out.items() if node not in failed})
    if as_json:
        partitions = [outcome.document() for outcome in outcomes]
        click.echo(json.dumps({"partitions": partitions, "not_built": not_built(work, plan)}, indent=1))
    elif outcomes:
        sum_up(outcomes)
        print_left_out(work, plan)
        numbers = {"built": len(outcomes) - len(failed), "failed": len(failed), "not built": len(work.left_out)}
        click.echo(", ".join(f"{number:,} {what}" for what, number in numbers.items() if number))
    else:
        print_nothing(work, plan)
        print_left_out(work, plan)
    if failed:
        raise click.exceptions.Exit(1)
