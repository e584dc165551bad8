"""Runs: train one model of an experiment and say how good it is.

A network is trained by mini-batches of decisions and keeps the epoch with the lowest validation loss; a model without layers
is the conditional logit and is estimated to its optimum instead (`mimic_core.logit`). Only rows really offered enter the
network and the softmax, so nothing depends on padding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mimic_core import logit, networks
from mimic_core.errors import SpecError, TrainingError
from mimic_core.evaluation import Evaluation, evaluate, named
from mimic_core.rows import Float32, Float64, Rows, hash64, take_decisions
from mimic_core.specs import ModelSpec, RunSpec

if TYPE_CHECKING:
    import keras

CODE_VERSION = "1"  # bump by hand when the same spec and dataset give another model


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of a network, or one iteration of the solver of a conditional logit.

    Attributes:
        epoch: from 1.
        loss: mean negative log-likelihood over the epoch's training batches, in nats, regularisers included.
        val_loss: the same over the decisions that choose the epoch, after it; None without such decisions.
        exported: whether the exported model is that of this epoch.
    """

    epoch: int
    loss: float
    val_loss: float | None
    exported: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained model and what a person asks about it.

    Attributes:
        network: (rows, features) -> (rows, 1) utility.
        history: every epoch, exactly one of them exported.
        evaluations: by split: train, validation (where asked for), test (where not empty).
        notes: what a reader of the numbers must know.
    """

    network: "keras.Model"
    history: list[Epoch]
    evaluations: dict[str, Evaluation]
    notes: list[str]


def train(
    spec: RunSpec,
    layers_source: str,
    train_rows: Rows,
    test_rows: Rows,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainedRun:
    """Train a run.

    Args:
        spec: the run; features are in the order of the columns of `x`.
        layers_source: the layers file.
        train_rows, test_rows: the dataset's splits, float32 features; the test split may be empty.
        on_epoch: called after each epoch.

    Raises:
        TrainingError: no training decisions, a loss that is not finite, or a logit that does not converge.
        SpecError: the validation share leaves a part empty, or the model cannot be made.
    """
    if not train_rows.decisions:
        raise TrainingError("the training split is empty; set _train for some individuals and build the dataset again")
    model, notes = spec.model, []
    parts = {"train": train_rows, "test": test_rows}
    if model.validation is not None:
        parts = {**split_validation(train_rows, model.validation, model.seed), "test": test_rows}
        chooser = parts["validation"]
    else:
        chooser = test_rows
    if model.linear:
        network, history, found = _estimate(spec, parts["train"], chooser, on_epoch)
        notes += found
        if model.validation is not None:
            notes.append(f"a share of {model.validation} of the training individuals was held out of the estimate")
    else:
        network, history = _fit(spec, layers_source, parts["train"], chooser, on_epoch)
        if model.validation is None and chooser.decisions:
            notes.append(
                "the exported epoch was chosen by its loss on the test split, so test numbers are a little too good; "
                'set "validation" in the model to choose it on training individuals instead'
            )
    if not test_rows.decisions:
        notes.append("the test split is empty: there are no test numbers" + _last_epoch(model, chooser))
    utilities = networks.utility_function(network)
    with np.errstate(over="ignore", invalid="ignore"):  # said below in words
        evaluated = {name: evaluate(rows, utilities(rows.x)) for name, rows in parts.items()}
    evaluations = {name: result for name, result in evaluated.items() if result is not None}
    for name, result in evaluations.items():
        if not np.isfinite(result.nll):
            raise TrainingError(
                f"the log-likelihood of the {name} decisions is not finite: the utilities are out of range. "
                "Give a lower learning_rate, or scale the features"
            )
    return TrainedRun(network=network, history=history, evaluations=evaluations, notes=notes)


def split_validation(rows: Rows, share: float, seed: int) -> dict[str, Rows]:
    """Set a share of the individuals aside: those whose seeded hash is low, and at least the one with the lowest.

    Who is set aside does not depend on the other individuals, so it stays as data arrives.

    Raises:
        SpecError: no one would be left to train on.
    """
    individuals = rows.individuals
    hashes = hash64(individuals, seed + 1)
    limit = max(np.uint64(int(share * 2**64)), hashes.min())
    mine = np.isin(rows.individual[rows.starts], individuals[hashes <= limit])  # (decisions,)
    if mine.all():
        raise SpecError(
            f"model.validation: a share of {share} of {len(individuals)} training individuals leaves no one to train on; "
            "give a smaller share, or train on more individuals"
        )
    return {"train": take_decisions(rows, np.flatnonzero(~mine)), "validation": take_decisions(rows, np.flatnonzero(mine))}


def metrics(run: TrainedRun) -> dict[str, float | int | None]:
    """Flatten a run's evaluations and history to named numbers, such as `test_nll`."""
    flat: dict[str, float | int | None] = {}
    for split, evaluation in run.evaluations.items():
        flat |= named(evaluation, split)
    exported = next(epoch for epoch in run.history if epoch.exported)
    return flat | {
        "loss": exported.loss,
        "val_loss": exported.val_loss,
        "exported_epoch": exported.epoch,
        "epochs": len(run.history),
        "last_val_loss": run.history[-1].val_loss,
    }


