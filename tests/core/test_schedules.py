"""Learning rates: schedules as Keras stores them, by hand, and optimizers with their arguments step by step."""

import math

import numpy as np
import pytest

from mimic_core.backend import import_keras
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError
from mimic_core.model_specs import ModelSpec
from mimic_core.optimizers import learning_rate, make_optimizer
from mimic_core.specs import ExperimentSpec

EXPONENTIAL = {"initial_learning_rate": 1, "decay_steps": 2, "decay_rate": 0.5}
AT_STEP_3 = {
    "ExponentialDecay": (EXPONENTIAL, 0.5**1.5),
    "InverseTimeDecay": (EXPONENTIAL, 1 / (1 + 0.5 * 1.5)),
    "PolynomialDecay": ({"initial_learning_rate": 1, "decay_steps": 6, "end_learning_rate": 0, "power": 2}, 0.25),
    "PiecewiseConstantDecay": ({"boundaries": [1, 3], "values": [1, 0.5, 0.25]}, 0.5),
    "CosineDecay": ({"initial_learning_rate": 1, "decay_steps": 9, "alpha": 0}, 0.5 * (1 + math.cos(math.pi / 3))),
    "CosineDecayRestarts": (
        {"initial_learning_rate": 1, "first_decay_steps": 2, "t_mul": 2},
        0.5 * (1 + math.cos(math.pi / 4)),
    ),
}  # arguments with integers where numbers are meant, and the rate worked out by hand


def scheduled(name, config, **others):
    return {"learning_rate": {"class_name": name, "config": config, **others}}


def optimizer_of(name="SGD", **arguments):
    return make_optimizer(ModelSpec(layers=("D2",), optimizer=name, optimizer_kwargs=arguments), "models[1]")


def optimizers():
    """Every optimizer that can be made from arguments."""
    keras = import_keras()
    kinds = {name for name, kind in vars(keras.optimizers).items() if isinstance(kind, type)}
    return sorted(kinds - {"Optimizer", "OptimizerMap", "LossScaleOptimizer", "MultiOptimizer"})


def steps(optimizer, gradients):
    """Apply one gradient after the other in a graph, as training does; returns a weight that began at 1, after each."""
    import tensorflow as tf

    keras = import_keras()
    weights = [keras.Variable(np.ones((2, 2), np.float32)), keras.Variable(np.ones(2, np.float32))]
    optimizer.build(weights)

    @tf.function
    def apply(all_gradients):
        found = tf.TensorArray(tf.float32, size=len(gradients))
        for number in tf.range(len(gradients)):
            gradient = all_gradients[number]
            optimizer.apply([gradient * tf.ones((2, 2)), gradient * tf.ones(2)], weights)
            found = found.write(number, weights[1][0])
        return found.stack()

    return apply(tf.constant(gradients, tf.float32)).numpy()


def refused(learning_rate):
    with pytest.raises(SpecError) as caught:
        optimizer_of(learning_rate=learning_rate)
    return str(caught.value)


def test_every_schedule_of_keras_is_here():
    schedules = import_keras().optimizers.schedules
    assert {name for name, kind in vars(schedules).items() if isinstance(kind, type)} == {*AT_STEP_3, "LearningRateSchedule"}


@pytest.mark.parametrize("name", AT_STEP_3)
def test_the_learning_rate_of_a_schedule_is_that_of_the_next_step(name):
    config, expected = AT_STEP_3[name]
    optimizer = optimizer_of(**scheduled(name, config))
    assert learning_rate(optimizer) == 1.0
    optimizer.iterations.assign(3)
    assert learning_rate(optimizer) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["CosineDecayRestarts", "PiecewiseConstantDecay"])
def test_steps_in_a_graph_have_the_learning_rate_of_their_number(name):
    config, expected = AT_STEP_3[name]
    moved = -np.diff(steps(optimizer_of(**scheduled(name, config)), [1.0] * 5))
    assert moved[2] == pytest.approx(expected, rel=1e-5)  # from the third step to the fourth, whose number is 3


def test_a_learning_rate_without_a_schedule_stays():
    optimizer = optimizer_of(learning_rate=0.125)
    steps(optimizer, [1.0, 2.0])
    assert learning_rate(optimizer) == 0.125


