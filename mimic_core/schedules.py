"""Schedules: a learning rate that changes from step to step, made from the form in which Keras stores one."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mimic_core.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    import keras

KEYS = ("class_name", "config")
MODULE = "keras.optimizers.schedules"
EXAMPLE = (
    '{"class_name": "ExponentialDecay", "config": {"initial_learning_rate": 0.01, "decay_steps": 100, "decay_rate": 0.9}}'
)


def make_schedule(form: Mapping[str, Any], path: str) -> "keras.optimizers.schedules.LearningRateSchedule":
    """Make a schedule of keras.optimizers.schedules from its class name and its arguments.

    Not by Keras' own `deserialize`, which imports the module that a form names, and says nothing of where it goes wrong.

    Args:
        form: as `keras.optimizers.schedules.serialize` writes it, and no other class than those of that module.
        path: where it stands in its config, such as `models[1].optimizer_kwargs.learning_rate`.

    Raises:
        SpecError: an unknown schedule or argument, a missing argument, or one of which no learning rate follows.
    """
    import keras

    base = keras.optimizers.schedules.LearningRateSchedule
    kinds = vars(keras.optimizers.schedules).items()
    known = {name: kind for name, kind in kinds if isinstance(kind, type) and issubclass(kind, base) and kind is not base}
    given = {name: value for name, value in form.items() if (name, value) != ("module", MODULE)}
    for name in [*given, *KEYS]:
        if name not in KEYS or name not in given:
            raise SpecError(
                f"{path}: expected class_name and config, found {', '.join(form) or 'neither'}; such as {EXAMPLE}"
            )
    name, config = form["class_name"], form["config"]
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(name, known)
        raise SpecError(f"{path}.class_name: unknown schedule {name!r}{near}; {MODULE} has {', '.join(sorted(known))}")
    if not isinstance(config, Mapping):
        raise SpecError(f"{path}.config: expected an object with the arguments of {name}, found {config!r}")
    arguments = _arguments(known[name], config, f"{path}.config")
    try:
        schedule = known[name](**arguments)
        rate = float(schedule(0))  # some wrong arguments show only here
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise SpecError(f"{path}.config: {name} does not take them: {reason}") from error
    if not 0 <= rate < float("inf"):
        raise SpecError(f"{path}.config: the learning rate of the first step is {rate}; expected a number of at least 0")
    return schedule


def _arguments(kind: type, config: Mapping[str, Any], path: str) -> dict[str, Any]:
    takes = inspect.signature(kind).parameters
    for name in config:
        if name not in takes:
            raise SpecError(
                f"{path}.{name}: unknown argument{did_you_mean(name, takes)}; {kind.__name__} takes {', '.join(takes)}"
            )
    for name, parameter in takes.items():
        if parameter.default is parameter.empty and name not in config:
            raise SpecError(f"{path}.{name}: this argument is missing; {kind.__name__} takes {', '.join(takes)}")
    return {name: value if name == "name" else _numbers(value, name, f"{path}.{name}") for name, value in config.items()}


def _numbers(value: Any, name: str, path: str) -> Any:
    """Turn integers into the numbers they are meant to be: a spec holds 1.0 as 1, and Keras computes in the type it gets."""
    if isinstance(value, list | tuple):
        return [_numbers(item, name, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, int | float):
        raise SpecError(f"{path}: expected a number, found {value!r}")
    counts_steps = name == "boundaries" or name.endswith("steps")
    return value if counts_steps or isinstance(value, bool) else float(value)
