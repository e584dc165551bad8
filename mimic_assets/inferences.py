"""Inference tables: one step plans the shards, one step scores each, one replaces the rows of the key together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from mimic_assets.builds import (
    RUN_COLUMNS,
    ShardTask,
    begin,
    checked_shard,
    contract_check,
    contract_result,
    data_version_tag,
    dropped_count,
    dropped_notes,
    manifest,
    metadata,
    note_pinned,
    plan_shards,
    rows_of_run,
    table_input,
    whole_outcome,
)
from mimic_assets.failures import fails_clearly
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import inference_tables, lineage_input
from mimic_core import contract, evaluation, inferences
from mimic_core.errors import NotFoundError
from mimic_core.filters import check_filter
from mimic_core.manifests import seal
from mimic_core.sources import KEYS, SPLITS, Shard, check_schema, columns_to_read, in_key_order, sort_rows
from mimic_core.specs import InferenceSpec
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.specs import SpecStore
from resources.staging import Staged
from resources.tables import INFERENCE, SOURCE, Pin, TableStore

CHECK = contract_check("inference_table", "No null or repeated keys, finite features, no decision in both splits.")


@dataclass(frozen=True, kw_only=True)
class ScoredShard:
    """What one step made of its shard; without staged files where the contract is broken."""

    shard: Shard
    outcome: contract.Outcome
    decisions: pa.Table
    staged: Staged | None
    evaluated: evaluation.Evaluation | None


def run_manifest(spec: InferenceSpec, artefacts: ArtefactStore) -> dict[str, Any]:
    """Return the manifest of the run that an inference applies, checked against its features.

    Raises:
        NotFoundError: the run is not trained.
        SpecError: the inference names other features.
    """
    run = artefacts.manifest(spec.run_folder)
    if run is None:
        raise NotFoundError(
            f"run {spec.run_key} is not trained; run `mimic log-odds run-experiment CONFIG` for it first "
            "(`mimic status` lists the runs)"
        )
    inferences.check_features(spec.features, run["features"], spec.run_id)
    return run


def pin_source(spec: InferenceSpec, tables: TableStore) -> Pin:
    """Pin an inference's source table and check its columns and its destination."""
    tables.require_kind(spec.source, SOURCE)
    tables.require_kind(spec.destination, INFERENCE)
    pin = tables.pin(spec.source)
    schema = tables.schema_of(pin)
    check_schema(schema, spec.features, table=spec.source, required=KEYS)
    check_filter(spec.conditions, schema, spec.source)
    return pin


@dg.op(ins={"model_run": dg.In(dg.Nothing), "source_table": dg.In(dg.Nothing)}, out=dg.DynamicOut(ShardTask))
@fails_clearly
def plan_inference(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[ShardTask[InferenceSpec]]]:
    """Pin the source table and the run, and list the shards."""
    stored = specs.get(InferenceSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    run = run_manifest(stored.spec, artefacts)
    pin = pin_source(stored.spec, tables)
    hold(context, pin)
    columns = inferences.inference_schema(tables.schema_of(pin))
    tables.ensure(stored.spec.destination, columns, kind=INFERENCE, partition_by=RUN_COLUMNS)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(stored.spec, run, pin, tables), inferences.CODE_VERSION)
    context.log.info(f"run {run['version']}")
    return plan_shards(context, build, pin, _rules(stored.spec, run), tables, run)


@dg.op(ins={"task": dg.In(ShardTask)}, pool="inference_table")
@fails_clearly
def score_shard(
    context: dg.OpExecutionContext, task: ShardTask[InferenceSpec], tables: TableStore, artefacts: ArtefactStore
) -> ScoredShard:
    """Read, check and score the decisions of one shard."""
    spec, shard, staged, evaluated = task.build.stored.spec, task.shard, None, None
    checked = checked_shard(task, _rules(spec, task.run), tables)
    if not checked.outcome.violations:
        table = in_key_order(checked.table)
        rows = sort_rows(table, task.run["features"], task.run["missing_values_map"])
        utility = _utilities(task, artefacts)(rows.x) if len(rows) else np.empty(0)
        scored = inferences.inference_rows(table.select(KEYS), rows, utility, shard, **rows_of_run(spec))
        staged = tables.stage(spec.destination, [scored], shard.name)
        evaluated = inferences.evaluate_selected(rows, utility)
        context.log.info(f"{shard.name}: {len(rows):,} rows of {rows.decisions:,} decisions")
    return ScoredShard(shard=shard, outcome=checked.outcome, decisions=checked.decisions, staged=staged, evaluated=evaluated)


