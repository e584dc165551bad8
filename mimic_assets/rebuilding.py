"""Rebuilding: what the sensors ask for as runs, and what of it waits for a person."""

import time

import dagster as dg

from mimic_assets.attempts import newest_of
from mimic_assets.jobs import build_request
from mimic_assets.live import VERSION
from mimic_assets.planning import make_plan
from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import choose
from mimic_core.world import State, World
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy, approve, approved

REASON = "mimic/reason"  # tag: why a sensor asked for a run
MOST_LETTERS = 200  # of a reason in a tag


def request_build(instance: dg.DagsterInstance, partition: Partition) -> dg.RunRequest:
    """Make the request for a run that builds a partition.

    Dagster takes a run key once for ever. This one names the newest run of the partition, so that the same version can be
    asked for again after that one, and not twice before.
    """
    node, newest = partition.node, newest_of(instance, partition.node)
    run_key = f"{node.asset}:{node.key}:{partition.version}:after:{newest or 'none'}"
    tags = {VERSION: partition.version, REASON: "; ".join(partition.reasons)[:MOST_LETTERS]}
    request = build_request(run_key, *node)
    return request.with_replaced_attrs(tags={**request.tags, **tags})


def repeats(instance: dg.DagsterInstance, partition: Partition, world: World) -> bool:
    """Tell whether a partition is out of date although the run that published it was to make just this version."""
    manifest = world.manifests.get(partition.node, {})
    if partition.state != State.OUT_OF_DATE or manifest.get("fingerprint") in (None, partition.version):
        return False  # never built, damaged, or current but for files that are gone
    run = instance.get_run_by_id(manifest["dagster_run_id"])
    return run is not None and run.tags.get(VERSION) == partition.version


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


def _goals(plan: Plan) -> set[str]:
    return {partition.goal for partition in plan.partitions.values()}
