"""TFRecord datasets: one step plans the shards, one step builds each, one publishes them together."""

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
from mimic_assets.contrasts import pin_published
from mimic_assets.failures import fails_clearly
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import lineage_input, tfrecord_datasets
from mimic_core import contract, datasets
from mimic_core.filters import check_filter
from mimic_core.identifiers import id_table, parquet_bytes
from mimic_core.manifests import seal
from mimic_core.sources import KEYS, SPLITS, Shard, check_schema, columns_to_read
from mimic_core.specs import DatasetSpec
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.specs import SpecStore
from resources.tables import CONTRAST, SOURCE, Pin, TableStore

CHECK = contract_check(
    "tfrecord_dataset",
    "One selected choice per decision, no null or repeated keys, finite features, no individual in both splits.",
)


@dataclass(frozen=True, kw_only=True)
class BuiltShard:
    """What one step made of its shard; without files where the contract is broken.

    Attributes:
        ids: the file of the id table, where the table's ids are text.
    """

    shard: Shard
    outcome: contract.Outcome
    individuals: pa.Array
    file: dict[str, Any] | None
    ids: dict[str, Any] | None


def pin_source(spec: DatasetSpec, tables: TableStore, artefacts: ArtefactStore) -> Pin:
    """Pin a dataset's source, a table or a contrast set, and check that its columns fit the spec."""
    tables.require_kind(spec.source, SOURCE, CONTRAST)
    pin = tables.pin(spec.source) if tables.kind(spec.source) != CONTRAST else pin_published(spec.source, tables, artefacts)
    schema = tables.schema_of(pin)
    check_schema(schema, spec.features, table=spec.source)
    check_filter(spec.conditions, schema, spec.source)
    return pin


@dg.op(ins={"source_table": dg.In(dg.Nothing), "contrast_set": dg.In(dg.Nothing)}, out=dg.DynamicOut(ShardTask))
@fails_clearly
def plan_dataset(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[ShardTask[DatasetSpec]]]:
    """Pin the source and list the shards."""
    stored = specs.get(DatasetSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    pin = pin_source(stored.spec, tables, artefacts)
    hold(context, pin)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(stored.spec, pin, tables), datasets.CODE_VERSION)
    return plan_shards(context, build, pin, datasets.rules(stored.spec), tables)


@dg.op(ins={"task": dg.In(ShardTask)}, pool="tfrecord_dataset")
@fails_clearly
def build_dataset_shard(
    context: dg.OpExecutionContext, task: ShardTask[DatasetSpec], tables: TableStore, artefacts: ArtefactStore
) -> BuiltShard:
    """Read, check and encode the decisions of one shard."""
    spec, shard = task.build.stored.spec, task.shard
    checked = checked_shard(task, datasets.rules(spec), tables)
    path, file, ids = datasets.shard_path(shard), None, None
    if not checked.outcome.violations:
        written = artefacts.write(f"{task.build.folder}/{path}", datasets.encode_shard(checked, spec))
        file = {"path": path, "split": shard.split, "decisions": checked.outcome.decisions, **written}
        ids = _write_ids(task, id_table(checked.table, KEYS), artefacts)
        context.log.info(f"{path}: {checked.outcome.decisions:,} decisions, {written['bytes']:,} bytes")
    return BuiltShard(shard=shard, outcome=checked.outcome, individuals=checked.individuals, file=file, ids=ids)


