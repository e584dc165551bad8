"""Training a network: CPU time per decision and epoch beside Keras' own `fit` and choice-learn's, and its memory.

200,000 decisions of 20,000 individuals, 2 to 10 choices and 20 features each; layers D16, D32, D16; Adam. All begin with the
same weights, see every decision once per epoch in an order of their own, and must be equally good at the end. Keras gets
padded arrays in memory and a mask, choice-learn a `ChoiceDataset` with availabilities. CPU time of all threads, medians of
alternating epochs; the first, which compiles, does not count.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from reporting import REPETITIONS, Row, at_least, at_most, cpu_seconds, show

from mimic_core import networks
from mimic_core.epochs import train_epochs
from mimic_core.evaluation import evaluate
from mimic_core.interactions import columns
from mimic_core.rows import Rows
from mimic_core.specs import ModelSpec
from mimic_core.streams import in_memory

DECISIONS, DECISIONS_PER_INDIVIDUAL, MAX_CHOICES, FEATURES = 200_000, 10, 10, 20
LAYERS = ("D16", "D32", "D16")
SAME = 0.005  # nats by which the mean losses of all decisions may differ at the end; they fall by 0.7 meanwhile
GOALS = {100: {"keras": 3.0, "choice-learn": 2.0}, 1024: {"keras": 1.1, "choice-learn": 1.1}, 8192: {"keras": 1.1}}


def decisions(scale: int = 1) -> Rows:
    """Make seeded decisions whose choices follow a logit that is not linear in the features."""
    random, number = np.random.default_rng(0), scale * DECISIONS
    counts = random.integers(2, MAX_CHOICES + 1, number)
    starts = np.cumsum(counts) - counts
    decision = np.repeat(np.arange(number), counts)
    x = random.standard_normal((len(decision), FEATURES), np.float32)
    linear = x @ np.linspace(-1, 1, FEATURES)
    utility = np.maximum(linear, -0.5) + x[:, 0] * x[:, 1] + random.gumbel(size=len(x))
    return Rows(
        individual=decision // DECISIONS_PER_INDIVIDUAL,
        decision=decision % DECISIONS_PER_INDIVIDUAL,
        choice=np.arange(len(x)) - starts[decision],
        selected=utility == np.maximum.reduceat(utility, starts)[decision],
        x=x,
        starts=starts,
    )


class Contestant:
    """A network with the same first weights as the others, and what trains it for an epoch."""

    def __init__(self, rows: Rows, batch: int) -> None:
        self.model = ModelSpec(layers=LAYERS, batch_size=batch, epochs=REPETITIONS + 1)
        keras = networks.import_keras()
        keras.utils.set_random_seed(self.model.seed)
        layers, _ = networks.load_layers(networks.default_layers(LAYERS))
        wanted = columns((), [f"x{number:02d}" for number in range(FEATURES)])
        self.network = networks.build_network(self.model, wanted, layers)
        self.epoch = self.prepare(rows)

    def prepare(self, rows: Rows) -> Callable[[], object]:
        """Return what trains the network for one epoch."""
        optimizer = networks.make_optimizer(self.model)
        optimizer.build(self.network.trainable_variables)
        epochs = train_epochs(self.network, optimizer, self.model, in_memory(rows))
        return lambda: next(epochs)

    def loss(self, rows: Rows) -> float:
        """Return the mean negative log-likelihood of all decisions, in nats."""
        found = evaluate(rows, networks.utility_function(self.network)(rows.x))
        return found.nll if found else np.nan


class Keras(Contestant):
    """`keras.Model.fit` on padded arrays: dense layers work on the last axis, the mask keeps padding from the softmax."""

    def prepare(self, rows: Rows) -> Callable[[], object]:
        """Compile a model of whole decisions."""
        keras = networks.import_keras()
        x, mask, selected = padded(rows)
        inputs = [keras.Input((MAX_CHOICES, FEATURES)), keras.Input((MAX_CHOICES,))]
        hidden = inputs[0]
        for layer in self.network.layers[1:]:
            hidden = layer(hidden)  # (decisions, choices, units)
        utility = keras.layers.Reshape((MAX_CHOICES,))(hidden) + inputs[1]
        model = keras.Model(inputs, utility)
        model.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        penalty = np.where(mask, 0, -1e9).astype(np.float32)
        return lambda: model.fit([x, penalty], selected, batch_size=self.model.batch_size, verbose=0)


class ChoiceLearn(Contestant):
    """choice-learn's own `fit`, of a model whose utility is that of the same layers."""

    def prepare(self, rows: Rows) -> Callable[[], object]:
        """Make a model of choice-learn, and its dataset."""
        from choice_learn.data import ChoiceDataset
        from choice_learn.models.base_model import ChoiceModel

        network = self.network

        class SharedLayers(ChoiceModel):
            @property
            def trainable_weights(self) -> list[Any]:
                return list(network.trainable_variables)

            def compute_batch_utility(self, *_: Any, items_features_by_choice: Any, **__: Any) -> Any:
                found = items_features_by_choice
                hidden = found[0] if isinstance(found, tuple) else found
                for layer in network.layers[1:]:
                    hidden = layer(hidden)
                return hidden[:, :, 0]

        x, mask, selected = padded(rows)
        names = [f"x{number:02d}" for number in range(FEATURES)]
        dataset = ChoiceDataset(
            items_features_by_choice=(x,),
            items_features_by_choice_names=(names,),
            available_items_by_choice=mask.astype(np.float32),
            choices=selected,
        )
        model = SharedLayers(optimizer="Adam", lr=0.001, epochs=1, batch_size=self.model.batch_size)

        def epoch() -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                model.fit(dataset)

        return epoch


def padded(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x (decisions, choices, features), the mask of what is offered, and the position of the selected choice."""
    mask = np.arange(MAX_CHOICES) < rows.counts[:, None]
    x = np.zeros((rows.decisions, MAX_CHOICES, FEATURES), np.float32)
    x[mask] = rows.x
    return x, mask, np.flatnonzero(rows.selected) - rows.starts


CONTESTANTS = {"mimic": Contestant, "keras": Keras, "choice-learn": ChoiceLearn}


def compared(rows: Rows, batch: int) -> list[Row]:
    """Train with all that have a goal at this size of batches.

    Raises:
        SystemExit: they are not equally good.
    """
    goals = GOALS[batch]
    contestants = {name: make(rows, batch) for name, make in CONTESTANTS.items() if name == "mimic" or name in goals}
    seconds = cpu_seconds({name: contestant.epoch for name, contestant in contestants.items()})
    losses = {name: contestant.loss(rows) for name, contestant in contestants.items()}
    if max(losses.values()) - min(losses.values()) > SAME:
        raise SystemExit(f"batch {batch}: the losses differ by more than {SAME} nats: {losses}")
    lines = []
    for name, goal in goals.items():
        ours, theirs = (seconds[which] / DECISIONS * 1e6 for which in ("mimic", name))
        baseline = f"{name}, own fit ({theirs:.2f} us per decision, loss {losses[name]:.4f})"
        note = f" ({ours:.2f} us, {losses['mimic']:.4f})"
        path = f"training, batch {batch}"
        if goal > 2 or batch == 100:
            lines.append(at_least(path, baseline, theirs / ours, goal, note))
        else:
            lines.append(at_most(path, baseline, ours / theirs, goal, note))
    return lines


def measure() -> list[Row]:
    """Measure everything."""
    rows = decisions()
    return [line for batch in GOALS for line in compared(rows, batch)]


if __name__ == "__main__":
    show(measure())
