"""The sensor that registers the config files of the spec folder, and has what came from them built for the first time."""

from collections.abc import Set
from dataclasses import replace

import dagster as dg

from mimic_assets.jobs import BUILDS
from mimic_assets.planning import make_plan
from mimic_assets.rebuilding import request_build
from mimic_assets.retirement import retire_nodes
from mimic_assets.spec_files import gone_from, register_files
from mimic_core.rebuilds import first_builds
from mimic_core.spec_files import may_retire
from mimic_core.world import Node
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy
from resources.spec_folder import Record, SpecFolder, read_record, write_record
from resources.specs import SpecStore
from resources.tables import TableStore


@dg.sensor(
    jobs=list(BUILDS.values()),
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
    before = read_record(artefacts)
    record = register_files(context.instance, specs, spec_folder.find(before), before)
    _keep(artefacts, before, record)
    for name, noted in record.files.items():
        if noted.problem and (name not in before.files or before.files[name].problem != noted.problem):
            context.log.error(f"{name}: {noted.problem}")
    gone = gone_from(record)
    unbuilt = {node for node, built in record.partitions.items() if not built} - gone
    if not gone and not unbuilt:
        return _result(record, [])

    plan, world = make_plan(context.instance, inventory)
    can, cannot = may_retire(gone, plan)
    for why in cannot.values():
        context.log.warning(why)
    retire_nodes(context.instance, specs, tables, artefacts, can)
    built = unbuilt & set(world.manifests)
    settled = _without(record, can, built)
    _keep(artefacts, record, settled)
    chosen = first_builds(plan, unbuilt - built, rebuild_policy.policy())
    return _result(settled, [request_build(context.instance, partition) for partition in chosen])


def _without(record: Record, retired: list[Node], built: Set[Node]) -> Record:
    kept = {node: was or node in built for node, was in record.partitions.items() if node not in retired}
    return replace(record, partitions=kept)


def _keep(artefacts: ArtefactStore, before: Record, record: Record) -> None:
    if record != before:
        write_record(artefacts, record)


def _result(record: Record, requests: list[dg.RunRequest]) -> dg.SensorResult:
    wrong = [name for name, noted in record.files.items() if noted.problem]
    waiting = sum(not built for built in record.partitions.values())
    said = f"{len(record.files)} files, {len(record.partitions)} partitions, {waiting} of them not built yet"
    if wrong:
        said += f", {len(wrong)} files with problems: {', '.join(wrong[:5])}"
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else dg.SkipReason(said))
