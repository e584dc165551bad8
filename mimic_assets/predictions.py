"""Predictions: a trained run scores one file as an inference scores a table; nothing is registered or published."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mimic_assets.inference_checks import drift_metric, warnings
from mimic_assets.inferences import run_functions
from mimic_assets.run_files import find_run, trained_manifest
from mimic_core import contract, inferences, outcomes, scoring
from mimic_core.calibration import judge_calibration
from mimic_core.coefficients import NO_RHO_SQUARED, WITH_WEIGHTS
from mimic_core.drift import measure_drift
from mimic_core.effects import notes_on, summarise
from mimic_core.score_counts import require_sums_of_one
from mimic_core.shards import Part, plan_parts
from mimic_core.sources import KEYS, OPTIONAL, SPLITS, WEIGHT, check_schema, columns_to_read
from mimic_core.specs import RunSpec
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore
from resources.tables import Pin, TableStore

MEND = "mend these rows, or leave their decisions out, and run this again"
Write = Callable[[Iterable[pa.RecordBatch], pa.Schema], int]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A run and the file that it is to score, which fit each other.

    Attributes:
        manifest: of the run.
        schema: the file's columns.
        explain: the features by which probabilities are differentiated.
    """

    run: RunSpec
    manifest: dict[str, Any]
    pin: Pin
    schema: pa.Schema
    explain: tuple[str, ...]

    @property
    def rules(self) -> contract.Rules:
        """What is asked of the rows."""
        return inferences.rules(self.manifest["features"], self.manifest["missing_values_map"])

    @property
    def columns(self) -> pa.Schema:
        """What is read of the file."""
        return columns_to_read(self.schema, self.rules.columns)

    @property
    def scores(self) -> pa.Schema:
        """The columns that are made: those of an inference table but `_partition`, which says nothing of a file."""
        made = inferences.inference_schema(self.columns, self.explain)
        return pa.schema([field for field in made if field.name != "_partition"])


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What came of a prediction.

    Attributes:
        metrics: of decisions with one selected row, named as those of an inference; empty without such.
        effects: of the explained features.
        notes: what a reader of these numbers must know.
    """

    counts: dict[str, int]
    metrics: dict[str, float | int | None]
    effects: list[dict[str, Any]]
    notes: list[str]


def pin_prediction(
    run: str, file: Path, explain: Sequence[str], specs: SpecStore, tables: TableStore, artefacts: ArtefactStore
) -> Prediction:
    """Pin a file, and check that a run can be applied to it.

    Args:
        run: its key, or at least 8 digits that begin its id.
        file: Parquet or CSV, or a folder of such files.

    Raises:
        SpecError: there is no such run, or it does not read a feature to explain.
        NotFoundError: the run is not trained.
        TableError: the file cannot be read, or lacks columns that the run needs.
    """
    spec = find_run(run, specs)
    manifest = trained_manifest(spec, artefacts)
    features = manifest["features"]
    inferences.check_explained(explain, features)
    pin = tables.pin_files(file, {*KEYS, *OPTIONAL, *features})
    schema = tables.schema_of(pin)
    check_schema(schema, features, table=pin.name, required=KEYS)
    return Prediction(run=spec, manifest=manifest, pin=pin, schema=schema, explain=tuple(explain))


def predict(
    prediction: Prediction,
    write: Write,
    tables: TableStore,
    artefacts: ArtefactStore,
    on_rows: Callable[[int], None] = lambda _: None,
    on_spill: Callable[[float], None] = lambda _: None,
) -> Predicted:
    """Score a file.

    Args:
        write: takes the scored rows, in the order of individual, decision and choice, and their columns. What it wrote must
            not count if the rows end in an error.
        on_rows: called with the number of rows scored so far.
        on_spill: as in `TableStore.blocks`.

    Raises:
        DecisionTableError: rows break the contract; all broken rules are named.
        ConflictError: the file was changed meanwhile.
        TrainingError: the run gives a row a utility or a derivative that is not finite.
    """
    run, pin, rules = prediction.run, prediction.pin, prediction.rules
    (part,) = plan_parts(dict.fromkeys(SPLITS, 1), tables.row_groups(pin))
    whole = scoring.Scoring(
        rules,
        part,
        lambda: run_functions(run.folder, prediction.manifest, prediction.explain, artefacts),
        experiment_name=run.experiment_name,
        run_id=run.run_id,
        explain=prediction.explain,
        shares=scoring.shares_in(prediction.schema, prediction.manifest),
        table_rows=pin.rows,
    )

    def scored() -> Iterator[pa.RecordBatch]:
        for rows in whole.rows(_checked_blocks(prediction, part, tables, on_rows, on_spill)):
            yield from rows.select(prediction.scores.names).combine_chunks().to_batches()
        # before what was written counts
        _require_kept(prediction, whole, tables)
        require_sums_of_one(whole.counts, run.run_id)

    write(scored(), prediction.scores)
    return _predicted(prediction, whole)


def _checked_blocks(
    prediction: Prediction,
    part: Part,
    tables: TableStore,
    on_rows: Callable[[int], None],
    on_spill: Callable[[float], None],
) -> Iterator[contract.Block]:
    rows = 0
    for table in tables.blocks(prediction.pin, prediction.columns, part, on_spill):
        yield contract.check_block(table, prediction.rules)
        rows += len(table)
        on_rows(rows)


def _require_kept(prediction: Prediction, whole: scoring.Scoring, tables: TableStore) -> None:
    found, pin = whole.tally, prediction.pin
    outcomes.require_all_read(found.rows_read, pin.rows, pin.name)
    outcome = found.outcome
    if outcome.violations:  # described in the order of the file, as the check of a table does
        outcome = contract.check_table(
            lambda: tables.batches(pin, prediction.columns.names), pin.rows, prediction.rules
        ).outcome
    outcomes.require_kept(outcome, pin.name, made="written", mend=MEND)


def _predicted(prediction: Prediction, whole: scoring.Scoring) -> Predicted:
    found, explain, composite = whole.tally, prediction.explain, WEIGHT in prediction.schema.names
    metrics = scoring.metrics(whole.measured, composite=composite)
    drifts = measure_drift(prediction.manifest.get("distributions"), whole.sample, prediction.manifest["features"])
    warned = warnings(judge_calibration(whole.measured), drifts)
    withheld = [NO_RHO_SQUARED.format(WITH_WEIGHTS)] if composite and metrics else []
    return Predicted(
        counts={
            "rows": found.outcome.rows,
            "decisions": found.outcome.decisions,
            **{f"{split}_rows": found.rows[split] for split in SPLITS},
            "single_choice_decisions": found.outcome.single_choice_decisions,
        },
        metrics={**metrics, **drift_metric(drifts)},
        effects=[asdict(effect) for effect in summarise(whole.effects, explain)],
        notes=withheld + notes_on(whole.effects, explain) + warned,
    )
