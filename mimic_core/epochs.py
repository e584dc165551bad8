"""Epochs: the graph that trains a network by mini-batches of decisions, all batches of an epoch in one call.

Only rows really offered enter the network and the softmax, so nothing depends on padding.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mimic_core.model_specs import ModelSpec
from mimic_core.rows import Rows
from mimic_core.streams import Stream

if TYPE_CHECKING:
    import keras


def train_epochs(
    network: "keras.Model", optimizer: "keras.optimizers.Optimizer", model: ModelSpec, stream: Stream, done: int = 0
) -> Iterator[tuple[float, int | None]]:
    """Train epoch by epoch.

    Args:
        optimizer: built for the trainable variables of the network.
        stream: decisions, some of a weight above 0.
        done: epochs that the network and the optimizer have behind them.

    Yields:
        The mean loss of the epoch, and None; or a loss that is not finite and the batch, from 0, that has it.
    """
    import tensorflow as tf

    if stream.rows is None:
        raise ValueError("a network is trained on decisions in memory; read the split without a limit")
    rows = stream.rows
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
        # as Keras adds them up: a layer may add a loss in its own precision, and one for each row
        added = [tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in network.losses]
        return tf.reduce_mean(nll) + tf.add_n([tf.constant(0.0), *added])

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

    for number in range(done, model.epochs):
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
