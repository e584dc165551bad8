"""Training: a network is fitted epoch by epoch, judged after each, and the best epoch is kept.

A training that was cut off goes on from its last checkpoint, with the results of one that was not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mimic_core import backend, checkpoints, layers_files, networks, optimizers
from mimic_core.checkpoints import Checkpoint
from mimic_core.design import NO_WEIGHT
from mimic_core.epochs import train_epochs
from mimic_core.errors import CorruptFileError, TrainingError
from mimic_core.evaluation import Evaluation, combine, measure
from mimic_core.history import Epoch, best_of, has_ended, mark_exported
from mimic_core.ranges import Ranges, ranges
from mimic_core.rows import Float64, Rows
from mimic_core.specs import RunSpec
from mimic_core.streams import Stream

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a training says what it does, and where it goes on.

    Attributes:
        on_begin: called once, before the first epoch, with those that an earlier training finished.
        on_decisions: called within an epoch of a network with its number, its decisions so far, and how many there are.
        on_epoch: called after each epoch, or each iteration of a solver.
        on_checkpoint: called before that, for a network, with the bytes of a checkpoint; see `mimic_core.checkpoints`.
        resume: of an earlier training of the same network on the same decisions, which goes on after it.
        warn: called with a warning as soon as it is known.
        clock: tells seconds since some moment; None leaves the durations out.
    """

    on_begin: Callable[[list[Epoch]], None] = lambda _: None
    on_decisions: Callable[[int, int, int], None] = lambda *_: None
    on_epoch: Callable[[Epoch], None] = lambda _: None
    on_checkpoint: Callable[[bytes], None] | None = None
    resume: Checkpoint | None = None
    warn: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] | None = None


def fit(
    spec: RunSpec, layers_source: str, stream: Stream, chooser: Stream, progress: Progress
) -> tuple["keras.Model", list[Epoch]]:
    """Train a run's network and keep the epoch with the lowest loss of the decisions that choose.

    Args:
        chooser: decisions that choose the epoch; without any, the last one is kept.

    Raises:
        TrainingError: no decision has a weight above 0, or a loss or a weight of the network is not finite.
        SpecError: the model cannot be made.
    """
    if not any(rows.weights.any() for rows in stream):
        raise TrainingError(NO_WEIGHT)
    network, optimizer = _build(spec, layers_source)
    utilities = networks.utility_function(network)
    history, best_weights = _resume(network, optimizer, progress)
    progress.on_begin(list(history))

    def tell(epoch: int, done: int) -> None:
        progress.on_decisions(epoch, done, stream.decisions)

    epochs = train_epochs(network, optimizer, spec.model, stream, done=len(history), on_decisions=tell)
    stopwatch = Stopwatch(progress.clock)
    while not has_ended(history, spec.model.epochs, spec.model.patience):
        number = len(history) + 1
        loss, broken = next(epochs)
        if broken is not None:
            batches = -(-stream.decisions // min(spec.model.batch_size, stream.decisions))
            raise TrainingError(
                f"the loss of epoch {number} is {loss} in batch {broken + 1} of {batches}; expected a finite number. "
                f"The features reach {_ranges(spec, stream).widest}; scale them, or give a lower learning_rate"
            )
        _require_finite_weights(network, number)
        judged = _judge_finite(spec, chooser, utilities, number)
        rate = optimizers.learning_rate(optimizer)
        history.append(finished_epoch(number, loss, judged, seconds=stopwatch.lap(), learning_rate=rate))
        if best_of(history) == number:
            best_weights = network.get_weights()
        if progress.on_checkpoint is not None:
            progress.on_checkpoint(checkpoints.save(network, optimizer, best_weights, history))
        progress.on_epoch(history[-1])
    network.set_weights(best_weights)
    return network, mark_exported(history, best_of(history))


class Stopwatch:
    """Measures how long something takes, by a clock that the caller gives."""

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self._clock, self._began = clock, clock() if clock else 0.0

    def lap(self) -> float | None:
        """Return the seconds since the last call or, at first, since it was made; None without a clock."""
        if self._clock is None:
            return None
        began, self._began = self._began, self._clock()
        return self._began - began


def with_offset(utility: Float64, rows: Rows) -> Float64:
    """Add to (rows,) utilities what sampled choice sets need: the sampling log-probability where rows have one."""
    return utility if rows.offset is None else utility + rows.offset


def judge_epoch(chooser: Stream, utilities: networks.Utilities) -> Evaluation | None:
    """Evaluate utilities on the decisions that choose the epoch; None without any of a weight above 0."""
    return combine(measure(rows, with_offset(utilities(rows.x), rows)) for rows in chooser)


def finished_epoch(
    number: int, loss: float, judged: Evaluation | None, *, seconds: float | None, learning_rate: float | None = None
) -> Epoch:
    """Say what there is to say of an epoch, or an iteration, that was judged."""
    return Epoch(
        epoch=number,
        loss=loss,
        val_loss=judged.nll if judged else None,
        val_accuracy=judged.accuracy if judged else None,
        seconds=seconds,
        learning_rate=learning_rate,
    )


def _build(spec: RunSpec, layers_source: str) -> tuple["keras.Model", "keras.optimizers.Optimizer"]:
    file = layers_files.load_layers(layers_source)
    networks.check_model(spec.model, file, spec.columns)
    backend.seed(spec.model.seed)
    network = networks.build_network(spec.model, spec.columns, file.layers)
    optimizer = optimizers.make_optimizer(spec.model)
    optimizer.build(network.trainable_variables)
    return network, optimizer


def _resume(
    network: "keras.Model", optimizer: "keras.optimizers.Optimizer", progress: Progress
) -> tuple[list[Epoch], checkpoints.Arrays]:
    """Go on where an earlier training ended, if one did; returns its epochs and the weights of the best one."""
    if progress.resume is not None:
        try:
            checkpoints.restore(progress.resume, network, optimizer)
        except CorruptFileError as error:
            progress.warn(str(error))
        else:
            return list(progress.resume.history), progress.resume.best
    return [], network.get_weights()


def _judge_finite(spec: RunSpec, chooser: Stream, utilities: networks.Utilities, epoch: int) -> Evaluation | None:
    with np.errstate(over="ignore", invalid="ignore"):  # said below in words
        judged = judge_epoch(chooser, utilities)
    if judged and not np.isfinite(judged.nll):
        raise TrainingError(
            f"the val_loss of epoch {epoch} is {judged.nll}; expected a finite number. The features reach "
            f"{_ranges(spec, chooser).widest}; scale them, or give a lower learning_rate"
        )
    return judged


def _ranges(spec: RunSpec, stream: Stream) -> Ranges:
    return ranges(stream, spec.columns.inputs)


def _require_finite_weights(network: "keras.Model", epoch: int) -> None:
    if not all(np.isfinite(weights).all() for weights in network.get_weights()):
        raise TrainingError(
            f"the weights are not finite after epoch {epoch}: training diverged. "
            "Give a lower learning_rate, or scale the features"
        )