def _estimate(
    spec: RunSpec, rows: Rows, chooser: Rows, on_epoch: Callable[[Epoch], None]
) -> tuple["keras.Model", list[Epoch], list[str]]:
    history: list[Epoch] = []

    def record(iteration: int, nll: float, coefficients: Float64) -> None:
        judged = evaluate(chooser, chooser.x.astype(np.float64) @ coefficients)
        history.append(Epoch(epoch=iteration, loss=nll, val_loss=judged.nll if judged else None))
        on_epoch(history[-1])

    result = logit.estimate(rows, list(spec.features), record)
    history[-1] = replace(history[-1], exported=True)
    notes = []
    if result.not_identified:
        notes.append(
            f"not identified, and without effect on the utilities: {', '.join(result.not_identified)} "
            "(constant within every decision, or an exact combination of other features)"
        )
    return networks.linear_network(result.coefficients), history, notes


def _fit(
    spec: RunSpec, layers_source: str, rows: Rows, chooser: Rows, on_epoch: Callable[[Epoch], None]
) -> tuple["keras.Model", list[Epoch]]:
    keras = networks.import_keras()
    keras.utils.set_random_seed(spec.model.seed)
    layers, _ = networks.load_layers(layers_source)
    networks.check_model(spec.model, layers, len(spec.features))
    network = networks.build_network(spec.model, len(spec.features), layers)
    utilities = networks.utility_function(network)
    history: list[Epoch] = []
    best, best_weights = 0, network.get_weights()
    for number, loss in enumerate(train_epochs(network, spec.model, rows), start=1):
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss of epoch {number} is {loss}; expected a finite number. The features reach "
                f"{_ranges(rows.x, spec.features)}; scale them, or give a lower learning_rate"
            )
        _require_finite_weights(network, number)
        with np.errstate(over="ignore", invalid="ignore"):  # said below in words
            judged = evaluate(chooser, utilities(chooser.x))
        if judged and not np.isfinite(judged.nll):
            raise TrainingError(
                f"the val_loss of epoch {number} is {judged.nll}; expected a finite number. The features reach "
                f"{_ranges(chooser.x, spec.features)}; scale them, or give a lower learning_rate"
            )
        history.append(Epoch(epoch=number, loss=loss, val_loss=judged.nll if judged else None))
        if best == 0 or judged is None or judged.nll < (history[best - 1].val_loss or 0.0):
            best, best_weights = number, network.get_weights()
        on_epoch(history[-1])
    network.set_weights(best_weights)
    history[best - 1] = replace(history[best - 1], exported=True)
    return network, history


