"""Runs: train one model of an experiment, say how good it is, and describe its coefficients.

A network keeps the epoch with the lowest validation loss (`mimic_core.training`); a model without layers is the conditional
logit and is estimated to its optimum instead (`mimic_core.logit`). Either is judged as it is exported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mimic_core import logit, networks, training
from mimic_core.alternatives import AlternativeShare, alternative_table, shares_of
from mimic_core.coefficients import NO_RHO_SQUARED, OF_CONTRASTS, WITH_OFFSETS, WITH_WEIGHTS, coefficient_table
from mimic_core.comparison import individual_sums
from mimic_core.device_memory import hints_at_memory
from mimic_core.errors import SpecError, TrainingError
from mimic_core.evaluation import Evaluation, Measured, add_measured, calibration, combine, measure, named
from mimic_core.history import Epoch, mark_exported
from mimic_core.ranges import ranges
from mimic_core.rows import Bool, Float32, Float64, Rows, hash64
from mimic_core.sources import OFFSET, WEIGHT
from mimic_core.specs import RunSpec
from mimic_core.streams import Stream, where
from mimic_core.training import Progress, Stopwatch, finished_epoch, judge_epoch, with_offset

if TYPE_CHECKING:
    import keras

CODE_VERSION = "3"  # bump by hand when the same spec and dataset give another model, or other files beside it


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained model and what a person asks about it.

    Attributes:
        model: the bytes of the exported model's file.
        network: that model as it is loaded, (rows, inputs) -> (rows, 1) utility.
        history: every epoch, exactly one of them exported.
        evaluations: by split: train, validation (where asked for), test (where not empty).
        individuals: per split and individual the decisions, their weight and their log-likelihood.
        shares: of the training choices by alternative; None without `_alternative`.
        alternatives: by split: how often each alternative was selected and how often the model says so; empty without them.
        calibration: by split: of each bin of probability what a reliability diagram shows.
        composite: why the likelihood of its decisions is a composite one, of which rho-squared is withheld; empty if not.
        coefficients: the table of a linear model, see `mimic_core.coefficients`; None for a network.
        notes: what a reader of the numbers must know.
    """

    model: bytes
    network: "keras.Model"
    history: list[Epoch]
    evaluations: dict[str, Evaluation]
    individuals: pa.Table
    shares: Mapping[int, float] | None
    alternatives: dict[str, list[AlternativeShare]]
    calibration: dict[str, list[dict[str, float | None]]]
    composite: tuple[str, ...]
    coefficients: dict[str, Any] | None
    notes: list[str]


@hints_at_memory
def train(
    spec: RunSpec,
    layers_source: str,
    train_split: Stream,
    test_split: Stream,
    *,
    contrasts: bool = False,
    progress: Progress | None = None,
) -> TrainedRun:
    """Train a run.

    Args:
        spec: the run.
        layers_source: the layers file.
        train_split, test_split: the dataset's splits, the columns of `x` those of `spec.columns.inputs`; the test split may
            be empty.
        contrasts: whether the dataset was built from a contrast set.
        progress: who is told of epochs and warnings; the latter are among the notes too.

    Raises:
        TrainingError: no training decisions, features or a loss that are not finite, a logit that does not converge, or too
            little memory.
        SpecError: the validation share leaves a part empty, or the model cannot be made.
    """
    if not train_split.decisions:
        raise TrainingError("the training split is empty; set _train for some individuals and build the dataset again")
    progress = progress or Progress()
    model, notes = spec.model, _look_at(spec, train_split, test_split, progress.warn)
    parts = {"train": train_split, "test": test_split}
    if model.validation is not None:
        parts = {**split_validation(train_split, model.validation, model.seed), "test": test_split}
    chooser = parts.get("validation", test_split)
    optional, table = next(iter(train_split)).optional, None
    reasons = {OF_CONTRASTS: contrasts, WITH_WEIGHTS: WEIGHT in optional, WITH_OFFSETS: OFFSET in optional}
    composite = tuple(reason for reason, holds in reasons.items() if holds)
    if model.linear:
        network, history, found = _estimate(spec, parts["train"], chooser, progress)
        table = coefficient_table(found, composite)
        notes += _notes_of(found, progress.warn)
    else:
        network, history = training.fit(spec, layers_source, parts["train"], chooser, progress)
        notes += [NO_RHO_SQUARED.format(", ".join(composite))] * bool(composite)
    exported, network = networks.export_network(network, layers_source)
    shares = shares_of(parts["train"])
    utilities = networks.utility_function(network)
    judged = {name: _judge(name, stream, utilities, shares) for name, stream in parts.items() if stream.decisions}
    combined = {name: combine([measured]) for name, (measured, _) in judged.items()}
    evaluations = {name: evaluation for name, evaluation in combined.items() if evaluation}
    return TrainedRun(
        model=exported,
        network=network,
        history=history,
        evaluations=evaluations,
        individuals=pa.concat_tables([sums for _, tables in judged.values() for sums in tables]),
        shares=shares,
        alternatives={name: alternative_table(measured.alternatives) for name, (measured, _) in judged.items()},
        calibration={name: calibration(judged[name][0]) for name in evaluations},
        composite=composite,
        coefficients=table,
        notes=notes + _notes_on(spec, parts, history, evaluations, contrasts),
    )


