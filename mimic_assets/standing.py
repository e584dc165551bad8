"""Standing: what every partition is, as documents that commands print here or read from elsewhere."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mimic_assets.failures import attempt
from mimic_assets.planning import make_plan
from mimic_assets.plans import row
from mimic_core.model_specs import ModelSpec
from mimic_core.planner import Partition
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.selection import find_partitions
from mimic_core.world import RUN, SOURCE, Node, State, World
from resources.artefacts import ArtefactStore
from resources.spec_folder import overruled, problems, require_readable
from resources.trainings import epochs_of


def status_document(instance: dg.DagsterInstance, resources: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return what `mimic status --json` prints: all partitions, or those of some keys, and the state of the spec folder.

    Raises:
        SpecError: a key means nothing, or several partitions.
        StorageError: the catalog, or a folder of the object storage, cannot be read.
    """
    plan, world = make_plan(instance, resources["inventory"])
    nodes = find_partitions(keys, plan.partitions) if keys else list(plan.partitions)
    times = _times_of_runs(instance, world, nodes)
    epochs = _epochs([plan.partitions[node] for node in nodes], world, resources["artefacts"])
    rows = [_row(plan.partitions[node], world, times, epochs) for node in nodes]
    not_registered, unknown = ({}, "") if keys else _not_registered(resources, world)
    return {"partitions": rows, "spec_files": not_registered, "spec_folder": unknown or None}


def in_flight(
    instance: dg.DagsterInstance, resources: Mapping[str, Any], keys: Sequence[str], seen: Collection[Node]
) -> list[dict[str, Any]]:
    """Return the rows of the partitions that are queued or running, and of those that were `seen` so, with their epochs.

    Raises:
        SpecError: a key means nothing, or several partitions.
    """
    plan, world = make_plan(instance, resources["inventory"])
    asked = set(find_partitions(keys, plan.partitions)) if keys else None
    found = [
        partition
        for node, partition in plan.partitions.items()
        if node in seen or (partition.state in IN_FLIGHT and (asked is None or node in asked))
    ]
    epochs = _epochs([each for each in found if each.state == State.RUNNING], world, resources["artefacts"])
    return [row(partition) | {"epoch": epochs.get(partition.node)} for partition in found]


def _epochs(partitions: Iterable[Partition], world: World, artefacts: ArtefactStore) -> dict[Node, dict[str, Any]]:
    """Return the last finished epochs of the trainings in progress, and of those that ended unfinished.

    With the number of `epochs` that each will have at most; a conditional logit has none.
    """
    unfinished = [each.node for each in partitions if each.node.asset == RUN and each.state != State.CURRENT]
    folders = {node: folder for node in unfinished if (folder := world.registered[node].folder)}
    found = {}
    for node, history in epochs_of(artefacts, folders).items():
        model = ModelSpec.model_validate(json.loads(world.registered[node].document)["model"])
        found[node] = history[-1] | {"epochs": None if model.linear else model.epochs}
    return found


def _not_registered(resources: Mapping[str, Any], world: World) -> tuple[dict[str, str], str]:
    """Return why files of the spec folder are not registered as they are, and what is wrong with the folder as a whole."""
    artefacts = resources["artefacts"]

    def of_files() -> dict[str, str]:
        return problems(artefacts) | overruled(artefacts, {node: said.digest for node, said in world.registered.items()})

    found, unknown = attempt(of_files)
    if not unknown:
        _, unknown = attempt(require_readable, resources["spec_folder"], artefacts)
    return found or {}, unknown


def _row(
    partition: Partition, world: World, times: Mapping[Node, float], epochs: Mapping[Node, dict[str, Any]]
) -> dict[str, Any]:
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
        "epoch": epochs.get(node),
    }
    return row(partition) | said


def _run_id(node: Node, world: World) -> str | None:
    """Return the whole id of a run, of which its key has the beginning; None for all else, and where it cannot be read."""
    return world.registered[node].folder.rpartition("/")[2] or None if node.asset == RUN else None


def _since(partition: Partition, world: World) -> float | None:
    """Return since when a partition is what it is; None where nobody knows, for example since its files are gone."""
    manifest = world.manifests.get(partition.node, {})
    built_at = datetime.fromisoformat(manifest["built_at"]).timestamp() if "built_at" in manifest else 0.0
    if partition.state == State.CURRENT:
        return built_at or partition.changed_at
    return partition.changed_at if partition.changed_at > built_at else None


def _error(partition: Partition, world: World) -> str:
    failed = world.failed.get(partition.node)
    return (failed.reason if failed else "") or "; ".join(partition.reasons)


def _times_of_runs(instance: dg.DagsterInstance, world: World, nodes: Iterable[Node]) -> dict[Node, float]:
    """Return when the runs of the partitions that are in flight began, and those of the failed ones ended."""
    runs = {node: tried.run_id for node in nodes if (tried := world.in_flight.get(node) or world.failed.get(node))}
    if not runs:
        return {}
    records = instance.get_run_records(dg.RunsFilter(run_ids=list(runs.values())))
    times = {record.dagster_run.run_id: record.end_time or record.create_timestamp.timestamp() for record in records}
    return {node: times[run_id] for node, run_id in runs.items() if run_id in times}
