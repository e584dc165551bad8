"""Contrast sets: one step plans the shards, one step samples each, one replaces the whole table with all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa

from mimic_assets.builds import (
    ShardTask,
    begin,
    checked_shard,
    contract_check,
    contract_result,
    data_version_tag,
    dropped_count,
    dropped_notes,
    individuals_of,
    manifest,
    metadata,
    note_pinned,
    plan_shards,
    table_input,
    whole_outcome,
)
from mimic_assets.failures import fails_clearly
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import contrast_sets, lineage_input
from mimic_core import contract, contrasts
from mimic_core.errors import NotFoundError
from mimic_core.filters import check_filter
from mimic_core.manifests import fingerprint, seal
from mimic_core.sources import SPLITS, Shard, check_schema
from mimic_core.specs import ContrastSpec, contrast_folder
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.specs import SpecStore
from resources.staging import Staged
from resources.tables import CONTRAST, SOURCE, Pin, TableStore

CHECK = contract_check(
    "contrast_set", "One selected choice per decision, no null or repeated keys, no individual in both splits."
)


@dataclass(frozen=True, kw_only=True)
class SampledShard:
    """What one step made of its shard; without staged files where the contract is broken."""

    shard: Shard
    outcome: contract.Outcome
    individuals: pa.Array
    usable_individuals: int
    staged: Staged | None


def pin_source(spec: ContrastSpec, tables: TableStore) -> Pin:
    """Pin a contrast set's source table and check its columns and its destination."""
    tables.require_kind(spec.source, SOURCE)
    tables.require_kind(spec.key, CONTRAST)
    pin = tables.pin(spec.source)
    schema = tables.schema_of(pin)
    check_schema(schema, (), table=spec.source)
    check_filter(spec.conditions, schema, spec.source)
    contrasts.contrast_schema(schema, spec.source)
    return pin


def pin_published(key: str, tables: TableStore, artefacts: ArtefactStore) -> Pin:
    """Pin the version of a contrast set that its manifest names.

    Raises:
        NotFoundError: the contrast set is not built.
    """
    document = artefacts.manifest(contrast_folder(key))
    if document is None:
        raise NotFoundError(
            f"contrast set {key} is not built; run `mimic log-odds build-contrast CONFIG` for it first "
            "(`mimic status` lists the contrast sets)"
        )
    return tables.pin(key, document["snapshot"])


@dg.op(ins={"source_table": dg.In(dg.Nothing)}, out=dg.DynamicOut(ShardTask))
@fails_clearly
def plan_contrasts(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[ShardTask[ContrastSpec]]]:
    """Pin the source table and list the shards."""
    stored = specs.get(ContrastSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    pin = pin_source(stored.spec, tables)
    hold(context, pin)
    columns = contrasts.contrast_schema(tables.schema_of(pin), pin.name)
    tables.ensure(stored.spec.key, columns, kind=CONTRAST)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(pin, tables), contrasts.CODE_VERSION)
    return plan_shards(context, build, pin, contrasts.rules(stored.spec), tables)


@dg.op(ins={"task": dg.In(ShardTask)}, pool="contrast_set")
@fails_clearly
def sample_shard(context: dg.OpExecutionContext, task: ShardTask[ContrastSpec], tables: TableStore) -> SampledShard:
    """Read, check and sample the decisions of one shard."""
    spec, shard = task.build.stored.spec, task.shard
    schema = tables.schema_of(task.pin)
    checked = checked_shard(task, contrasts.rules(spec), tables, schema)
    staged = None
    if not checked.outcome.violations:
        columns = contrasts.contrast_schema(schema, task.pin.name)
        staged = tables.stage(spec.key, contrasts.sample(checked, spec), shard.name, columns)
        context.log.info(f"{shard.name}: {staged.rows:,} rows from {checked.outcome.decisions:,} decisions")
    return SampledShard(
        shard=shard,
        outcome=checked.outcome,
        individuals=checked.individuals,
        usable_individuals=contrasts.usable_individuals(checked),
        staged=staged,
    )


