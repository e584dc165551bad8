"""The training loop of a network: what weights and sampling log-probabilities do to it, and what stops it."""

from dataclasses import replace

import numpy as np
import pytest

from mimic_core import access, layers_files, networks, optimizers, runs
from mimic_core.configs import parse_spec
from mimic_core.epochs import train_epochs
from mimic_core.errors import TrainingError
from mimic_core.evaluation import evaluate
from mimic_core.rows import Rows
from mimic_core.specs import RunSpec
from mimic_core.streams import in_memory, watched
from mimic_core.training import Progress, fit, with_offset

SAME = 'LAYERS = {"same": lambda: Dense(2, use_bias=False, kernel_initializer="identity", trainable=False)}'
STILL = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 1e-30}, "epochs": 1}
BETA = np.array([0.4, -0.3])  # where the hand-made steps begin


def decisions(n=23, seed=0):
    """Return n decisions of two to four choices, two for each individual, the choice drawn from a logit."""
    random = np.random.default_rng(seed)
    counts = random.integers(2, 5, n)
    starts = np.cumsum(counts) - counts
    x = random.normal(size=(counts.sum(), 2)).astype(np.float32)
    utility = x @ [1.0, -0.7] + random.gumbel(size=len(x))
    selected = np.zeros(len(x), bool)
    selected[[start + utility[start : start + count].argmax() for start, count in zip(starts, counts, strict=True)]] = True
    decision = np.repeat(np.arange(n), counts)
    choice = np.arange(len(x)) - starts[decision]
    return Rows(individual=decision // 2, decision=decision % 2, choice=choice, selected=selected, x=x, starts=starts)


def extended(rows, weight=False, offset=False):
    random = np.random.default_rng(7)
    weights, offsets = random.uniform(0, 4, rows.decisions), random.normal(size=len(rows))
    return replace(
        rows,
        weight=weights.astype(np.float32) if weight else None,
        offset=offsets.astype(np.float32) if offset else None,
    )


def run_spec(layers=("same",), **model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 4, "database": "haven", "table": "r"}
    model = {"layers": list(layers), "optimizer": "SGD", "batch_size": 5, **model}
    return parse_spec(RunSpec, {**document, "features": ["size", "age"], "model": model})


def descended(rows, rate=0.5, epochs=2):
    """Train from BETA by the loop; returns the losses of the epochs and the coefficients."""
    spec = run_spec(optimizer_kwargs={"learning_rate": rate}, epochs=epochs, seed=3)
    layers, _ = layers_files.load_layers(SAME)
    network = networks.build_network(spec.model, spec.columns, layers)
    network.set_weights([network.get_weights()[0], BETA[:, None]])
    optimizer = optimizers.make_optimizer(spec.model)
    optimizer.build(network.trainable_variables)
    losses = [loss for loss, _ in train_epochs(network, optimizer, spec.model, in_memory(rows))]
    return losses, network.get_weights()[1][:, 0].tolist()


def descended_by_hand(rows, rate=0.5, epochs=2):
    """The same, decision by decision."""
    beta, losses = BETA.copy(), []
    weight = np.ones(rows.decisions) if rows.weight is None else rows.weight / rows.weight.mean(dtype=float)
    offset = np.zeros(len(rows)) if rows.offset is None else rows.offset
    for epoch in range(epochs):
        order, lost = np.random.default_rng([3, epoch]).permutation(rows.decisions), 0.0
        for batch in np.split(order, range(5, rows.decisions, 5)):
            gradient = np.zeros(2)
            for decision in batch:
                of_decision = slice(rows.starts[decision], rows.starts[decision] + rows.counts[decision])
                x, chosen = rows.x[of_decision], rows.selected[of_decision]
                p = np.exp(x @ beta + offset[of_decision])
                p /= p.sum()
                gradient += weight[decision] * (p @ x - x[chosen][0]) / len(batch)
                lost -= weight[decision] * np.log(p[chosen][0])
            beta -= rate * gradient
        losses.append(lost / rows.decisions)
    return losses, beta.tolist()


def sampled_pairs(n):
    """Draw n choices among 12, and with each one rejected choice with a probability that grows with its size."""
    random = np.random.default_rng(2)
    x = random.normal(size=(n, 12, 2)).astype(np.float32)
    weight = np.exp(1.2 * x[:, :, 0].astype(float))
    chosen = np.argmax(x @ [1.0, -0.7] + random.gumbel(size=(n, 12)), axis=1)
    every = np.arange(n)
    rejected = weight.copy()
    rejected[every, chosen] = 0
    other = np.argmax(np.log(np.maximum(rejected, 1e-300)) + random.gumbel(size=(n, 12)), axis=1)
    pairs = np.stack([chosen, other], axis=1)
    offset = [np.log(weight[every, pairs[:, 1 - i]] / (weight.sum(axis=1) - weight[every, pairs[:, i]])) for i in (0, 1)]
    return Rows(
        individual=np.repeat(every, 2),
        decision=np.zeros(2 * n, np.int64),
        choice=np.tile([0, 1], n),
        selected=np.tile([True, False], n),
        x=x[every[:, None], pairs].reshape(-1, 2),
        starts=2 * every,
        offset=np.stack(offset, axis=1).astype(np.float32).reshape(-1),
    )


@pytest.mark.parametrize(("weight", "offset"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_step_is_that_of_weights_with_mean_1_over_all_decisions_and_of_utilities_with_their_offset(weight, offset):
    rows = extended(decisions(), weight, offset)
    found, expected = descended(rows), descended_by_hand(rows)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == pytest.approx(expected[1], abs=1e-5)


def test_a_decision_of_weight_0_is_without_effect():
    rows = extended(decisions(), weight=True)
    rows.weight[::3] = 0
    other = replace(rows, x=rows.x.copy())
    other.x[np.repeat(rows.weight == 0, rows.counts)] *= 50
    assert descended(rows) == descended(other)


def test_equal_weights_are_no_weights():
    rows = decisions()
    assert descended(replace(rows, weight=np.full(rows.decisions, 2, np.float32))) == descended(rows)


def test_an_offset_that_all_choices_of_a_decision_share_is_none():
    rows = decisions()
    shared = np.repeat(np.arange(rows.decisions, dtype=np.float32), rows.counts)
    found, expected = descended(replace(rows, offset=shared)), descended(rows)
    assert found[1] == pytest.approx(expected[1], abs=1e-5)


def test_the_numbers_of_a_network_are_those_of_its_file_with_weights_and_offsets_and_without_penalties(tmp_path):
    source = 'LAYERS = {"D4": lambda: Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))}'
    train, test = (extended(decisions(seed=seed), weight=True, offset=True) for seed in (0, 1))
    run = runs.train(run_spec(["D4"], **STILL), source, in_memory(train), in_memory(test))
    (tmp_path / "model.keras").write_bytes(run.model)
    utilities = networks.utility_function(networks.load_network(tmp_path / "model.keras", source))
    for split, rows in (("train", train), ("test", test)):
        expected = evaluate(rows, utilities(rows.x) + rows.offset).nll
        assert run.evaluations[split].nll == pytest.approx(expected, rel=1e-12)
        assert evaluate(replace(rows, weight=None), utilities(rows.x) + rows.offset).nll != pytest.approx(expected, rel=1e-3)
        assert evaluate(rows, utilities(rows.x)).nll != pytest.approx(expected, rel=1e-3)
    assert run.history[0].val_loss == pytest.approx(run.evaluations["test"].nll, rel=1e-6)
    penalty = 0.5 * np.square(run.network.get_weights()[0]).sum()
    assert run.history[0].loss == pytest.approx(run.evaluations["train"].nll + penalty, rel=1e-5)


def test_a_network_on_pairs_sampled_by_weights_finds_the_coefficients_only_with_their_correction():
    rows, truth = sampled_pairs(6000), np.array([1.0, -0.7])
    model = {"optimizer": "Adam", "optimizer_kwargs": {"learning_rate": 0.05}, "epochs": 6, "batch_size": 200}
    errors = []
    for given in (rows, replace(rows, offset=None)):
        run = runs.train(run_spec(**model), SAME, in_memory(given), in_memory(given))
        errors.append(np.abs(run.network.get_weights()[1][:, 0] - truth).max())
    assert errors[0] < 0.1
    assert errors[1] > 0.3


@pytest.mark.parametrize("layers", [[], ["same"]])
def test_training_decisions_that_all_have_weight_0_are_refused(layers):
    rows = replace(decisions(), weight=np.zeros(23, np.float32))
    with pytest.raises(TrainingError, match="_weight is 0 in all training decisions; give some of them a weight above 0"):
        runs.train(run_spec(layers), SAME, in_memory(rows), in_memory(decisions()))


def test_a_loss_that_is_not_finite_names_its_epoch_and_its_batch():
    rows = decisions()
    third = np.random.default_rng([0, 0]).permutation(rows.decisions)[10:15]
    rows.x[rows.starts[third[1]]] = 1e38
    source = 'LAYERS = {"wide": lambda: Dense(2, kernel_initializer=keras.initializers.Constant(100.0))}'
    seen = []
    expected = r"the loss of epoch 1 is (nan|inf) in batch 3 of 5; .* The features reach (size|age) -[\d.]+ to 1e\+38"
    with pytest.raises(TrainingError, match=expected):
        runs.train(
            run_spec(["wide"], **STILL),
            source,
            in_memory(rows),
            in_memory(decisions()),
            progress=Progress(on_epoch=seen.append),
        )
    assert seen == []


@pytest.mark.parametrize("layers", [[], ["same"]])
@pytest.mark.parametrize("place", ["training", "test"])
def test_features_that_are_not_finite_are_named_before_training_starts(layers, place):
    parts = {"training": decisions(), "test": decisions(seed=1)}
    parts[place].x[5, 1] = np.nan
    seen = []
    with pytest.raises(TrainingError, match=f"the {place} decisions hold values that are not finite in age; expected"):
        runs.train(run_spec(layers), SAME, *map(in_memory, parts.values()), progress=Progress(on_epoch=seen.append))
    assert seen == []


@pytest.mark.parametrize("layers", [[], ["same"]])
def test_constant_features_are_named_before_training_starts(layers):
    train, test = decisions(), decisions(seed=1)
    train.x[:, 1] = 3
    said = []
    run = runs.train(
        run_spec(layers), SAME, in_memory(train), in_memory(test), progress=Progress(on_epoch=said.append, warn=said.append)
    )
    assert said[0] == "features with one value in all training rows: age; they tell nothing"
    assert len(said) > 1
    assert run.notes[0] == "constant in all training rows: age"


def test_what_is_added_to_the_utilities_is_the_offset_of_each_row():
    rows = decisions()
    utility = np.arange(len(rows), dtype=float)
    assert with_offset(utility, rows) is utility
    assert with_offset(utility, replace(rows, offset=np.full(len(rows), 2, np.float32))).tolist() == (utility + 2).tolist()


def test_whoever_trains_is_told_after_each_window_how_far_the_epoch_is(monkeypatch):
    monkeypatch.setattr(access, "WINDOW_BYTES", 1)  # a window is a batch
    told, rows = [], in_memory(decisions())
    spec = run_spec(epochs=2)
    fit(spec, SAME, rows, rows, Progress(on_decisions=lambda *numbers: told.append(numbers)))
    assert told == [(epoch, done, 23) for epoch in (1, 2) for done in (5, 10, 15, 20, 23)]


def test_a_watched_pass_tells_how_many_decisions_are_done():
    told = []
    stream = watched(in_memory(decisions(), 20), told.append)
    assert sum(rows.decisions for rows in stream) == 23
    assert (len(told) > 1, told == sorted(told), told[-1]) == (True, True, 23)