def split_validation(stream: Stream, share: float, seed: int) -> dict[str, Stream]:
    """Set a share of the individuals aside: those whose seeded hash is low, and at least the one with the lowest.

    Who is set aside does not depend on the other individuals, so it stays as data arrives.

    Raises:
        SpecError: no one would be left to train on.
    """
    individuals, lowest, highest = 0, np.uint64(2**64 - 1), np.uint64(0)
    for rows in stream:
        hashes = hash64(rows.individuals, seed + 1)
        individuals, lowest, highest = individuals + len(hashes), min(lowest, hashes.min()), max(highest, hashes.max())
    limit = max(np.uint64(int(share * 2**64)), lowest)
    if highest <= limit:
        raise SpecError(
            f"model.validation: a share of {share} of {individuals} training individuals leaves no one to train on; "
            "give a smaller share, or train on more individuals"
        )

    def mine(rows: Rows) -> Bool:
        return np.asarray(hash64(rows.individual[rows.starts], seed + 1) <= limit)

    return {"train": where(stream, lambda rows: ~mine(rows)), "validation": where(stream, mine)}


def metrics(run: TrainedRun) -> dict[str, float | int | None]:
    """Flatten a run's evaluations, statistics and history to named numbers, such as `test_nll`."""
    flat: dict[str, float | int | None] = {}
    for split, evaluation in run.evaluations.items():
        flat |= named(evaluation, split, composite=bool(run.composite))
    if run.coefficients is not None:
        flat |= run.coefficients["statistics"]
    exported = next(epoch for epoch in run.history if epoch.exported)
    return flat | {
        "loss": exported.loss,
        "val_loss": exported.val_loss,
        "exported_epoch": exported.epoch,
        "epochs": len(run.history),
        "last_val_loss": run.history[-1].val_loss,
    }


def _look_at(spec: RunSpec, train_split: Stream, test_split: Stream, warn: Callable[[str], None]) -> list[str]:
    """Refuse values that are not finite, and name constant features, before anything is trained."""
    inputs = spec.columns.inputs
    found = ranges(train_split, inputs)
    found.require_finite("training")
    if test_split.decisions:
        ranges(test_split, inputs).require_finite("test")
    if not found.constant:
        return []
    warn(f"features with one value in all training rows: {', '.join(found.constant)}; they tell nothing")
    return [f"constant in all training rows: {', '.join(found.constant)}"]