def train_epochs(network: "keras.Model", model: ModelSpec, rows: Rows) -> Iterator[float]:
    """Train epoch by epoch, yielding the mean loss of each; all batches of an epoch run in one graph call."""
    import tensorflow as tf

    optimizer = networks.make_optimizer(model)
    optimizer.build(network.trainable_variables)
    features = tf.constant(rows.x)  # (rows, features)
    size = min(model.batch_size, rows.decisions)

    def batch_loss(x: Any, segment: Any, selected: Any) -> Any:
        utility = network(x, training=True)[:, 0]  # (rows of the batch,)
        highest = tf.stop_gradient(tf.math.segment_max(utility, segment))  # (batch,)
        total = tf.math.segment_sum(tf.exp(utility - tf.gather(highest, segment)), segment)
        nll = tf.math.log(total) + highest - tf.gather(utility, selected)
        return tf.reduce_mean(nll) + tf.add_n([tf.constant(0.0), *network.losses])

    @tf.function  # type: ignore[untyped-decorator]
    def epoch(order: Order) -> Any:
        total = tf.constant(0.0)
        for number in tf.range(tf.size(order.bounds) - 1):
            x, segment, selected = take_batch(features, order, number, size)
            with tf.GradientTape() as tape:
                loss = batch_loss(x, segment, selected)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
            total += loss * tf.cast(tf.size(selected), tf.float32)
        return total / rows.decisions

    for number in range(model.epochs):
        yield float(epoch(order_epoch(rows, size, model.seed, number)))


class Order(NamedTuple):
    """The batches of an epoch, one after the other.

    Attributes:
        rows: (rows,) which row comes where.
        segment: (rows,) to which decision of its batch it belongs.
        selected: (decisions,) the row of the selected choice within its batch.
        bounds: (batches + 1,) the first row of each batch, and the number of rows.
    """

    rows: Any
    segment: Any
    selected: Any
    bounds: Any


def order_epoch(rows: Rows, size: int, seed: int, number: int) -> Order:
    """Permute the decisions of an epoch, counted from 0, and say which rows its batches have.

    This is done for the whole epoch at once: in the graph it took as long for every batch as gathering its rows.
    """
    import tensorflow as tf

    decisions = np.random.default_rng([seed, number]).permutation(rows.decisions)
    lengths, starts = rows.counts[decisions], rows.starts[decisions]
    begins = np.cumsum(lengths) - lengths
    bounds = np.append(begins[::size], len(rows))
    order = Order(
        rows=np.arange(len(rows)) + np.repeat(starts - begins, lengths),
        segment=np.repeat(np.arange(rows.decisions) % size, lengths),
        selected=np.flatnonzero(rows.selected)[decisions] - starts + begins - np.repeat(bounds[:-1], size)[: rows.decisions],
        bounds=bounds,
    )
    return Order(*map(tf.constant, order))


def take_batch(x: Any, order: Order, number: Any, size: int) -> tuple[Any, Any, Any]:
    """Take a batch of `size` decisions within a graph: its rows of `x`, and its parts of `segment` and `selected`."""
    import tensorflow as tf

    first, last = order.bounds[number], order.bounds[number + 1]
    return (
        tf.gather(x, order.rows[first:last]),
        order.segment[first:last],
        order.selected[number * size : (number + 1) * size],
    )


def _require_finite_weights(network: "keras.Model", epoch: int) -> None:
    if not all(np.isfinite(weights).all() for weights in network.get_weights()):
        raise TrainingError(
            f"the weights are not finite after epoch {epoch}: training diverged. "
            "Give a lower learning_rate, or scale the features"
        )


def _last_epoch(model: ModelSpec, chooser: Rows) -> str:
    return ", and the last epoch is exported" if not chooser.decisions and not model.linear else ""


def _ranges(x: Float32, features: tuple[str, ...]) -> str:
    widest = np.argsort(-np.abs(x).max(axis=0))[:3]
    return ", ".join(f"{features[j]} {x[:, j].min():g} to {x[:, j].max():g}" for j in widest)
