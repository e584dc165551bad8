"""Training a network: CPU time per decision and epoch beside Keras' own `fit` and choice-learn's, and its memory.

200,000 decisions of 20,000 individuals, 2 to 10 choices and 20 features each; layers D16, D32, D16; Adam. All begin with the
same weights, see every decision once per epoch in an order of their own, and must be equally good at the end. Keras gets
padded arrays in memory and a mask, choice-learn a `ChoiceDataset` with availabilities. CPU time of all threads, medians of
alternating epochs; the first, which compiles, does not count. The same decisions are then trained on from a dataset's files,
beside memory, and ten times as many, each time in a process of its own.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import read_records
from reporting import REPETITIONS, Row, at_least, at_most, cpu_seconds, in_a_process, report_process, show

from mimic_core import backend, layers_files, networks, optimizers, runs, splits
from mimic_core.configs import parse_spec
from mimic_core.epochs import train_epochs
from mimic_core.evaluation import evaluate
from mimic_core.interactions import columns
from mimic_core.rows import Rows
from mimic_core.specs import ModelSpec, RunSpec
from mimic_core.streams import Stream, in_memory

DECISIONS, DECISIONS_PER_INDIVIDUAL, MAX_CHOICES, FEATURES = 200_000, 10, 10, 20
LAYERS, NAMES = ("D16", "D32", "D16"), [f"x{number:02d}" for number in range(FEATURES)]
SAME = 0.005  # nats by which the mean losses of all decisions may differ at the end; they fall by 0.7 meanwhile
GOALS = {100: {"keras": 3.0, "choice-learn": 2.0}, 1024: {"keras": 1.1, "choice-learn": 1.1}, 8192: {"keras": 1.1}}


def decisions() -> Rows:
    """Make seeded decisions whose choices follow a logit that is not linear in the features."""
    random = np.random.default_rng(0)
    counts = random.integers(2, MAX_CHOICES + 1, DECISIONS)
    starts = np.cumsum(counts) - counts
    decision = np.repeat(np.arange(DECISIONS), counts)
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

    def __init__(self, stream: Stream, batch: int) -> None:
        self.model = ModelSpec(layers=LAYERS, batch_size=batch, epochs=REPETITIONS + 1)
        keras = backend.import_keras()
        keras.utils.set_random_seed(self.model.seed)
        layers, _ = layers_files.load_layers(layers_files.default_layers(LAYERS))
        self.network = networks.build_network(self.model, columns((), NAMES), layers)
        self.epoch = self.prepare(stream)

    def prepare(self, stream: Stream) -> Callable[[], object]:
        """Return what trains the network for one epoch."""
        optimizer = optimizers.make_optimizer(self.model)
        optimizer.build(self.network.trainable_variables)
        epochs = train_epochs(self.network, optimizer, self.model, stream)
        return lambda: next(epochs)

    def loss(self, stream: Stream) -> float:
        """Return the mean negative log-likelihood of all decisions, in nats."""
        rows = rows_of(stream)
        found = evaluate(rows, networks.utility_function(self.network)(rows.x))
        return found.nll if found else np.nan


class Keras(Contestant):
    """`keras.Model.fit` on padded arrays: dense layers work on the last axis, the mask keeps padding from the softmax."""

    def prepare(self, stream: Stream) -> Callable[[], object]:
        """Compile a model of whole decisions."""
        keras = backend.import_keras()
        x, mask, selected = padded(rows_of(stream))
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

    def prepare(self, stream: Stream) -> Callable[[], object]:
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

        x, mask, selected = padded(rows_of(stream))
        dataset = ChoiceDataset(
            items_features_by_choice=(x,),
            items_features_by_choice_names=(NAMES,),
            available_items_by_choice=mask.astype(np.float32),
            choices=selected,
        )
        model = SharedLayers(optimizer="Adam", lr=0.001, epochs=1, batch_size=self.model.batch_size)

        def epoch() -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                model.fit(dataset)

        return epoch


def rows_of(stream: Stream) -> Rows:
    """Return the decisions of a stream that is in memory."""
    assert stream.rows is not None  # noqa: S101
    return stream.rows


def padded(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x (decisions, choices, features), the mask of what is offered, and the position of the selected choice."""
    mask = np.arange(MAX_CHOICES) < rows.counts[:, None]
    x = np.zeros((rows.decisions, MAX_CHOICES, FEATURES), np.float32)
    x[mask] = rows.x
    return x, mask, np.flatnonzero(rows.selected) - rows.starts


