"""Checkpoints: all that the training of a network needs to go on after its last finished epoch, as bytes.

These are the weights and every other variable of the network (moving statistics, and the states of its random layers), the
variables of the optimizer, the weights of the best epoch, and the history. The order of an epoch's decisions follows from
the seed and the number of the epoch, so it needs no state.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mimic_core.errors import CorruptFileError
from mimic_core.history import Epoch

if TYPE_CHECKING:
    import keras

DIGEST_BYTES = 32  # SHA-256 of what follows stands first
GROUPS = ("network", "optimizer", "best")

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after some epochs.

    Attributes:
        history: the finished epochs, at least one.
        network, optimizer: their variables, in their order.
        best: weights of the network after the best of these epochs.
        where: the file that it was read from, for messages.
    """

    history: list[Epoch]
    network: Arrays
    optimizer: Arrays
    best: Arrays
    where: str = "checkpoint"


def save(network: "keras.Model", optimizer: "keras.optimizers.Optimizer", best: Arrays, history: Sequence[Epoch]) -> bytes:
    """Return the bytes of a checkpoint."""
    groups = dict(zip(GROUPS, (_values(network), _values(optimizer), best), strict=True))
    arrays = {f"{group}/{index}": array for group, values in groups.items() for index, array in enumerate(values)}
    # NumPy stores types that are not its own, such as bfloat16, as bytes without a name
    said = {"history": [asdict(epoch) for epoch in history], "types": {name: str(arrays[name].dtype) for name in arrays}}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)
    data = buffer.getvalue()
    return hashlib.sha256(data).digest() + data


def load(data: bytes, where: str) -> Checkpoint:
    """Read a checkpoint.

    Args:
        where: its name, for messages.

    Raises:
        CorruptFileError: it is damaged.
    """
    body = data[DIGEST_BYTES:]
    if not body or hashlib.sha256(body).digest() != data[:DIGEST_BYTES]:
        raise CorruptFileError(
            f"{where}: damaged: the checkpoint is not what was written (its checksum differs); it is of no use, and the "
            "training starts over"
        )
    with np.load(io.BytesIO(body)) as found:
        said = json.loads(found["said"].tobytes())
        arrays = {name: found[name].view(_type(kind)) for name, kind in said["types"].items()}
    groups = {group: [array for name, array in arrays.items() if name.startswith(f"{group}/")] for group in GROUPS}
    return Checkpoint(history=[Epoch(**epoch) for epoch in said["history"]], where=where, **groups)


def restore(checkpoint: Checkpoint, network: "keras.Model", optimizer: "keras.optimizers.Optimizer") -> None:
    """Set a network and its built optimizer to what they were.

    Raises:
        CorruptFileError: the checkpoint is of another network or optimizer, as after an update of Keras; nothing is set.
    """
    variables = [*network.variables, *optimizer.variables]
    values = [*checkpoint.network, *checkpoint.optimizer]
    have = [f"{value.dtype}{list(value.shape)}" for value in values]
    expected = [f"{value.dtype}{list(value.shape)}" for value in map(_value, variables)]
    if have != expected:
        raise CorruptFileError(
            f"{checkpoint.where}: the checkpoint is of another network or optimizer: its variables are "
            f"{', '.join(have)}, expected {', '.join(expected)}; it is of no use, and the training starts over"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _values(holder: Any) -> Arrays:
    return [_value(variable) for variable in holder.variables]


def _value(variable: Any) -> npt.NDArray[Any]:
    return np.asarray(variable.value)


def _type(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))
