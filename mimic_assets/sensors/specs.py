"""The sensor that registers the config files of the spec folder, and has what came from them built for the first time."""

import json
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import dagster as dg

from mimic_assets.attempts import succeeded_since
from mimic_assets.jobs import PLANNED
from mimic_assets.planning import make_plan
from mimic_assets.rebuilding import request_build
from mimic_assets.retirement import retire_nodes
from mimic_assets.sensors.rebuilds import Seen
from mimic_assets.spec_files import claim, dropped_by, given_up, may_not_retire, read_files, register_files
from mimic_core.rebuilds import first_builds, noticed
from mimic_core.spec_files import may_retire
from mimic_core.world import RUN, Node
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy
from resources.spec_folder import FirstBuild, Origin, Record, SpecFolder, read_record, write_record
from resources.specs import SpecStore
from resources.tables import TableStore


@dg.sensor(
    jobs=PLANNED,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Registers new and changed config files of the spec folder (MIMIC_SPECS), has each built once as soon as "
    "what it reads is there, and retires what belonged to files that were deleted.",
)
def spec_sensor(
    context: dg.SensorEvaluationContext,
    specs: SpecStore,
    tables: TableStore,
    artefacts: ArtefactStore,
    inventory: Inventory,
    spec_folder: SpecFolder,
    rebuild_policy: RebuildPolicy,
) -> dg.SensorResult:
    """Bring what is registered in line with the files, and request first builds."""
    before, policy, now = read_record(artefacts), rebuild_policy.policy(), time.time()
    found = spec_folder.find(artefacts, before)
    read, new = read_files(found, before, now)
    claimed = claim(specs, before, new)
    _keep(artefacts, before, replace(before, partitions={**claimed, **before.partitions}))
    record = register_files(context.instance, specs, read, new, claimed)
    _keep(artefacts, before, record)
    _tell(context, specs, before, record)

    expired = given_up(record, found, now, policy.settle_seconds)
    gone = _only_in(expired, record) & set(record.partitions)
    unbuilt = {node for node in record.defined & set(record.partitions) if _waits(record.partitions[node])}
    if not gone and not unbuilt:
        settled = _without(record, expired, {}, set())
        _keep(artefacts, record, settled)
        return _result(settled, [], context.cursor)

    plan, world = make_plan(context.instance, inventory)
    stays = {}
    for node in sorted(gone & set(world.registered)):
        if why := may_not_retire(node, record.partitions[node], world.registered[node]):
            stays[node] = why
            context.log.warning(why)
    gone = gone & set(world.registered) - set(stays)
    can, cannot = may_retire(gone, plan)
    for node, why in cannot.items():
        if record.partitions[node].stays != why:
            context.log.warning(why)
    retired = retire_nodes(context.instance, specs, tables, artefacts, can)
    pending = {node: cannot.get(node, "") for node in gone - set(retired)}
    built = unbuilt & set(world.manifests)
    seen = Seen(since=json.loads(context.cursor or "{}")).updated(world.sources, now, policy.settle_seconds)
    chosen = first_builds(noticed(plan, seen.by_table(world.sources), now), unbuilt - built, policy, now)
    # what was built since it was registered and is gone is no first build, and could come again and again
    built |= {
        each.node for each in chosen if succeeded_since(context.instance, each.node, world.registered[each.node].changed_at)
    }
    chosen = [each for each in chosen if each.node not in built]
    settled = _without(record, expired, pending, built)
    _keep(artefacts, record, settled)
    return _result(settled, [request_build(context.instance, each) for each in chosen], json.dumps(seen.since))


def _tell(context: dg.SensorEvaluationContext, specs: SpecStore, before: Record, record: Record) -> None:
    """Log what is wrong with files, and what they do not define any more, once."""
    for name, noted in record.present.items():
        if noted.problem and (name not in before.files or before.files[name].problem != noted.problem):
            context.log.error(f"{name}: {noted.problem}")
    for node, name in dropped_by(before, record).items():
        if specs.has(*node):
            how = f"`mimic runs retire {node.key}`" if node.asset == RUN else "a file of its own that you delete again"
            context.log.warning(f"{name} does not define {node} any more, which stays registered; to retire it, use {how}")


def _waits(origin: Origin) -> bool:
    return origin.first_build == FirstBuild.WAITS


def _without(record: Record, expired: Sequence[str], pending: Mapping[Node, str], built: Set[Node]) -> Record:
    """Return the record without files that are gone and what only those defined, but for what stays still."""
    kept = {
        name: noted
        for name, noted in record.files.items()
        if name not in expired or not pending.keys().isdisjoint(noted.keys)
    }
    left = _only_in(expired, record) - set(pending)
    partitions = {
        node: replace(
            origin, first_build=FirstBuild.DONE if node in built else origin.first_build, stays=pending.get(node, "")
        )
        for node, origin in record.partitions.items()
        if node not in left
    }
    return Record(files=kept, partitions=partitions)


def _only_in(files: Sequence[str], record: Record) -> set[Node]:
    others = {node for name, noted in record.files.items() if name not in files for node in noted.keys}
    return {node for name in files for node in record.files[name].keys} - others


def _keep(artefacts: ArtefactStore, before: Record, record: Record) -> None:
    if record != before:
        write_record(artefacts, record)


def _result(record: Record, requests: list[dg.RunRequest], cursor: str | None) -> dg.SensorResult:
    wrong = [name for name, noted in record.present.items() if noted.problem]
    gone = [name for name, noted in record.files.items() if noted.gone_since]
    known = record.defined & set(record.partitions)
    waiting = sum(_waits(record.partitions[node]) for node in known)
    said = f"{len(record.present)} files, {len(known)} partitions, {waiting} of them not built yet"
    if wrong:
        said += f", {len(wrong)} files with problems: {', '.join(wrong[:5])}"
    if gone:
        but = ", but not while another has a problem" if wrong else ""
        said += f", {len(gone)} files are gone, which retires what they defined{but}: {', '.join(gone[:5])}"
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else dg.SkipReason(said), cursor=cursor)