def _estimate(
    spec: RunSpec, stream: Stream, chooser: Stream, progress: Progress
) -> tuple["keras.Model", list[Epoch], logit.Estimate]:
    history: list[Epoch] = []
    columns, measured = spec.columns, Stopwatch(progress.clock)
    progress.on_begin(list(history))

    def record(iteration: int, nll: float, coefficients: Float64) -> None:
        judged = judge_epoch(chooser, lambda x: columns.values(x) @ coefficients)
        history.append(finished_epoch(iteration, nll, judged, seconds=measured.lap()))
        progress.on_epoch(history[-1])

    found = logit.estimate(stream, columns, l2=spec.model.l2, on_iteration=record)
    return networks.linear_network(found.coefficients, columns), mark_exported(history, len(history)), found


def _notes_of(found: logit.Estimate, warn: Callable[[str], None]) -> list[str]:
    notes = []
    if found.not_identified:
        notes.append(
            f"not identified, and without effect on the utilities: {', '.join(found.not_identified)} "
            "(constant within every decision, or an exact combination of other features)"
        )
    if found.separated:
        notes.append(
            f"separated: {', '.join(found.separated)}: together they tell selected from rejected choices without exception "
            "in some decisions, so the likelihood has no maximum and these estimates are arbitrary; leave some out, or give "
            '"l2"'
        )
        warn(notes[-1])
    if not found.settled and not found.separated:
        notes.append(
            "the estimate did not settle: the likelihood is almost flat where it ends, so some columns nearly separate "
            'selected from rejected choices; do not trust estimates of extreme size, or give "l2"'
        )
        warn(notes[-1])
    return notes


def _notes_on(
    spec: RunSpec,
    parts: Mapping[str, Stream],
    history: Sequence[Epoch],
    evaluations: Mapping[str, Evaluation],
    contrasts: bool,
) -> list[str]:
    """Say what a reader of the numbers of the splits must know."""
    model, notes, chosen = spec.model, [], history[-1].val_loss is not None
    decisions = parts["train"].decisions
    if model.linear and model.validation is not None:
        notes.append(f"a share of {model.validation} of the training individuals was held out of the estimate")
    if not model.linear and model.batch_size > decisions:
        notes.append(
            f"batch_size {model.batch_size:,}: there are {decisions:,} training decisions, so an epoch is one batch"
        )
    if model.patience is not None and len(history) < model.epochs:
        notes.append(
            f"stopped early, after epoch {len(history)} of {model.epochs}: no lower val_loss for {model.patience} epochs"
        )
    if model.patience is not None and not chosen:
        notes.append("early_stopping did nothing: there are no decisions that could choose an epoch")
    if not model.linear and model.validation is None and chosen:
        notes.append(
            "the exported epoch was chosen by its loss on the test split, so test numbers are a little too good; "
            'set "validation" in the model to choose it on training individuals instead'
        )
    if "test" not in evaluations:
        why = "has no decision of positive weight" if parts["test"].decisions else "is empty"
        last = "" if chosen or model.linear else ", and the last epoch is exported"
        notes.append(f"the test split {why}: there are no test numbers{last}")
    if contrasts:
        notes.append(
            "the numbers of the splits are of pairs of choices; apply the run to a table for those of whole choice sets"
        )
    return notes


def _judge(
    name: str, stream: Stream, utilities: Callable[[Float32], Float64], shares: Mapping[int, float] | None
) -> tuple[Measured, list[pa.Table]]:
    """Measure an exported model on a split, and sum it up by individual.

    Raises:
        TrainingError: the log-likelihood is not finite.
    """
    measured, individuals = [], []
    for rows in stream:
        with np.errstate(over="ignore", invalid="ignore"):  # said below in words
            utility = with_offset(utilities(rows.x), rows)
            measured.append(measure(rows, utility, shares))
            sums = individual_sums(rows, utility)
        individuals.append(sums.add_column(0, "split", pa.repeat(name, len(sums))))
    found = add_measured(measured)
    if not np.isfinite(found.loss):
        raise TrainingError(
            f"the log-likelihood of the {name} decisions is not finite: the utilities are out of range. "
            "Give a lower learning_rate, or scale the features"
        )
    return found, individuals
