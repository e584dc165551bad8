"""Live: what runs build, and which versions of tables the unfinished ones read, noted as tags."""

import json
import time
from collections import defaultdict

import dagster as dg

from mimic_assets.run_tags import BUILD, HIDDEN, PARTITION
from mimic_core.specs import PartitionSpec
from mimic_core.world import Node, wanted_version
from resources.inventory import Inventory
from resources.tables import Pin
from resources.usage import InUse

WANTED = f"{HIDDEN}wanted"  # tag: the version of its partition for which a sensor asked for a run
VERSION = f"{HIDDEN}version"  # tag: the version that a run makes, of what it found when it began
WITHDRAWN = f"{HIDDEN}withdrawn"  # tag: the id of the run, if the command that asked for it took it back
PINS = f"{HIDDEN}pins"  # tag: a JSON object of table -> versions
ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in ENDED]

Step = dg.OpExecutionContext | dg.AssetExecutionContext


def build_tags(asset: str, key: str) -> dict[str, str]:
    """Make the tags of a run that builds a partition."""
    return {PARTITION: key, BUILD: f"{asset}:{key}"}


def hold(context: dg.OpExecutionContext, pin: Pin) -> None:
    """Keep maintenance from removing a pinned version while this run is unfinished."""
    run = context.instance.get_run_by_id(context.run_id)
    held = json.loads(run.tags.get(PINS, "{}")) if run else {}
    held[pin.name] = sorted({*held.get(pin.name, []), pin.snapshot})
    context.instance.add_run_tags(context.run_id, {PINS: json.dumps(held)})


def note_version(context: Step, spec: PartitionSpec, inventory: Inventory) -> None:
    """Note on this run which version it is to make, so that one that fails is not tried again before something changes.

    It is what is there when the run begins; `mimic_assets.builds.note_pinned` notes it anew.
    """
    node = Node(spec.asset, spec.key)
    if version := wanted_version(node, inventory.near(node)):
        context.instance.add_run_tags(context.run.run_id, {VERSION: version})


def note_withdrawn(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note on a run that the command that asked for it took it back, which is no person's wish that it stay unbuilt."""
    instance.add_run_tags(run_id, {WITHDRAWN: run_id})  # a run that is executed again gets the tags of the one before


def in_use(instance: dg.DagsterInstance, apart_from: str | None = None) -> InUse:
    """Return what the unfinished runs use.

    A run that repeats the failed steps of another goes on with what that one pinned and wrote, so it counts from its
    beginning.

    Args:
        apart_from: id of a run that does not count, the one that asks.
    """
    asked = time.time()
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if run.run_id != apart_from]
    ids = {part for run in runs for part in (run.run_id, run.parent_run_id, run.root_run_id) if part}
    if not ids:
        return InUse(asked=asked)
    records = instance.get_run_records(dg.RunsFilter(run_ids=list(ids)))
    pins: dict[str, set[int]] = defaultdict(set)
    for record in records:
        for table, versions in json.loads(record.dagster_run.tags.get(PINS, "{}")).items():
            pins[table].update(versions)
    return InUse(
        since=min(record.create_timestamp.timestamp() for record in records),
        pins={table: frozenset(versions) for table, versions in pins.items()},
        runs=frozenset(ids),
        asked=asked,
    )


def unfinished_of(instance: dg.DagsterInstance, key: str) -> list[str]:
    """Return the ids of the unfinished runs of a partition."""
    return [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={PARTITION: key}))]
