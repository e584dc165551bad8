"""Training: a network is fitted by mini-batches of decisions, all batches of an epoch in one graph call.

Only rows really offered enter the network and the softmax, so nothing depends on padding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mimic_core import networks
from mimic_core.design import NO_WEIGHT
from mimic_core.errors import TrainingError
from mimic_core.evaluation import evaluate
from mimic_core.ranges import Ranges, ranges
from mimic_core.rows import Float64, Rows
from mimic_core.specs import ModelSpec, RunSpec
from mimic_core.streams import in_memory

if TYPE_CHECKING:
    import keras


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


def fit(
    spec: RunSpec, layers_source: str, rows: Rows, chooser: Rows, on_epoch: Callable[[Epoch], None]
) -> tuple["keras.Model", list[Epoch]]:
    """Train a run's network and keep the epoch with the lowest loss of the decisions that choose.

    Args:
        chooser: decisions that choose the epoch; without any, the last one is kept.

    Raises:
        TrainingError: no decision has a weight above 0, or a loss or a weight of the network is not finite.
        SpecError: the model cannot be made.
    """
    if rows.weight is not None and not rows.weight.any():
        raise TrainingError(NO_WEIGHT)
    keras = networks.import_keras()
    keras.utils.set_random_seed(spec.model.seed)
    layers, _ = networks.load_layers(layers_source)
    networks.check_model(spec.model, layers, spec.columns)
    network = networks.build_network(spec.model, spec.columns, layers)
    utilities = networks.utility_function(network)
    history: list[Epoch] = []
    best, best_weights = 0, network.get_weights()
    for number, (loss, broken) in enumerate(train_epochs(network, spec.model, rows), start=1):
        if broken is not None:
            batches = -(-rows.decisions // min(spec.model.batch_size, rows.decisions))
            raise TrainingError(
                f"the loss of epoch {number} is {loss} in batch {broken + 1} of {batches}; expected a finite number. "
                f"The features reach {_ranges(spec, rows).widest}; scale them, or give a lower learning_rate"
            )
        _require_finite_weights(network, number)
        with np.errstate(over="ignore", invalid="ignore"):  # said below in words
            judged = evaluate(chooser, with_offset(utilities(chooser.x), chooser))
        if judged and not np.isfinite(judged.nll):
            raise TrainingError(
                f"the val_loss of epoch {number} is {judged.nll}; expected a finite number. The features reach "
                f"{_ranges(spec, chooser).widest}; scale them, or give a lower learning_rate"
            )
        history.append(Epoch(epoch=number, loss=loss, val_loss=judged.nll if judged else None))
        if best == 0 or judged is None or judged.nll < (history[best - 1].val_loss or 0.0):
            best, best_weights = number, network.get_weights()
        on_epoch(history[-1])
    network.set_weights(best_weights)
    history[best - 1] = replace(history[best - 1], exported=True)
    return network, history


def with_offset(utility: Float64, rows: Rows) -> Float64:
    """Add to (rows,) utilities what sampled choice sets need: the sampling log-probability where rows have one."""
    return utility if rows.offset is None else utility + rows.offset


def train_epochs(network: "keras.Model", model: ModelSpec, rows: Rows) -> Iterator[tuple[float, int | None]]:
    """Train epoch by epoch.

    Yields:
        The mean loss of the epoch, and None; or a loss that is not finite and the batch, from 0, that has it.
    """
    import tensorflow as tf

    optimizer = networks.make_optimizer(model)
    optimizer.build(network.trainable_variables)
    features = tf.constant(rows.x)  # (rows, features)
    weights = None if rows.weight is None else tf.constant(rows.weight / rows.weight.mean(dtype=np.float64), tf.float32)
    offsets = None if rows.offset is None else tf.constant(rows.offset)
    size = min(model.batch_size, rows.decisions)

    def batch_loss(batch: Batch) -> Any:
        utility = network(batch.x, training=True)[:, 0]  # (rows of the batch,)
        if offsets is not None:
            utility += tf.gather(offsets, batch.rows)
        highest = tf.stop_gradient(tf.math.segment_max(utility, batch.segment))  # (batch,)
        total = tf.math.segment_sum(tf.exp(utility - tf.gather(highest, batch.segment)), batch.segment)
        nll = tf.math.log(total) + highest - tf.gather(utility, batch.selected)
        if weights is not None:
            nll *= tf.gather(weights, batch.decisions)
        return tf.reduce_mean(nll) + tf.add_n([tf.constant(0.0), *network.losses])

    @tf.function  # type: ignore[untyped-decorator]
    def epoch(order: Order) -> Any:
        total, broken = tf.constant(0.0), tf.constant(-1)
        for number in tf.range(tf.size(order.bounds) - 1):
            batch = take_batch(features, order, number, size)
            with tf.GradientTape() as tape:
                loss = batch_loss(batch)
            if not tf.math.is_finite(loss):
                total, broken = loss, number
                break
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
            total += loss * tf.cast(tf.size(batch.selected), tf.float32)
        return total, broken

    for number in range(model.epochs):
        total, broken = epoch(order_epoch(rows, size, model.seed, number))
        yield (float(total) / rows.decisions, None) if broken < 0 else (float(total), int(broken))


class Order(NamedTuple):
    """The batches of an epoch, one after the other.

    Attributes:
        decisions: (decisions,) which decision comes where.
        rows: (rows,) which row comes where.
        segment: (rows,) to which decision of its batch it belongs.
        selected: (decisions,) the row of the selected choice within its batch.
        bounds: (batches + 1,) the first row of each batch, and the number of rows.
    """

    decisions: Any
    rows: Any
    segment: Any
    selected: Any
    bounds: Any


class Batch(NamedTuple):
    """One batch: the values of its rows, and its parts of an `Order`."""

    x: Any
    decisions: Any
    rows: Any
    segment: Any
    selected: Any


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
        decisions=decisions,
        rows=np.arange(len(rows)) + np.repeat(starts - begins, lengths),
        segment=np.repeat(np.arange(rows.decisions) % size, lengths),
        selected=np.flatnonzero(rows.selected)[decisions] - starts + begins - np.repeat(bounds[:-1], size)[: rows.decisions],
        bounds=bounds,
    )
    return Order(*map(tf.constant, order))


def take_batch(x: Any, order: Order, number: Any, size: int) -> Batch:
    """Take a batch of `size` decisions within a graph."""
    import tensorflow as tf

    first, last = order.bounds[number], order.bounds[number + 1]
    decisions = slice(number * size, (number + 1) * size)
    rows = order.rows[first:last]
    return Batch(
        x=tf.gather(x, rows),
        decisions=order.decisions[decisions],
        rows=rows,
        segment=order.segment[first:last],
        selected=order.selected[decisions],
    )


def _ranges(spec: RunSpec, rows: Rows) -> Ranges:
    return ranges(in_memory(rows), spec.columns.inputs)


def _require_finite_weights(network: "keras.Model", epoch: int) -> None:
    if not all(np.isfinite(weights).all() for weights in network.get_weights()):
        raise TrainingError(
            f"the weights are not finite after epoch {epoch}: training diverged. "
            "Give a lower learning_rate, or scale the features"
        )