def test_the_form_in_which_keras_stores_a_schedule_is_taken_as_it_is():
    schedules = import_keras().optimizers.schedules
    stored = schedules.serialize(schedules.CosineDecay(0.5, 10, warmup_target=1.0, warmup_steps=5))
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size"]}
    document |= {
        "database": "haven",
        "table": "r",
        "models": [{"layers": ["D2"], "optimizer_kwargs": {"learning_rate": stored}}],
    }
    ((_, model),) = parse_spec(ExperimentSpec, document).numbered
    optimizer = make_optimizer(model)
    optimizer.iterations.assign(5)
    assert learning_rate(optimizer) == 1.0


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, ": expected class_name and config, found neither; such as {"),
        ({"class_name": "CosineDecay"}, ": expected class_name and config, found class_name; such as {"),
        (
            {"class_name": "system", "config": {}, "module": "os"},
            ": expected class_name and config, found class_name, config, module; such as {",
        ),
        (
            {"class_name": "CosineDecai", "config": {}},
            ".class_name: unknown schedule 'CosineDecai' (did you mean 'CosineDecay'?); keras.optimizers.schedules has Cos",
        ),
        ({"class_name": "deserialize", "config": {}}, ".class_name: unknown schedule 'deserialize'"),
        ({"class_name": [1], "config": {}}, ".class_name: unknown schedule [1]"),
        (
            {"class_name": "CosineDecay", "config": 3},
            ".config: expected an object with the arguments of CosineDecay, found 3",
        ),
        (
            {"class_name": "ExponentialDecay", "config": EXPONENTIAL | {"decay_rte": 1}},
            ".config.decay_rte: unknown argument (did you mean 'decay_rate'?); ExponentialDecay takes initial_learning_rate",
        ),
        (
            {"class_name": "ExponentialDecay", "config": {"initial_learning_rate": 1, "decay_rate": 0.5}},
            ".config.decay_steps: this argument is missing; ExponentialDecay takes initial_learning_rate, decay_steps",
        ),
        (
            {"class_name": "ExponentialDecay", "config": EXPONENTIAL | {"decay_steps": "2"}},
            ".config.decay_steps: expected a number, found '2'",
        ),
        (
            {"class_name": "PiecewiseConstantDecay", "config": {"boundaries": [1], "values": [1, "x"]}},
            ".config.values[1]: expected a number, found 'x'",
        ),
        (
            {"class_name": "ExponentialDecay", "config": EXPONENTIAL | {"decay_steps": 0}},
            ".config: ExponentialDecay does not take them: Argument `decay_steps` must be > 0",
        ),
        (
            {"class_name": "ExponentialDecay", "config": EXPONENTIAL | {"initial_learning_rate": -1}},
            ".config: the learning rate of the first step is -1.0; expected a number of at least 0",
        ),
    ],
)
def test_a_schedule_that_cannot_be_made_is_named_with_its_path(form, expected):
    assert refused(form).startswith(f"models[1].optimizer_kwargs.learning_rate{expected}")


def test_every_optimizer_takes_its_defaults_and_a_schedule_and_makes_steps_downhill():
    names = optimizers()
    assert {"SGD", "Adam", "Lamb", "Muon", "ScheduleFreeAdamW"} < set(names)
    keras = import_keras()
    for name in names:
        assert learning_rate(optimizer_of(name)) > 0
        optimizer = optimizer_of(name, **scheduled("ExponentialDecay", EXPONENTIAL))
        weights = [keras.Variable(np.ones(shape, np.float32)) for shape in ((2, 2), (2,))]
        optimizer.build(weights)
        for _ in range(2):
            optimizer.apply([keras.ops.ones(weight.shape) for weight in weights], weights)
        assert all((weight.numpy() < 1).all() for weight in weights), name
        assert learning_rate(optimizer) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["Muon", "ScheduleFreeAdamW"])
def test_optimizers_with_branches_of_their_own_step_in_a_graph(name):
    first, second = steps(optimizer_of(name, learning_rate=0.1), [1.0, 1.0])
    assert second < first < 1


def test_accumulated_gradients_move_the_weights_once_by_their_mean():
    optimizer = optimizer_of(learning_rate=0.5, gradient_accumulation_steps=3)
    assert steps(optimizer, [1.0, 2.0, 3.0, 9.0]).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_schedule_counts_batches_also_where_gradients_are_accumulated():
    arguments = scheduled("PiecewiseConstantDecay", {"boundaries": [2], "values": [1, 0.25]})
    optimizer = optimizer_of(**arguments, gradient_accumulation_steps=2)
    assert steps(optimizer, [1.0, 1.0, 1.0, 1.0]).tolist() == [1.0, 0.0, 0.0, -0.25]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"clipvalue": 2}, 1 - 0.5 * 2),
        ({"clipnorm": 1}, 1 - 0.5 / math.sqrt(2)),  # of a gradient of two equal numbers
        ({"global_clipnorm": 6}, 1 - 0.5 * math.sqrt(6)),  # of six of them
        ({"weight_decay": 1}, 1 - 0.5 - 0.5 * 9),
    ],
)
def test_arguments_that_every_optimizer_takes_do_what_they_say(arguments, expected):
    (found,) = steps(optimizer_of(learning_rate=0.5, **arguments), [9.0])
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["use_ema", "loss_scale_factor"])
def test_an_argument_that_training_would_not_obey_is_refused_by_name(name):
    with pytest.raises(SpecError, match=rf"models\[1\]\.optimizer_kwargs: {name} is not supported: .*; remove it"):
        optimizer_of("Adam", **{name: 2})


def test_an_optimizer_that_is_made_from_optimizers_is_unknown():
    with pytest.raises(SpecError, match=r"models\[1\]\.optimizer: unknown optimizer 'MultiOptimizer'"):
        optimizer_of("MultiOptimizer")
