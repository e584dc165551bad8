"""Out of memory: allocations that really fail, in training, evaluation and export, become a hint about the config."""

import numpy as np
import pytest

from mimic_core import runs
from mimic_core.configs import parse_spec
from mimic_core.device_memory import hints_at_memory
from mimic_core.errors import SpecError, TrainingError
from mimic_core.rows import Rows
from mimic_core.specs import RunSpec
from mimic_core.streams import in_memory

# An allocation of TensorFlow itself that fails is tried again for 10 seconds, twice; one of NumPy within its graph fails at
# once, and reaches Python as the same error.
HUGE = """
import numpy as np
import tensorflow as tf

def allocated(x):
    return np.zeros((10**8, 10**8), np.float32).max()

class Huge(keras.layers.Layer):
    def call(self, x, training=False):
        if WHEN:
            return x + tf.reshape(tf.numpy_function(allocated, [x], tf.float32), ())
        return x

LAYERS = {"huge": Huge}
"""


def run_spec(*layers):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 4, "database": "haven", "table": "r"}
    model = {"layers": list(layers), "batch_size": 2000, "epochs": 1}
    return parse_spec(RunSpec, {**document, "features": ["size"], "model": model})


def decisions():
    """Two decisions of two choices."""
    individual, choice = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    x = np.array([[0.5], [1.0], [2.0], [0.0]], np.float32)
    return Rows(
        individual=individual, decision=0 * choice, choice=choice, selected=choice == 0, x=x, starts=np.array([0, 2])
    )


@pytest.mark.parametrize("when", ["training", "not training and not tf.executing_eagerly()"])
def test_a_network_that_the_memory_cannot_hold_is_told_what_to_make_smaller(when):
    expected = (
        r"out of memory in training with batch_size 2,000: .*Unable to allocate 35\.5 PiB .*; "
        "give a smaller batch_size, smaller layers, fewer features, or a machine with more memory$"
    )
    with pytest.raises(TrainingError, match=expected):
        runs.train(run_spec("huge"), HUGE.replace("WHEN", when), in_memory(decisions()), in_memory(decisions()))


def test_a_linear_model_that_the_memory_cannot_hold_is_told_too():
    @hints_at_memory
    def train(spec):
        return np.zeros((10**8, 10**8, len(spec.features)))

    expected = (
        r"out of memory in the estimate of a linear model: Unable to allocate 71\.1 PiB .*; "
        "give fewer features, or a machine with more memory$"
    )
    with pytest.raises(TrainingError, match=expected):
        train(run_spec())


def test_an_error_that_an_allocation_caused_is_a_hint_and_any_other_stays_what_it_is():
    @hints_at_memory
    def train(spec, error, cause=None):
        raise error from cause

    with pytest.raises(TrainingError, match=r"out of memory in .*: MemoryError; give"):
        train(run_spec("D4"), TrainingError("cannot be stored"), MemoryError())
    with pytest.raises(SpecError, match=r"^as it was$"):
        train(run_spec("D4"), SpecError("as it was"))
