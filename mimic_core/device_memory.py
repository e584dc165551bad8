"""Device memory: a device that cannot hold what a model needs is the user's to mend, and says with which keys."""

import functools
import sys
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from mimic_core.errors import TrainingError
from mimic_core.specs import RunSpec

P = ParamSpec("P")
T = TypeVar("T")


def hints_at_memory(train: Callable[Concatenate[RunSpec, P], T]) -> Callable[Concatenate[RunSpec, P], T]:
    """Decorate a function that trains, evaluates or exports a run: an allocation that fails becomes a hint.

    On the device or in main memory; any other attempt with the same config would fail in the same way.

    Raises:
        TrainingError: the memory does not suffice.
    """

    @functools.wraps(train)
    def hinting(spec: RunSpec, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return train(spec, *args, **kwargs)
        except Exception as error:
            said = _allocation(error)
            if said is None:
                raise
            model = spec.model
            where = "the estimate of a linear model" if model.linear else f"training with batch_size {model.batch_size:,}"
            smaller = "" if model.linear else "a smaller batch_size, smaller layers, "
            raise TrainingError(
                f"out of memory in {where}: {said}; give {smaller}fewer features, or a machine with more memory"
            ) from error

    return hinting


def _allocation(error: BaseException | None) -> str | None:
    """Return what is said of the allocation that failed, by an error or by what caused it; None where none did."""
    while error is not None and not _is_out_of_memory(error):
        error = error.__cause__
    if error is None:
        return None
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # TensorFlow tells the whole way to the operation first
    return next((line.strip() for line in lines if "OOM" in line or "Unable to allocate" in line), lines[0])


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "tensorflow" not in sys.modules:  # importing it takes seconds, and without it this is none of its errors
        return False
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError)