CONTESTANTS = {"mimic": Contestant, "keras": Keras, "choice-learn": ChoiceLearn}


def compared(stream: Stream, batch: int) -> list[Row]:
    """Train with all that have a goal at this size of batches.

    Raises:
        SystemExit: they are not equally good.
    """
    goals = GOALS[batch]
    contestants = {name: make(stream, batch) for name, make in CONTESTANTS.items() if name == "mimic" or name in goals}
    seconds = cpu_seconds({name: contestant.epoch for name, contestant in contestants.items()})
    losses = {name: contestant.loss(stream) for name, contestant in contestants.items()}
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


def from_files(folder: Path) -> list[Row]:
    """Train from a dataset's files and from memory, which must give the same weights."""
    lines = []
    for batch in GOALS:
        both = {
            name: Contestant(splits.read_stream(folder, "train", most_bytes=most), batch)
            for name, most in {"files": 0.0, "memory": np.inf}.items()
        }
        seconds = cpu_seconds({name: contestant.epoch for name, contestant in both.items()})
        for weights in zip(*(contestant.network.get_weights() for contestant in both.values()), strict=True):
            np.testing.assert_array_equal(*weights)
        ours, theirs = (seconds[name] / DECISIONS * 1e6 for name in both)
        path, baseline = f"training from files, batch {batch}", f"in memory ({theirs:.2f} us per decision)"
        lines.append(at_most(path, baseline, ours / theirs, 2, f" ({ours:.2f} us)"))
    return lines


def whole_run(folder: Path, most_bytes: float) -> None:
    """Train a network for an epoch on a dataset's training split, and judge it, as a run does."""
    model = {"layers": LAYERS, "batch_size": 100, "epochs": 1, "validation": 0.1}
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "database": "d", "table": "t", "features": NAMES}
    spec = parse_spec(RunSpec, document | {"max_choices": MAX_CHOICES, "model": model})
    train = splits.read_stream(folder, "train", most_bytes=most_bytes)
    test = splits.read_stream(folder, "test", most_bytes=most_bytes)
    runs.train(spec, layers_files.default_layers(LAYERS), train, test)


def memory(folders: dict[int, Path]) -> list[Row]:
    """Compare the most memory of whole runs, from files and, just below the limit, from memory."""
    peaks = {scale: in_a_process(__file__, folder, 0)["peak"] for scale, folder in folders.items()}
    held = in_a_process(__file__, folders[1], splits.MOST_IN_MEMORY)["peak"]
    grown = f" ({peaks[1]:.0f} -> {peaks[10]:.0f} MB)"
    return [
        at_most("a run from files, peak memory at 10x", "1x", peaks[10] / peaks[1], 1.25, grown),
        at_most("a run in memory, peak memory", f"from files ({peaks[1]:.0f} MB)", held / peaks[1], 2, f" ({held:.0f} MB)"),
    ]


def measure() -> list[Row]:
    """Measure everything."""
    stream = in_memory(decisions())
    lines = [line for batch in GOALS for line in compared(stream, batch)]
    with tempfile.TemporaryDirectory() as name:
        folders = {scale: read_records.write(Path(name) / str(scale), None, scale) for scale in (1, 10)}
        return lines + from_files(folders[1]) + memory(folders)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        folder, most_bytes = sys.argv[1:]
        report_process(lambda: whole_run(Path(folder), float(most_bytes)))
    else:
        show(measure())
