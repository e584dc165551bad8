"""Inference tables: one step plans, one or more score, one replaces the rows of the key together."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from mimic_assets import inference_checks
from mimic_assets.alternatives import alternatives_shown, labelled
from mimic_assets.builds import (
    RUN_COLUMNS,
    PartTask,
    begin,
    checked_blocks,
    dropped_count,
    manifest,
    note_pinned,
    notes,
    plan_steps,
    rows_of_run,
    table_input,
    whole_outcome,
)
from mimic_assets.effects import effects_shown
from mimic_assets.failures import fails_clearly
from mimic_assets.layers_code import require_allowed
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import inference_tables, lineage_input
from mimic_assets.previews import RUN_ID_DIGITS, preview_of
from mimic_assets.quality import CONTRACT, check_spec, contract_result, outs, published
from mimic_assets.shown import data_version_tag, metadata, notes_shown, said_of
from mimic_core import contract, inferences, outcomes, scoring
from mimic_core.alternatives import alternative_table
from mimic_core.calibration import Calibration, judge_calibration
from mimic_core.coefficients import NO_RHO_SQUARED, WITH_WEIGHTS
from mimic_core.distributions import FeatureSample, add_samples
from mimic_core.drift import Drift, measure_drift
from mimic_core.effects import EffectSums, add_effects, notes_on, summarise
from mimic_core.errors import NotFoundError
from mimic_core.evaluation import Measured
from mimic_core.filters import check_filter
from mimic_core.pace import describe_bytes
from mimic_core.score_counts import ScoreCounts, add_counts, require_sums_of_one
from mimic_core.sources import KEYS, SPLITS, WEIGHT, check_schema, columns_to_read
from mimic_core.specs import InferenceSpec
from mimic_core.tallies import Tally, add_tallies
from resources.artefacts import ArtefactStore
from resources.compute import SHARDS, needs
from resources.inventory import Inventory
from resources.previews import Previews
from resources.specs import SpecStore
from resources.staging import Staged
from resources.tables import INFERENCE, SOURCE, Pin, TableStore

CHECKS = [
    check_spec("inference_table", CONTRACT, "No null or repeated keys, finite features, no decision in both splits."),
    *inference_checks.CHECKS,
]


@dataclass(frozen=True, kw_only=True)
class ScoredPart:
    """What one step made of its shards.

    Attributes:
        tally: what it found in them.
        staged: the scored rows, which are not all there where the contract is broken.
        measured: split -> how well the run explains its selected choices, in sums.
        effects: of the features to explain; None where there are none, or no rows.
        sample: the features of some of the rows; None where there are none.
        counts: how many rows have which scores.
    """

    tally: Tally
    staged: Staged
    measured: dict[str, Measured]
    effects: EffectSums | None
    sample: FeatureSample | None
    counts: ScoreCounts
    labels: dict[int, Any]


@dataclass(frozen=True, kw_only=True)
class ScoredTable:
    """What all steps made together.

    Attributes:
        tally, measured, counts: as in `ScoredPart`.
        calibration: of the decisions with one selected row; None where there are none.
        drifts: how far the features are from those that the run was trained on; None where that is not known.
    """

    tally: Tally
    measured: dict[str, Measured]
    counts: ScoreCounts
    calibration: Calibration | None
    drifts: list[Drift] | None


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
    trained = run["spec"]["features"]
    inferences.check_features(spec.features, trained, spec.run_id, [name for name in run["features"] if name not in trained])
    return run


def pin_source(spec: InferenceSpec, run: dict[str, Any], tables: TableStore) -> Pin:
    """Pin an inference's source table and check its columns and its destination; `run` is the manifest of its run."""
    tables.require_kind(spec.source, SOURCE)
    tables.require_kind(spec.destination, INFERENCE)
    pin = tables.pin(spec.source)
    schema = tables.schema_of(pin)
    check_schema(schema, run["features"], table=spec.source, required=KEYS)
    check_filter(spec.conditions, schema, spec.source)
    if tables.exists(spec.destination):
        have, wanted = tables.schema_of(tables.pin(spec.destination)), inferences.inference_schema(schema, spec.explain)
        inferences.check_destination(have, wanted, table=spec.destination, source=spec.source)
    return pin