@dg.op(
    ins={"tasks": dg.In(list), "built": dg.In(list)},
    out={"result": dg.Out(dg.Nothing), "contract": dg.Out(dg.Nothing, is_required=False)},
)
@fails_clearly
def publish_dataset(
    context: dg.OpExecutionContext,
    tasks: list[ShardTask[DatasetSpec]],
    built: list[BuiltShard],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> Iterator[Any]:
    """Add up what the shards found, and publish them if the table keeps the contract."""
    build, pin = tasks[0].build, tasks[0].pin
    built = sorted(built, key=lambda part: (SPLITS.index(part.shard.split), part.shard.index))
    individuals = {split: individuals_of(built, split) for split in SPLITS}
    leaks = contract.check_disjoint_individuals(individuals["train"], individuals["test"])
    rules = datasets.rules(build.stored.spec)
    outcome = whole_outcome(tasks[0], (part.outcome for part in built), leaks, rules, tables)
    report = contract.document(outcome, tasks[0].left_out)
    yield contract_result("tfrecord_dataset", report)
    counts = _counts(built, individuals, outcome) | dropped_count(tasks[0])
    if report["violations"] or not counts["train_individuals"]:
        artefacts.discard(build.folder)
    contract.require_kept(outcome, pin.name)
    datasets.require_trainable(counts["train_individuals"], outcome.rows, pin.name)
    document = _publish(context, tasks[0], built, counts, report, tables, artefacts)
    spec = build.stored.spec
    types = dict.fromkeys(spec.features, "float32")
    shown = metadata(document, str(artefacts.path(build.folder)), types)
    yield dg.Output(None, "result", metadata=shown, tags=data_version_tag(document))


@dg.graph_asset(
    partitions_def=tfrecord_datasets,
    group_name="datasets",
    kinds={"tensorflow"},
    ins={"source_table": lineage_input(), "contrast_set": lineage_input()},
    check_specs=[CHECK],
)
def tfrecord_dataset(source_table: Any, contrast_set: Any) -> Any:
    """Decisions of a table as sharded TFRecord files, one tf.train.Example each. Partition: space/dataset."""
    tasks = plan_dataset(source_table=source_table, contrast_set=contrast_set)
    result, kept = publish_dataset(tasks.collect(), tasks.map(build_dataset_shard).collect())
    return {"result": result, "tfrecord_dataset_decision_table_contract": kept}


def _write_ids(task: ShardTask[DatasetSpec], ids: pa.Table, artefacts: ArtefactStore) -> dict[str, Any] | None:
    if not len(ids):
        return None
    path = datasets.ids_path(task.shard)
    return {"path": path, "rows": len(ids), **artefacts.write(f"{task.build.folder}/{path}", [parquet_bytes(ids)])}


def _publish(
    context: dg.OpExecutionContext,
    task: ShardTask[DatasetSpec],
    built: list[BuiltShard],
    counts: dict[str, int],
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    build, pin, spec = task.build, task.pin, task.build.stored.spec
    files, id_tables = [part.file for part in built if part.file], [part.ids for part in built if part.ids]
    inputs = _inputs(spec, pin, tables)
    with artefacts.publishing(spec.folder, build.version, build.replaces) as publication:
        if publication.done:
            return publication.done
        sealed = seal(datasets.schema_document(spec, files, id_tables))
        document = manifest(
            build,
            context.run_id,
            datasets.CODE_VERSION,
            inputs,
            counts=counts,
            contract=report,
            schema={"path": "schema.json", **artefacts.write(f"{build.folder}/schema.json", [sealed])},
            files=files,
            id_tables=id_tables,
            notes=dropped_notes(task),
        )
        publication.publish(document)
    return document


def _inputs(spec: DatasetSpec, pin: Pin, tables: TableStore) -> dict[str, Any]:
    columns = columns_to_read(tables.schema_of(pin), spec.features, spec.conditions)
    return {"contrast_set" if pin.kind == CONTRAST else "source_table": table_input(pin, columns, tables)}


def _counts(built: list[BuiltShard], individuals: dict[str, pa.Array], outcome: contract.Outcome) -> dict[str, int]:
    by_split = {split: contract.add_up(p.outcome for p in built if p.shard.split == split) for split in SPLITS}
    return {
        "rows": outcome.rows,
        "decisions": outcome.decisions,
        **{f"{split}_decisions": part.decisions for split, part in by_split.items()},
        **{f"{split}_individuals": len(ids) for split, ids in individuals.items()},
        "single_choice_decisions": outcome.single_choice_decisions,
        "largest_choice_set": outcome.largest_choice_set,
    }