@dg.op(
    ins={"tasks": dg.In(list), "scored": dg.In(list)},
    out={"result": dg.Out(dg.Nothing), "contract": dg.Out(dg.Nothing, is_required=False)},
)
@fails_clearly
def publish_inference(
    context: dg.OpExecutionContext,
    tasks: list[ShardTask[InferenceSpec]],
    scored: list[ScoredShard],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> Iterator[Any]:
    """Add up what the shards found, and replace the rows of the key if the table keeps the contract."""
    pin = tasks[0].pin
    split_decisions = contract.check_whole_decisions(*(_decisions(scored, split) for split in SPLITS))
    rules = _rules(tasks[0].build.stored.spec, tasks[0].run)
    outcome = whole_outcome(tasks[0], (part.outcome for part in scored), split_decisions, rules, tables)
    report = contract.document(outcome, tasks[0].left_out)
    yield contract_result("inference_table", report)
    staged = [part.staged for part in scored if part.staged]
    if report["violations"]:
        for part in staged:
            tables.discard(part)
    contract.require_kept(outcome, pin.name)
    document = _publish(context, tasks[0], scored, outcome, report, tables, artefacts)
    types = {field.name: str(field.type) for field in inferences.inference_schema(tables.schema_of(pin))}
    shown = metadata(document, document["table"], types)
    yield dg.Output(None, "result", metadata=shown, tags=data_version_tag(document))


@dg.graph_asset(
    partitions_def=inference_tables,
    group_name="inferences",
    kinds={"iceberg"},
    ins={"model_run": lineage_input(), "source_table": lineage_input()},
    check_specs=[CHECK],
)
def inference_table(model_run: Any, source_table: Any) -> Any:
    """Probability, odds, log-odds and utility of every row by one run. Partition: database.table/experiment/run_id."""
    tasks = plan_inference(model_run=model_run, source_table=source_table)
    result, kept = publish_inference(tasks.collect(), tasks.map(score_shard).collect())
    return {"result": result, "inference_table_decision_table_contract": kept}


def _utilities(task: ShardTask[InferenceSpec], artefacts: ArtefactStore) -> Any:
    """Load the run's network, its files verified against the manifest."""
    from mimic_core import networks

    folder = f"{task.build.stored.spec.run_folder}/{task.run['version']}"
    files = {file["path"]: file for file in task.run["files"]}
    layers = artefacts.read(f"{folder}/layers.py", files["layers.py"]).decode()
    artefacts.read(f"{folder}/model.keras", files["model.keras"])
    return networks.utility_function(networks.load_network(artefacts.path(f"{folder}/model.keras"), layers))


def _publish(
    context: dg.OpExecutionContext,
    task: ShardTask[InferenceSpec],
    scored: list[ScoredShard],
    outcome: contract.Outcome,
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    build, spec = task.build, task.build.stored.spec
    by_split = {split: [part for part in scored if part.shard.split == split] for split in SPLITS}
    evaluated = {
        split: evaluation.combine(part.evaluated for part in parts if part.evaluated) for split, parts in by_split.items()
    }
    counts = {"rows": outcome.rows, "decisions": outcome.decisions} | {
        f"{split}_rows": sum(part.outcome.rows for part in parts) for split, parts in by_split.items()
    }
    counts |= {"single_choice_decisions": outcome.single_choice_decisions} | dropped_count(task)
    inputs = _inputs(spec, task.run, task.pin, tables)
    staged = [part.staged for part in scored if part.staged]
    publishing = artefacts.publishing(spec.folder, build.version, build.replaces)
    with tables.discarding(spec.destination, staged), publishing as publication:
        if publication.done:
            return publication.done
        document = manifest(
            build,
            context.run_id,
            inferences.CODE_VERSION,
            inputs,
            counts=counts,
            metrics=evaluation.named(evaluated["train"], "train") | evaluation.named(evaluated["test"], "test"),
            contract=report,
            table=spec.destination,
            notes=dropped_notes(task),
        )
        seal(document)  # whatever cannot be published must fail before the table changes
        key = rows_of_run(spec)
        document["snapshot"] = tables.replace(spec.destination, staged, key).snapshot
        publication.publish(document)
    return document


def _inputs(spec: InferenceSpec, run: dict[str, Any], pin: Pin, tables: TableStore) -> dict[str, Any]:
    columns = columns_to_read(tables.schema_of(pin), list(run["features"]), spec.conditions)
    return {
        "model_run": {"key": spec.run_key, "fingerprint": run["fingerprint"]},
        "source_table": table_input(pin, columns, tables),
    }


def _decisions(scored: list[ScoredShard], split: str) -> pa.Table:
    return pa.concat_tables([part.decisions for part in scored if part.shard.split == split])


def _rules(spec: InferenceSpec, run: dict[str, Any]) -> contract.Rules:
    return inferences.rules(run["features"], run["missing_values_map"], spec.conditions)
