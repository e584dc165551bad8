"""Rebuilding: what the sensors ask for as runs, and what of it waits for a person."""

import time
from collections.abc import Sequence, Set
from dataclasses import replace

import dagster as dg

from mimic_assets.attempts import newest_builds, newest_of
from mimic_assets.jobs import build_request
from mimic_assets.live import WANTED
from mimic_assets.planning import make_plan
from mimic_assets.registration import add_partitions
from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import Choice, Policy, choose
from mimic_core.world import State, World
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy, approve, approved

REASON = "mimic/reason"  # tag: why a sensor asked for a run
MOST_LETTERS = 200  # of a reason in a tag
MOST_REPEATS = 2  # builds in a row that were to make a version and made another


def request_build(instance: dg.DagsterInstance, partition: Partition) -> dg.RunRequest:
    """Make the request for a run that builds a partition.

    Dagster takes a run key once for ever. This one names the newest run of the partition, so that the same version can be
    asked for again after that one, and not twice before. The partition is added in Dagster where it is not there, as when
    somebody deleted it in the UI: what is registered decides.
    """
    node, newest = partition.node, newest_of(instance, partition.node)
    run_key = f"{node.asset}:{node.key}:{partition.version}:after:{newest or 'none'}"
    add_partitions(instance, node.asset, [node.key])
    tags = {WANTED: partition.version, REASON: "; ".join(partition.reasons)[:MOST_LETTERS]}
    request = build_request(run_key, *node)
    return request.with_replaced_attrs(tags={**request.tags, **tags})


def choose_new(
    instance: dg.DagsterInstance, plan: Plan, world: World, policy: Policy, now: float, approved: Set[str]
) -> tuple[Choice, list[Partition]]:
    """Choose what to request, and leave out what would be built again and again; returns also that."""
    repeated: list[Partition] = []
    while True:
        choice = choose(_without(plan, repeated), policy, now, approved)
        found = [each for each in choice.request if _repeats(instance, each, world)]
        if not found:
            return choice, repeated
        repeated += found


def approve_held(
    instance: dg.DagsterInstance, inventory: Inventory, artefacts: ArtefactStore, policy: RebuildPolicy
) -> tuple[Partition, ...]:
    """Approve the rebuilds that are held now, and return them."""
    plan, _ = make_plan(instance, inventory)
    before = approved(artefacts)
    held = choose(plan, policy.policy(), time.time(), before).held
    if held:
        approve(artefacts, before & _goals(plan) | {partition.goal for partition in held})
    return held


def forget_built(artefacts: ArtefactStore, plan: Plan) -> frozenset[str]:
    """Forget the approvals of what is built by now, and return the others: what is lost later is held anew."""
    before = approved(artefacts)
    built = {partition.goal for partition in plan.partitions.values() if partition.state == State.CURRENT}
    if before & built:
        approve(artefacts, before - built)
    return before - built


def _goals(plan: Plan) -> set[str]:
    return {partition.goal for partition in plan.partitions.values()}


def _without(plan: Plan, left_out: Sequence[Partition]) -> Plan:
    changed = {partition.node: replace(partition, will_build=False) for partition in left_out}
    return Plan(partitions={**plan.partitions, **changed})


def _repeats(instance: dg.DagsterInstance, partition: Partition, world: World) -> bool:
    """Tell whether a partition is out of date although its last builds were to make just this version.

    One of them may have found other data than those that were there before and are there now.
    """
    manifest = world.manifests.get(partition.node, {})
    if partition.state != State.OUT_OF_DATE or manifest.get("fingerprint") in (None, partition.version):
        return False  # damaged, or made of the right things and some of its files are gone
    builds = newest_builds(instance, partition.node, MOST_REPEATS)
    return len(builds) == MOST_REPEATS and all(run.tags.get(WANTED) == partition.version for run in builds)
