"""Optimizers: those of Keras, from a name, arguments and a schedule of the learning rate."""

import inspect
from typing import TYPE_CHECKING

import numpy as np

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError, did_you_mean
from mimic_core.model_specs import ModelSpec
from mimic_core.schedules import make_schedule

if TYPE_CHECKING:
    import keras

WRAPPERS = {"LossScaleOptimizer", "MultiOptimizer"}  # of keras.optimizers: made from optimizers, not from arguments
# arguments of optimizers that training does not use as they are meant
REFUSED = {"use_ema": "the weights of one epoch are exported", "loss_scale_factor": "losses are not scaled"}


def make_optimizer(model: ModelSpec, path: str = "model") -> "keras.optimizers.Optimizer":
    """Make a model's optimizer from its name in keras.optimizers and its arguments.

    Raises:
        SpecError: unknown name or argument.
    """
    keras = import_keras()
    base = keras.optimizers.Optimizer
    known = {
        name: value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and name not in WRAPPERS
    }
    if model.optimizer not in known:
        raise SpecError(
            f"{path}.optimizer: unknown optimizer {model.optimizer!r}{did_you_mean(model.optimizer, known)}; "
            f"keras.optimizers has {', '.join(sorted(known))}"
        )
    for name in model.optimizer_kwargs:
        if name in REFUSED:
            raise SpecError(f"{path}.optimizer_kwargs: {name} is not supported: {REFUSED[name]}; remove it")
    kind = known[model.optimizer]
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    schedule = model.optimizer_kwargs.get("learning_rate")
    # a spec holds 1.0 as 1, and Keras takes no integer for a learning rate
    arguments = {
        name: float(value) if type(value) is int and isinstance(defaults.get(name), float) else value
        for name, value in model.optimizer_kwargs.items()
    }
    if isinstance(schedule, dict):
        arguments["learning_rate"] = make_schedule(schedule, f"{path}.optimizer_kwargs.learning_rate")
    try:
        optimizer = kind(**arguments)
        # some wrong arguments show only at the first step
        trial = kind(**{name: value for name, value in arguments.items() if name != "gradient_accumulation_steps"})
        weights = [keras.Variable(np.zeros(shape, np.float32)) for shape in ((2,), (2, 3))]
        trial.build(weights)
        trial.apply([keras.ops.ones(weight.shape) for weight in weights], weights)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise SpecError(f"{path}.optimizer_kwargs: {model.optimizer} does not take them: {reason}") from error
    return optimizer


def learning_rate(optimizer: "keras.optimizers.Optimizer") -> float:
    """Return the learning rate of an optimizer's next step."""
    return float(optimizer.learning_rate)