@dg.op(ins={"model_run": dg.In(dg.Nothing), "source_table": dg.In(dg.Nothing)}, out=dg.DynamicOut(PartTask))
@fails_clearly
def plan_inference(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[PartTask[InferenceSpec]]]:
    """Pin the source table and the run, and divide the rows over steps."""
    stored = specs.get(InferenceSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    run = run_manifest(stored.spec, artefacts)
    pin = pin_source(stored.spec, run, tables)
    hold(context, pin)
    columns = inferences.inference_schema(tables.schema_of(pin), stored.spec.explain)
    tables.ensure(stored.spec.destination, columns, kind=INFERENCE, partition_by=RUN_COLUMNS)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(stored.spec, run, pin, tables), inferences.CODE_VERSION)
    context.log.info(f"run {stored.spec.run_id[:RUN_ID_DIGITS]}, version {run['version']}")
    return plan_steps(context, build, pin, _rules(stored.spec, run), tables, run)


@dg.op(ins={"task": dg.In(PartTask)}, pool=SHARDS, tags=needs(cpu="1", memory="4Gi"))
@fails_clearly
def score_part(
    context: dg.OpExecutionContext, task: PartTask[InferenceSpec], tables: TableStore, artefacts: ArtefactStore
) -> ScoredPart:
    """Read, check and score the decisions of some shards."""
    spec, rules = task.build.stored.spec, _rules(task.build.stored.spec, task.run)
    part = scoring.Scoring(
        rules,
        task.part,
        lambda: run_functions(spec.run_folder, task.run, spec.explain, artefacts),
        **rows_of_run(spec),
        explain=spec.explain,
        shares=scoring.shares_in(tables.schema_of(task.pin), task.run),
        table_rows=task.pin.rows,
    )
    rows = part.rows(checked_blocks(context, task, rules, tables))
    staged = tables.stage(spec.destination, rows, task.part.name)
    context.log.info(f"{task.part.name}: wrote {staged.rows:,} scored rows ({describe_bytes(staged.bytes)})")
    return ScoredPart(
        tally=part.tally,
        staged=staged,
        measured=part.measured,
        effects=part.effects,
        sample=part.sample,
        counts=part.counts,
        labels=part.labels,
    )


@dg.op(
    ins={"tasks": dg.In(list), "scored": dg.In(list)},
    out=outs(CHECKS),
)
@fails_clearly
def publish_inference(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[InferenceSpec]],
    scored: list[ScoredPart],
    tables: TableStore,
    artefacts: ArtefactStore,
    previews: Previews,
) -> Iterator[Any]:
    """Add up what the parts found, and replace the rows of the key if the table keeps the contract."""
    pin, run = tasks[0].pin, tasks[0].run
    found = _together(scored, run)
    outcome = whole_outcome(tasks[0], found.tally, _rules(tasks[0].build.stored.spec, run), tables)
    report = outcomes.document(outcome, tasks[0].left_out)
    answers = [contract_result("inference_table", report)]
    if not report["violations"]:
        answers += [
            inference_checks.sums_result(found.counts),
            inference_checks.calibration_result(found.calibration, found.measured),
            inference_checks.drift_result(found.drifts, run.get("distributions")),
        ]
    if report["violations"] or found.counts.off:
        yield from answers
        for part in scored:
            tables.discard(part.staged)
    outcomes.require_kept(outcome, pin.name)
    require_sums_of_one(found.counts, tasks[0].build.stored.spec.run_id)
    document = _publish(context, tasks, scored, found, report, tables, artefacts)
    columns = inferences.inference_schema(tables.schema_of(pin), tasks[0].build.stored.spec.explain)
    types = {field.name: str(field.type) for field in columns}
    shown = effects_shown(document) | alternatives_shown(document["alternatives"]) | notes_shown(document["notes"])
    size = sum(part.staged.bytes for part in scored)
    context.log.info(f"table {document['table']}: {said_of(document, size)}")
    shown |= inference_checks.scores_shown(found.counts) | metadata(document, document["table"], types, size)
    made = tables.pin(document["table"], document["snapshot"])
    shown |= preview_of(made, tables, previews.rows, rows_of_run(tasks[0].build.stored.spec))
    yield dg.Output(None, "result", metadata=shown, tags=data_version_tag(document))
    yield from answers  # before it, Dagster would take them for answers about the build before


