"""Layers of all kinds within a network: what they see of the decisions, and those that cannot be used."""

import numpy as np
import pytest

from mimic_core import interactions, layers_files, networks, optimizers, runs
from mimic_core.backend import import_keras
from mimic_core.configs import parse_spec
from mimic_core.epochs import train_epochs
from mimic_core.errors import SpecError
from mimic_core.evaluation import evaluate
from mimic_core.model_specs import ModelSpec
from mimic_core.rows import Rows
from mimic_core.specs import RunSpec
from mimic_core.streams import in_memory

STILL = {"optimizer": "SGD", "optimizer_kwargs": {"learning_rate": 1e-30}, "epochs": 1}
RESIDUAL = """
class Residual(keras.layers.Layer):
    def __init__(self, units, **others):
        super().__init__(**others)
        self.units, self.dense = units, Dense(units, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(x)

    def get_config(self):
        return super().get_config() | {"units": self.units}
"""
COUNTING = """
class Counting(keras.layers.Layer):
    def build(self, shape):
        self.batches = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.batches.assign_add(1.0)
        return x
"""
PENALISED = """
class Penalised(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.ones_like(x[0]) / 4)  # a quarter for each of two features
        return x
"""
MIXING = """
class Mixing(keras.layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0)
"""
SHORTER = """
class Shorter(keras.layers.Layer):
    def call(self, x):
        return x[1:]
"""
OWN = """
def bump(x):
    return x * keras.ops.tanh(x)


class Halves(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)

    def get_config(self):
        return {}


class Small(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.01 * keras.ops.sum(x * x)

    def get_config(self):
        return {}


class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""
FORGETFUL = """
class Forgetful(keras.layers.Layer):
    def __init__(self, factor=1.0, **others):
        super().__init__(**others)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()
