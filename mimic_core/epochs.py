"""Epochs: the graph that trains a network by mini-batches of decisions, many batches in one call.

Only rows really offered enter the network and the softmax, so nothing depends on padding. The decisions of an epoch are
taken in windows, permuted; a batch is a slice of its window. What is trained does not depend on the size of the windows.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_core.access import Access, Window
from mimic_core.model_specs import ModelSpec
from mimic_core.rows import Float64, Int64
from mimic_core.streams import Stream, open_access

if TYPE_CHECKING:
    import keras

Batches = dict[str, Any]  # see `prepare_batches`


def train_epochs(
    network: "keras.Model",
    optimizer: "keras.optimizers.Optimizer",
    model: ModelSpec,
    stream: Stream,
    done: int = 0,
    on_decisions: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[tuple[float, int | None]]:
    """Train epoch by epoch.

    Args:
        optimizer: built for the trainable variables of the network.
        stream: decisions, some of a weight above 0.
        done: epochs that the network and the optimizer have behind them.
        on_decisions: called after each window with the epoch, from 1, and the number of its decisions so far.

    Yields:
        The mean loss of the epoch, and None; or one that is not finite and the batch, from 0, whose loss is not.
    """
    import tensorflow as tf

    size = min(model.batch_size, stream.decisions)
    train = _training_function(network, optimizer, size)
    with open_access(stream) as access:
        mean_weight = _mean_weight(stream, access)
        for number in range(done, model.epochs):
            total, broken, before, trained = tf.constant(0.0, tf.float64), tf.constant(-1), 0, 0
            for window in access.windows(order_epoch(stream.decisions, model.seed, number), size):
                total, broken = train(prepare_batches(window, size, mean_weight), total)
                if broken >= 0:
                    break
                before += len(window.counts) // size
                trained += len(window.counts)
                on_decisions(number + 1, trained)
            yield (float(total), before + int(broken)) if broken >= 0 else (float(total) / stream.decisions, None)


def order_epoch(decisions: int, seed: int, number: int) -> Int64:
    """Permute the decisions of an epoch, counted from 0."""
    return np.random.default_rng([seed, number]).permutation(decisions)


def prepare_batches(window: Window, size: int, mean_weight: float | None = None) -> Batches:
    """Say which rows the batches of a window have, as tensors.

    This is done for the whole window at once: in the graph it took as long for every batch as gathering its rows.

    Returns:
        `x` (rows, features); `segment` (rows,) to which decision of its batch a row belongs; `selected` (decisions,) the row
        of the selected choice within its batch; `bounds` (batches + 1,) the first row of each batch, and the number of rows;
        where there are any, `weight` (decisions,) with mean 1 over the stream, and `offset` (rows,).
    """
    import tensorflow as tf

    begins = np.cumsum(window.counts) - window.counts
    bounds = np.append(begins[::size], len(window.x))
    decisions = len(begins)
    found = {
        "x": window.x,
        "segment": np.repeat((np.arange(decisions) % size).astype(np.int32), window.counts),
        "selected": (window.selected + begins - np.repeat(bounds[:-1], size)[:decisions]).astype(np.int32),
        "bounds": bounds.astype(np.int32),
    }
    if window.weight is not None and mean_weight is not None:
        found["weight"] = (window.weight / mean_weight).astype(np.float32)
    if window.offset is not None:
        found["offset"] = window.offset
    return {name: tf.constant(values) for name, values in found.items()}


def take_batch(batches: Batches, number: Any, size: int) -> Batches:
    """Take a batch of `size` decisions within a graph."""
    rows = slice(batches["bounds"][number], batches["bounds"][number + 1])
    decisions = slice(number * size, (number + 1) * size)
    of_decisions = {"selected", "weight"}
    return {
        name: values[decisions if name in of_decisions else rows] for name, values in batches.items() if name != "bounds"
    }


def _training_function(network: "keras.Model", optimizer: "keras.optimizers.Optimizer", size: int) -> Any:
    """Return the function that trains on the batches of a window, and adds their loss to a total.

    It returns the total, and -1; or a total that is not finite and the batch of the window that made it so. The batches
    after it are gone through all the same: leaving the loop in the graph took a tenth more time for every batch.
    """
    import tensorflow as tf

    def batch_loss(batch: Batches) -> Any:
        utility = network(batch["x"], training=True)[:, 0]  # (rows of the batch,)
        if "offset" in batch:
            utility += batch["offset"]
        highest = tf.stop_gradient(tf.math.segment_max(utility, batch["segment"]))  # (batch,)
        total = tf.math.segment_sum(tf.exp(utility - tf.gather(highest, batch["segment"])), batch["segment"])
        nll = tf.math.log(total) + highest - tf.gather(utility, batch["selected"])
        if "weight" in batch:
            nll *= batch["weight"]
        # as Keras adds them up: a layer may add a loss in its own precision, and one for each row
        added = [tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in network.losses]
        return tf.reduce_mean(nll) + tf.add_n([tf.constant(0.0), *added])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train(batches: Batches, total: Any) -> Any:
        broken = tf.constant(-1)
        for number in tf.range(tf.size(batches["bounds"]) - 1):
            batch = take_batch(batches, number, size)
            with tf.GradientTape() as tape:
                loss = batch_loss(batch)
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply(gradients, network.trainable_variables)
            total += tf.cast(loss, tf.float64) * tf.cast(tf.size(batch["selected"]), tf.float64)
            broken = tf.where(tf.math.is_finite(total) | (broken >= 0), broken, number)
        return total, broken

    return train


def _mean_weight(stream: Stream, access: Access) -> float | None:
    """Return the mean weight of the decisions, added up in the order of their places, as its last digit depends on that."""
    weights = [rows.weight for rows in stream if rows.weight is not None]
    if not weights:
        return None
    together: Float64 = np.concatenate(weights)
    return float((together if access.order is None else together[access.order]).mean(dtype=np.float64))