@dg.graph_asset(
    partitions_def=inference_tables,
    group_name="inferences",
    kinds={"iceberg", "parquet"},
    ins={"model_run": lineage_input(), "source_table": lineage_input()},
    check_specs=CHECKS,
)
def inference_table(model_run: Any, source_table: Any) -> Any:
    """What a trained run says of every choice of a table: its probability, odds, log-odds and utility.

    - A partition is `database.table/experiment/` and twelve digits of the run id: the rows that this run wrote into that
      table, which many runs may share. It is registered by the job `register_inference`.
    - A row is one choice of one decision; probabilities add up to 1 within a decision. Rows are joined to the source table
      on `_individual`, `_decision` and `_choice`.
    - **Next**: `mimic tables export`, or read the Iceberg table with any engine.
    """
    tasks = plan_inference(model_run=model_run, source_table=source_table)
    return published(CHECKS, publish_inference(tasks.collect(), tasks.map(score_part).collect()))


def run_functions(
    folder: str, run: dict[str, Any], explain: Sequence[str], artefacts: ArtefactStore
) -> tuple[scoring.Function, scoring.Function]:
    """Load a run's network, its files verified against the manifest; return its utility and its derivatives by features.

    Args:
        folder: of the run.
        run: its manifest.

    Raises:
        CorruptFileError: a file is damaged.
        NotFoundError: a file is gone.
        SpecError: its layers file may not be executed here.
    """
    from mimic_core import networks

    files = {file["path"]: file for file in run["files"]}
    folder = f"{folder}/{run['version']}"
    layers = artefacts.read(f"{folder}/layers.py", files["layers.py"]).decode()
    require_allowed(layers, artefacts.where(f"{folder}/layers.py"))
    artefacts.read(f"{folder}/model.keras", files["model.keras"])
    with artefacts.local_folder(folder, [files["model.keras"]]) as local:
        network = networks.load_network(local / "model.keras", layers)
    explained = [run["features"].index(name) for name in explain]
    return networks.utility_function(network), networks.gradient_function(network, explained)


def _publish(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[InferenceSpec]],
    scored: list[ScoredPart],
    found: ScoredTable,
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    task = tasks[0]
    build, spec, tally = task.build, task.build.stored.spec, found.tally
    tables_of = {split: alternative_table(found.measured[split].alternatives) for split in SPLITS}
    labels = {code: label for part in scored for code, label in part.labels.items()}
    effects = add_effects(part.effects for part in scored)
    composite = WEIGHT in tables.schema_of(task.pin).names
    metrics = scoring.metrics(found.measured, composite=composite)
    withheld = [NO_RHO_SQUARED.format(WITH_WEIGHTS)] if composite and metrics else []
    counts = {
        "rows": tally.outcome.rows,
        "decisions": tally.outcome.decisions,
        **{f"{split}_rows": tally.rows[split] for split in SPLITS},
        "single_choice_decisions": tally.outcome.single_choice_decisions,
        **dropped_count(task),
    }
    inputs = _inputs(spec, task.run, task.pin, tables)
    staged = [part.staged for part in scored]
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
            metrics=metrics | inference_checks.drift_metric(found.drifts),
            contract=report,
            table=spec.destination,
            notes=notes(tasks)
            + withheld
            + notes_on(effects, spec.explain)
            + inference_checks.warnings(found.calibration, found.drifts),
            alternatives=labelled(tables_of, labels),
            drift=None if found.drifts is None else [asdict(drift) for drift in found.drifts],
            **({"effects": [asdict(effect) for effect in summarise(effects, spec.explain)]} if spec.explain else {}),
        )
        publication.prepare(document)  # what cannot be published must fail before the table changes
        key = rows_of_run(spec)
        document["snapshot"] = tables.replace(spec.destination, staged, key).snapshot
        publication.publish(document)
    return document


def _together(scored: Sequence[ScoredPart], run: dict[str, Any]) -> ScoredTable:
    measured = scoring.add_splits([part.measured for part in scored])
    sample = add_samples(part.sample for part in scored)
    return ScoredTable(
        tally=add_tallies(part.tally for part in scored),
        measured=measured,
        counts=add_counts(part.counts for part in scored),
        calibration=judge_calibration(measured),
        drifts=measure_drift(run.get("distributions"), sample, run["features"]),
    )


def _inputs(spec: InferenceSpec, run: dict[str, Any], pin: Pin, tables: TableStore) -> dict[str, Any]:
    # those that the spec names, as the planner knows no others; what only interactions of the run name changes the token too
    columns = columns_to_read(tables.schema_of(pin), spec.features, spec.conditions)
    return {
        "model_run": {"key": spec.run_key, "fingerprint": run["fingerprint"]},
        "source_table": table_input(pin, columns, tables),
    }


def _rules(spec: InferenceSpec, run: dict[str, Any]) -> contract.Rules:
    return inferences.rules(run["features"], run["missing_values_map"], spec.conditions)
