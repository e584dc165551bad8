"""Trials: a network is tried on a few rows, so that what would show only after hours of training shows before.

Each row must have a utility of its own, and the layers must tell all of their arguments to the file of the model.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError
from mimic_core.rows import Float32

if TYPE_CHECKING:
    import keras

T = TypeVar("T")

STORABLE = "give every layer of the layers file a get_config() with all of its arguments"
ROWS = 5
LONGEST = 300  # characters of what Keras says


def try_network(network: "keras.Model", own: Mapping[str, Any], path: str) -> None:
    """Try a network on rows that it accepts.

    Args:
        own: the functions and classes of its layers file.
        path: where its layers stand in the config, such as `models[1].layers`.

    Raises:
        SpecError: it accepts none, mixes rows, or becomes another one when it is stored.
    """
    try:
        x, (whole, *parts) = on_accepted(
            lambda x: [_utilities(network, rows) for rows in (x, x[:2], x[2:])], ROWS, network.input_shape[-1]
        )
    except Exception as error:
        shape = (ROWS, network.input_shape[-1])
        raise SpecError(f"{path}: the layers cannot be applied to {shape}: {reason_of(error)}") from error
    if len(whole) != ROWS:
        raise SpecError(f"{path}: the layers make {len(whole)} rows of {ROWS}; every row must keep its place")
    if whole.shape != (ROWS, 1):  # Keras believes a layer that says another shape than it gives
        raise SpecError(
            f"{path}: the network gives {whole.shape} for {ROWS} rows, expected {(ROWS, 1)}; "
            "each layer must map (rows, n) to (rows, m), and say so"
        )
    if not _same(whole, np.concatenate(parts)):
        raise SpecError(
            f"{path}: the utility of a row changes with the other rows that are given with it, or from time to time; "
            "a layer may look at other rows, and draw numbers, only where its call has training=True"
        )
    try:
        again = _utilities(_made_again(network, own), x)
    except Exception as error:
        raise SpecError(
            f"{path}: the layers cannot be made again from their get_config(): {reason_of(error)}; {STORABLE}, "
            "and define activations and initializers by name in it"
        ) from error
    if not _same(whole, again):
        raise SpecError(f"{path}: the layers give other utilities after they are made again; {STORABLE}")


def on_accepted(compute: Callable[[Float32], T], rows: int, features: int) -> tuple[Float32, T]:
    """Return rows that something can be computed on, and what it gives; if there are none, the first error is raised.

    Args:
        compute: takes (rows, features).
    """
    random, errors = np.random.default_rng(0), []
    # any numbers, then the counts and codes to which some layers are limited
    for x in (
        random.normal(size=(rows, features)),
        random.integers(0, 2, (rows, features)),
        np.zeros((rows, features)),
        np.ones((rows, features)),
    ):
        try:
            return x.astype(np.float32), compute(x.astype(np.float32))
        except Exception as error:
            errors.append(error)
    raise errors[0]


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says, without where Keras was when it came, between which it is set in bold."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    line = next(iter((bold[1] if bold else str(error)).strip().splitlines()), "")
    return f"{type(error).__name__}: {line if len(line) <= LONGEST else f'{line[:LONGEST]}...'}"


def _utilities(network: "keras.Model", x: Float32) -> Float32:
    return np.asarray(network(x, training=False))


def _same(first: Float32, second: Float32) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True)


def _made_again(network: "keras.Model", own: Mapping[str, Any]) -> "keras.Model":
    """Make a network from its config, as it is when its file is loaded, with the same weights."""
    saving = import_keras().saving
    config = json.loads(json.dumps(saving.serialize_keras_object(network)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what may go wrong in layers without build(), and is tried here
        # safe_mode forbids lambdas in Lambda layers; a layers file is code, and was executed
        copy = saving.deserialize_keras_object(config, custom_objects=dict(own), safe_mode=False)
    copy.set_weights(network.get_weights())
    return copy