"""


def decisions(n=21, seed=0):
    """Return n decisions, two for each individual, of one to four choices; the last one of a single choice."""
    random = np.random.default_rng(seed)
    counts = np.append(random.integers(1, 5, n - 1), 1)
    starts = np.cumsum(counts) - counts
    decision = np.repeat(np.arange(n), counts)
    x = random.normal(1.0, 2.0, size=(len(decision), 2)).astype(np.float32)
    choice = np.arange(len(x)) - starts[decision]
    selected = choice == (random.integers(0, 4, n) % counts)[decision]
    return Rows(individual=decision // 2, decision=decision % 2, choice=choice, selected=selected, x=x, starts=starts)


def run_spec(*layers, **model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 4, "database": "haven", "table": "r"}
    model = {"layers": list(layers), "optimizer": "SGD", "batch_size": 5, "epochs": 2, **model}
    return parse_spec(RunSpec, {**document, "features": ["size", "age"], "model": model})


def source_of(value, classes=""):
    return f'{classes}\nLAYERS = {{"L": {value}, "D": lambda: Dense(2)}}'


def train(value, classes="", layers=("L",), **model):
    source = source_of(value, classes)
    return runs.train(run_spec(*layers, **model), source, in_memory(decisions()), in_memory(decisions(seed=1)))


def built(value, classes="", layers=("L",)):
    spec = run_spec(*layers)
    file = layers_files.load_layers(source_of(value, classes))
    networks.check_model(spec.model, file, spec.columns, "models[1]")
    return networks.build_network(spec.model, spec.columns, file.layers)


def refused(value, classes="", layers=("L",)):
    with pytest.raises(SpecError) as caught:
        built(value, classes, layers)
    return str(caught.value)


def test_batch_normalisation_sees_the_rows_that_are_offered_and_nothing_else():
    rows, spec = decisions(), run_spec("L", seed=3)
    known, _ = layers_files.load_layers(source_of("lambda: BatchNormalization(momentum=0.75)"))
    network = networks.build_network(spec.model, spec.columns, known)
    optimizer = optimizers.make_optimizer(spec.model)
    optimizer.build(network.trainable_variables)
    for _ in train_epochs(network, optimizer, spec.model, in_memory(rows)):
        pass
    mean, variance, sizes = np.zeros(2), np.ones(2), []
    for epoch in range(2):
        order = np.random.default_rng([3, epoch]).permutation(rows.decisions)
        for batch in np.split(order, range(5, rows.decisions, 5)):
            x = rows.x[
                np.isin(np.arange(len(rows)), np.concatenate([rows.starts[d] + np.arange(rows.counts[d]) for d in batch]))
            ]
            mean, variance = 0.75 * mean + 0.25 * x.mean(axis=0), 0.75 * variance + 0.25 * x.var(axis=0)
            sizes.append(len(x))
    _, _, moving_mean, moving_variance, _ = network.get_weights()
    assert moving_mean == pytest.approx(mean, rel=1e-5)
    assert moving_variance == pytest.approx(variance, rel=1e-4)
    assert len(set(sizes)) > 1


def test_batch_normalisation_trains_on_a_batch_of_one_row():
    rows = decisions()
    run = runs.train(
        run_spec("L", batch_size=1, epochs=1), source_of("BatchNormalization"), in_memory(rows), in_memory(rows)
    )
    assert np.isfinite(run.history[0].loss)


def test_dropout_is_on_in_training_and_off_in_every_number_and_in_the_exported_model():
    rows = decisions()
    run = train("lambda: Dropout(0.5)", **STILL)
    (weights,) = run.network.get_weights()
    plain = evaluate(rows, (rows.x @ weights)[:, 0].astype(float)).nll
    assert run.evaluations["train"].nll == pytest.approx(plain, rel=1e-5)
    assert run.history[0].val_loss == pytest.approx(run.evaluations["test"].nll, rel=1e-6)
    assert run.history[0].loss != pytest.approx(plain, rel=1e-3)
    assert np.array_equal(networks.utility_function(run.network)(rows.x), networks.utility_function(run.network)(rows.x))


def test_dropout_with_one_seed_drops_the_same_again():
    first, second, other = (train("lambda: Dropout(0.5)", seed=seed) for seed in (0, 0, 1))
    assert first.history == second.history
    assert first.history != other.history


def test_two_uses_of_one_name_are_two_layers_also_where_they_hold_state():
    run = train("BatchNormalization", layers=("L", "D", "L"), optimizer_kwargs={"learning_rate": 0.1})
    weights = run.network.get_weights()
    assert len(weights) == 4 + 2 + 4 + 1
    assert not np.allclose(weights[2], weights[8])  # the moving means


def test_a_layer_in_another_precision_may_have_a_regulariser():
    regular = "kernel_regularizer=keras.regularizers.L2(0.5)"
    for dtype in ("float32", "float64"):
        run = train(f"lambda: Dense(2, dtype='{dtype}', {regular})", **STILL)
        penalty = 0.5 * np.square(run.network.get_weights()[0]).sum()
        assert run.history[0].loss == pytest.approx(run.evaluations["train"].nll + penalty, rel=1e-5)


def test_a_loss_that_a_layer_adds_is_summed_up_as_keras_does_and_is_no_part_of_val_loss():
    run = train("Penalised", PENALISED, **STILL)
    assert run.history[0].loss == pytest.approx(run.evaluations["train"].nll + 0.5, rel=1e-5)
    assert run.history[0].val_loss == pytest.approx(run.evaluations["test"].nll, rel=1e-6)


def test_the_state_that_a_layer_of_the_layers_file_keeps_is_exported():
    run = train("Counting", COUNTING)
    exported = next(epoch.epoch for epoch in run.history if epoch.exported)
    assert run.network.get_weights()[0] == 5 * exported  # batches


@pytest.mark.parametrize(
    ("value", "classes"),
    [
        ("LayerNormalization", ""),
        ("lambda: GaussianNoise(0.5)", ""),
        ("lambda: Activation('gelu')", ""),
        ("lambda: Dense(3, dtype='mixed_float16')", ""),
        ("lambda: Lambda(lambda x: 2 * x)", ""),
        ("lambda: Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0])", ""),
        ("lambda: keras.Sequential([Dense(3), BatchNormalization(), Activation('relu')])", ""),
        ("lambda: SpectralNormalization(Dense(2))", ""),
        ("lambda: Residual(2)", RESIDUAL),
        ("lambda: Dense(2, activation=bump, kernel_initializer=Halves(), kernel_regularizer=Small())", OWN),
        ("lambda: Activation(bump)", OWN),
        ("lambda: Lambda(bump)", OWN),
        ("lambda: keras.Sequential([Twice(), Dense(2)])", OWN),
        ("lambda: SpectralNormalization(Dense(2, activation=bump))", OWN),
    ],
)
def test_layers_of_all_kinds_can_be_stored_and_give_the_same_utilities_again(value, classes):
    network = built(value, classes)
    exported, loaded = networks.export_network(network, source_of(value, classes))
    x = decisions().x
    assert np.array_equal(networks.utility_function(loaded)(x), networks.utility_function(network)(x))
    assert len(exported) > 1000


@pytest.mark.parametrize(
    ("value", "classes", "expected"),
    [
        ("lambda: Conv1D(3, 2)", "", "[0]: layer 'L' cannot be made or applied to (None, 2): ValueError: Input 0 "),
        (
            "lambda: Bidirectional(LSTM(3))",
            "",
            "[0]: layer 'L' cannot be made or applied to (None, 2): ValueError: Input 0 ",
        ),
        ("lambda: Reshape((2, 1))", "", "[0]: layer 'L' must map (rows, n) to (rows, m)"),
        ("Normalization", "", "[0]: layer 'L' is adapted to no data; give it mean=... and variance=..., or use BatchNormal"),
        (
            "lambda: Discretization(num_bins=3)",
            "",
            ": the layers cannot be applied to (5, 2): ValueError: You need to either pass",
        ),
        ("Shorter", SHORTER, ": the layers make 4 rows of 5; every row must keep its place"),
        (
            "lambda: Hashing(7, output_mode='one_hot')",
            "",
            ": the network gives (5, 2, 1) for 5 rows, expected (5, 1); each layer must map (rows, n) to (rows, m), and",
        ),
        (
            "Mixing",
            MIXING,
            ": the utility of a row changes with the other rows that are given with it, or from time to time;",
        ),
        (
            "lambda: Forgetful(3.0)",
            FORGETFUL,
            ": the layers give other utilities after they are made again; give every layer",
        ),
        (
            "lambda: Forgetful(3.0)",
            FORGETFUL.replace("=1.0", ""),
            ": the layers cannot be made again from their get_config()",
        ),
    ],
)
def test_a_layer_that_cannot_be_used_is_refused_before_training(value, classes, expected):
    assert refused(value, classes).startswith(f"models[1].layers{expected}")


@pytest.mark.parametrize(
    "layer",
    [
        "CategoryEncoding(2, output_mode='multi_hot')",
        "keras.Sequential([Embedding(2, 3), Flatten()])",
        "IntegerLookup(vocabulary=[1, 2], output_mode='multi_hot', num_oov_indices=0)",
    ],
)
def test_a_layer_that_takes_only_counts_or_codes_is_tried_and_stored_with_such(layer):
    network = built(f"lambda: {layer}")
    _, loaded = networks.export_network(network, source_of(f"lambda: {layer}"))
    x = np.ones((3, 2), np.float32)
    assert np.array_equal(networks.utility_function(loaded)(x), networks.utility_function(network)(x))


def test_a_function_that_gives_one_layer_twice_is_refused():
    said = refused("lambda: shared", "shared = Dense(2)", ("L", "L"))
    assert said.startswith("models[1].layers[1]: layer 'L' is the same one twice, with one set of weights; let its function")


@pytest.mark.parametrize(
    "value",
    ["Dense(2, name='h')", "keras.Sequential([Dense(2)], name='utility')", "Residual(2, name='features')"],
)
def test_two_uses_of_a_layer_that_has_a_name_are_two_layers_that_are_stored(value):
    network = built(f"lambda: {value}", RESIDUAL, ("L", "L", "D"))
    _, loaded = networks.export_network(network, source_of(f"lambda: {value}", RESIDUAL))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]
    assert len({layer.name for layer in network.layers}) == 5
    first, second = network.get_weights()[0], network.get_weights()[2]
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_a_layer_may_have_the_name_of_an_operation_of_the_interactions():
    file = layers_files.load_layers("LAYERS = {name: lambda: Dense(2, name='columns') for name in 'LM'}")
    columns = interactions.columns([["a", "b"]], ["a", "b"])
    networks.check_model(ModelSpec(layers=("L", "M")), file, columns)


def test_lambdas_of_other_files_stay_forbidden_after_a_trial():
    built("lambda: Lambda(lambda x: 2 * x)")
    keras = import_keras()
    stored = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    with pytest.raises(ValueError, match="lambda"):
        keras.saving.deserialize_keras_object(stored)


def test_what_keras_says_of_a_layer_is_cut_to_the_beginning_of_its_first_line():
    said = refused("lambda: Dense(2, activation='x' * 1000 + chr(10) + 'more')")
    assert "ValueError: " in said
    assert said.endswith("xxx...")
    assert len(said) < 400
