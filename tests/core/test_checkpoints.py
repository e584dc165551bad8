"""Checkpoints: a training that goes on from one ends as one that was never cut off, and a damaged one is refused."""

from dataclasses import replace

import numpy as np
import pytest

from mimic_core import checkpoints, networks, training
from mimic_core.configs import parse_spec
from mimic_core.errors import CorruptFileError
from mimic_core.history import best_of, mark_exported
from mimic_core.rows import Rows
from mimic_core.specs import RunSpec
from mimic_core.streams import in_memory
from mimic_core.training import Progress

LAYERS = """
LAYERS = {
    "D8": lambda: Dense(8, activation="relu"),
    "norm": lambda: BatchNormalization(momentum=0.9),
    "drop": lambda: Dropout(0.3),
    "noise": lambda: GaussianNoise(0.1, seed=4),
    "half": lambda: Dense(4, dtype="bfloat16"),
}
"""


def decisions(n=40, seed=0):
    """Return n decisions of three choices."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(3 * n, 2)).astype(np.float32)
    chosen = (x @ [1.0, -0.7] + random.gumbel(size=3 * n)).reshape(n, 3).argmax(axis=1)
    selected = np.zeros((n, 3), bool)
    selected[np.arange(n), chosen] = True
    individual = np.repeat(np.arange(n), 3)
    return Rows(
        individual=individual,
        decision=np.zeros(3 * n, np.int64),
        choice=np.tile(np.arange(3), n),
        selected=selected.reshape(-1),
        x=x,
        starts=np.arange(0, 3 * n, 3),
    )


def run_spec(layers=("D8", "norm", "drop", "noise", "half"), epochs=6, **model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 4, "database": "haven", "table": "r"}
    model = {"layers": list(layers), "batch_size": 7, "epochs": epochs, "seed": 5, **model}
    return parse_spec(RunSpec, {**document, "features": ["size", "age"], "model": model})


def fitted(spec, resume=None, chooser=None):
    """Fit; returns the network, its history, and the checkpoint after every epoch."""
    kept = []
    chooser = in_memory(decisions(20, seed=1)) if chooser is None else chooser
    network, history = training.fit(
        spec, LAYERS, in_memory(decisions()), chooser, Progress(on_checkpoint=kept.append, resume=resume)
    )
    return network, history, kept


@pytest.mark.parametrize(
    "optimizer", [{}, {"optimizer": "SGD", "optimizer_kwargs": {"momentum": 0.9, "learning_rate": 0.1}}]
)
def test_a_training_that_goes_on_from_a_checkpoint_ends_with_the_weights_and_history_of_one_that_was_not_cut_off(optimizer):
    spec = run_spec(**optimizer)
    network, history, kept = fitted(spec)
    for epochs in (1, 4):
        resumed, again, more = fitted(spec, checkpoints.load(kept[epochs - 1], "here"))
        assert again == history
        assert len(more) == len(history) - epochs
        for mine, expected in zip(resumed.variables, network.variables, strict=True):
            np.testing.assert_array_equal(mine.numpy(), expected.numpy())


def test_the_best_epoch_is_exported_also_if_it_was_before_the_cut():
    losing = {"layers": ["D8"], "epochs": 40, "optimizer_kwargs": {"learning_rate": 0.3}}
    spec = run_spec(**losing, early_stopping={"patience": 3})
    network, history, kept = fitted(spec)
    best = best_of(history)
    assert best < len(history)
    resumed, _, _ = fitted(spec, checkpoints.load(kept[best], "here"))
    np.testing.assert_array_equal(resumed.get_weights()[0], network.get_weights()[0])


def test_a_training_that_was_cut_off_after_its_last_epoch_only_exports():
    spec = run_spec(epochs=2)
    network, history, kept = fitted(spec)
    resumed, again, more = fitted(spec, checkpoints.load(kept[-1], "here"))
    assert (again, more) == (history, [])
    np.testing.assert_array_equal(resumed.get_weights()[0], network.get_weights()[0])


def test_a_damaged_checkpoint_is_refused_by_name():
    _, _, (data,) = fitted(run_spec(epochs=1))
    for damaged in (data[:-1], b"", data[:100] + b"x" + data[101:], b"x" * 50):
        with pytest.raises(CorruptFileError, match=r"^some/checkpoint: damaged: the checkpoint is not what was written"):
            checkpoints.load(damaged, "some/checkpoint")


def test_a_checkpoint_of_another_network_is_refused_by_name_and_the_training_starts_over():
    _, _, kept = fitted(run_spec(epochs=1))
    said, begun = [], []
    spec = run_spec(layers=["D8"], epochs=2)
    resume = checkpoints.load(kept[0], "some/checkpoint")
    progress = Progress(warn=said.append, on_begin=begun.append, resume=resume)
    _, history = training.fit(spec, LAYERS, in_memory(decisions()), in_memory(decisions(20, seed=1)), progress)
    assert history == fitted(spec)[1]
    assert begun == [[]]
    assert said[0].startswith("some/checkpoint: the checkpoint is of another network or optimizer")


def test_every_epoch_has_its_accuracy_rate_and_duration():
    clock = iter(range(100))
    spec = run_spec(layers=["D8"], epochs=2, optimizer_kwargs={"learning_rate": 0.25})
    told = []
    network, history = training.fit(
        spec,
        LAYERS,
        in_memory(decisions()),
        in_memory(decisions(20, seed=1)),
        Progress(on_epoch=told.append, clock=lambda: float(next(clock))),
    )
    assert [(epoch.epoch, epoch.learning_rate, epoch.seconds) for epoch in history] == [(1, 0.25, 1.0), (2, 0.25, 1.0)]
    assert [replace(epoch, exported=False) for epoch in history] == told
    utilities = networks.utility_function(network)
    rows = decisions(20, seed=1)
    right = utilities(rows.x).reshape(20, 3).argmax(axis=1) == rows.selected.reshape(20, 3).argmax(axis=1)
    assert history[best_of(history) - 1].val_accuracy == pytest.approx(right.mean())


def test_without_decisions_to_judge_by_the_last_epoch_is_exported_without_a_loss():
    _, history, _ = fitted(run_spec(layers=["D8"], epochs=3), chooser=in_memory(decisions(0)))
    assert [(epoch.val_loss, epoch.val_accuracy, epoch.exported) for epoch in history] == [
        (None, None, False),
        (None, None, False),
        (None, None, True),
    ]


def test_training_stops_early_once_val_loss_has_not_become_lower_for_so_many_epochs():
    losing = {"layers": ["D8"], "epochs": 40, "optimizer_kwargs": {"learning_rate": 0.3}}
    _, whole, _ = fitted(run_spec(**losing))
    _, history, kept = fitted(run_spec(**losing, early_stopping={"patience": 3}))
    best = best_of(history)
    assert len(history) == best + 3 < 40
    assert history == mark_exported(whole[: len(history)], best)
    for epochs in (best + 1, best + 3):
        _, resumed, _ = fitted(
            run_spec(**losing, early_stopping={"patience": 3}), checkpoints.load(kept[epochs - 1], "here")
        )
        assert resumed == history


def test_without_decisions_to_judge_by_training_does_not_stop_early():
    _, history, _ = fitted(
        run_spec(layers=["D8"], early_stopping={"patience": 1}, epochs=3), chooser=in_memory(decisions(0))
    )
    assert len(history) == 3