@dg.op(
    ins={"tasks": dg.In(list), "sampled": dg.In(list)},
    out={"result": dg.Out(dg.Nothing), "contract": dg.Out(dg.Nothing, is_required=False)},
)
@fails_clearly
def publish_contrasts(
    context: dg.OpExecutionContext,
    tasks: list[ShardTask[ContrastSpec]],
    sampled: list[SampledShard],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> Iterator[Any]:
    """Add up what the shards found, and replace the whole table if its source keeps the contract."""
    build, pin = tasks[0].build, tasks[0].pin
    leaks = contract.check_disjoint_individuals(*(individuals_of(sampled, split) for split in SPLITS))
    rules = contrasts.rules(build.stored.spec)
    outcome = whole_outcome(tasks[0], (part.outcome for part in sampled), leaks, rules, tables)
    report = contract.document(outcome, tasks[0].left_out)
    yield contract_result("contrast_set", report)
    counts = _counts(sampled, outcome) | dropped_count(tasks[0])
    staged = [part.staged for part in sampled if part.staged]
    if report["violations"] or not counts["rows"]:
        for part in staged:
            tables.discard(part)
    contract.require_kept(outcome, pin.name)
    contrasts.require_contrasts(counts["individuals"], outcome, pin.name)
    document = _publish(context, tasks[0], staged, counts, report, tables, artefacts)
    columns = tables.schema_of(tables.pin(build.stored.spec.key, document["snapshot"]))
    shown = metadata(document, document["table"], {field.name: str(field.type) for field in columns})
    yield dg.Output(None, "result", metadata=shown, tags=data_version_tag(document))


@dg.graph_asset(
    partitions_def=contrast_sets,
    group_name="contrasts",
    kinds={"iceberg"},
    ins={"source_table": lineage_input()},
    check_specs=[CHECK],
)
def contrast_set(source_table: Any) -> Any:
    """Pairs of one selected and one rejected choice, sampled evenly by a seeded hash. Partition: database.table."""
    tasks = plan_contrasts(source_table=source_table)
    result, kept = publish_contrasts(tasks.collect(), tasks.map(sample_shard).collect())
    return {"result": result, "contrast_set_decision_table_contract": kept}


def _publish(
    context: dg.OpExecutionContext,
    task: ShardTask[ContrastSpec],
    staged: list[Staged],
    counts: dict[str, int],
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    build, pin, spec = task.build, task.pin, task.build.stored.spec
    schema = tables.schema_of(pin)
    inputs = _inputs(pin, tables)
    # the number of shards does not change the rows, so it must not make anything below out of date
    token = fingerprint({"sampling": spec.sampling, "inputs": inputs, "code_version": contrasts.CODE_VERSION})[:24]
    publishing = artefacts.publishing(spec.folder, build.version, build.replaces)
    with tables.discarding(spec.key, staged), publishing as publication:
        if publication.done:
            return publication.done
        document = manifest(
            build,
            context.run_id,
            contrasts.CODE_VERSION,
            inputs,
            counts=counts,
            contract=report,
            table=spec.key,
            notes=dropped_notes(task),
        )
        seal(document)  # whatever cannot be published must fail before the table changes
        columns = contrasts.contrast_schema(schema, pin.name)
        document["snapshot"] = tables.replace(spec.key, staged, None, columns=columns, token=token).snapshot
        publication.publish(document)
    return document


def _inputs(pin: Pin, tables: TableStore) -> dict[str, Any]:
    return {"source_table": table_input(pin, tables.schema_of(pin), tables)}


def _counts(sampled: list[SampledShard], outcome: contract.Outcome) -> dict[str, int]:
    rows = {
        split: sum(part.staged.rows for part in sampled if part.staged and part.shard.split == split) for split in SPLITS
    }
    usable = sum(part.usable_individuals for part in sampled)
    return {
        "rows": sum(rows.values()),
        "decisions": sum(rows.values()) // 2,
        "train_decisions": rows["train"] // 2,
        "test_decisions": rows["test"] // 2,
        "individuals": usable,
        "source_decisions": outcome.decisions,
        "skipped_decisions": outcome.single_choice_decisions,
        "skipped_individuals": sum(len(part.individuals) for part in sampled) - usable,
    }
