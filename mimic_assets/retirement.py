"""Retirement: takes partitions out of use, in steps that can be repeated after a kill."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import dagster as dg

from mimic_assets.live import unfinished_of
from mimic_assets.partitions import BY_ASSET
from mimic_assets.registration import add_partitions
from mimic_core.configs import collect
from mimic_core.errors import SpecError, did_you_mean
from mimic_core.selection import matching
from mimic_core.specs import PARTITION_SPECS, ContrastSpec, InferenceSpec, PartitionSpec, ReportSpec, RunSpec
from mimic_core.world import Node
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore
from resources.tables import CONTRAST, INFERENCE, RESULTS, TableStore


def runs_to_retire(instance: dg.DagsterInstance, specs: SpecStore, asked: Sequence[str]) -> list[RunSpec]:
    """Return the runs of some keys or beginnings of run ids, if all of them may be retired.

    Args:
        asked: `space/experiment/run_id`, or at least 8 digits with which the run id of one run begins.

    Raises:
        SpecError: runs that are not registered, that an inference applies or that are trained now, all of them named.
    """
    known = specs.registered(RunSpec.asset)
    applied = _applied(specs)

    def check(name: str) -> RunSpec:
        key = run_key(name, known)
        if key in applied:
            raise SpecError(f"run {key} is applied by {', '.join(applied[key])}; those need it, so it was not retired")
        if training := unfinished_of(instance, key):
            raise SpecError(f"run {key} is being trained by Dagster run {training[0]}; wait for it, or end it first")
        return specs.get(RunSpec, key).spec

    runs = collect(check, asked)
    return list({run.key: run for run in runs}.values())


def retire(
    instance: dg.DagsterInstance,
    specs: SpecStore,
    tables: TableStore,
    artefacts: ArtefactStore,
    retired: Sequence[PartitionSpec],
) -> None:
    """Remove partitions from Dagster, from the tables that hold their rows and from what is published; their specs last.

    Until its spec is gone a partition is still listed, so that a call that was killed can be repeated. The files stay until
    garbage is collected. Registering and building a partition again brings it back.
    """
    for spec in retired:
        instance.delete_dynamic_partition(str(BY_ASSET[spec.asset].name), spec.key)
    for (name, kind), ids in _rows_of(retired).items():
        if tables.kind(name) == kind:
            tables.replace(name, [], {"run_id": ids} if ids else None)
    for report in _reports_of(retired, specs):
        instance.delete_dynamic_partition(str(BY_ASSET[report.asset].name), report.key)
        artefacts.unpublish(report.folder)
    for spec in retired:
        artefacts.unpublish(spec.folder)
        specs.remove(spec.asset, spec.key)


def retire_nodes(
    instance: dg.DagsterInstance, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, nodes: Sequence[Node]
) -> list[Node]:
    """Retire partitions, the first of them first, up to one that a run builds; returns those that are not registered now."""
    kinds = {kind.asset: kind for kind in PARTITION_SPECS}
    retired = []
    for node in nodes:
        if specs.has(*node):
            # first, so that no run begins any more; one that began since the caller looked is seen now
            instance.delete_dynamic_partition(str(BY_ASSET[node.asset].name), node.key)
            if unfinished_of(instance, node.key):
                add_partitions(instance, node.asset, [node.key])
                break
            retire(instance, specs, tables, artefacts, [specs.get(kinds[node.asset], node.key).spec])
        retired.append(node)
    return retired


def run_key(name: str, known: Sequence[str]) -> str:
    """Return the key of the run that a name means, `space/experiment/run_id` or at least 8 digits that begin its id.

    Raises:
        SpecError: it means none of the keys that are known, or several.
    """
    found = matching(name, known)
    if len(found) > 1:
        raise SpecError(f"{name!r} begins the ids of several runs; give one of {', '.join(found)}")
    if not found:
        raise SpecError(
            f"no run {name!r} is registered{did_you_mean(name, known)}; expected SPACE/EXPERIMENT/RUN_ID, or at "
            "least 8 digits that begin a run id (`mimic status` lists the runs)"
        )
    return found[0]


def _rows_of(retired: Sequence[PartitionSpec]) -> Mapping[tuple[str, str], list[str]]:
    """Return the run ids whose rows leave a table, by its name and kind; none where all rows do."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for spec in retired:
        match spec:
            case RunSpec():
                found[spec.results, RESULTS].append(spec.run_id)
            case InferenceSpec():
                found[spec.destination, INFERENCE].append(spec.run_id)
            case ContrastSpec():
                found[spec.key, CONTRAST] = []
    return found


def _reports_of(retired: Sequence[PartitionSpec], specs: SpecStore) -> list[ReportSpec]:
    """Return the reports of the experiments of which no run is left."""
    runs = [spec for spec in retired if isinstance(spec, RunSpec)]
    if not runs:
        return []
    left = {key.rpartition("/")[0] for key in {*specs.registered(RunSpec.asset)} - {run.key for run in runs}}
    return [ReportSpec.of(key) for key in dict.fromkeys(run.experiment_key for run in runs) if key not in left]


def _applied(specs: SpecStore) -> Mapping[str, list[str]]:
    """Return the inferences that are registered for each run."""
    applied: dict[str, list[str]] = defaultdict(list)
    for key in specs.registered(InferenceSpec.asset):
        applied[specs.get(InferenceSpec, key).spec.run_key].append(key)
    return applied
