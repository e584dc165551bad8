"""Layers files: Python that defines `LAYERS`, a dict from names to functions that make a layer.

Such a file is code: it is executed with the rights of whoever registers or trains.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError

DENSE = re.compile(r"D([1-9][0-9]*)")
MODULE = "mimic_layers"  # the name under which a layers file is executed

Layers = Mapping[str, Callable[[], Any]]


class LayersFile(NamedTuple):
    """What a layers file defines.

    Attributes:
        layers: its LAYERS.
        own: its functions and classes by name, which Keras must know to make a network again from its file.
    """

    layers: Layers
    own: dict[str, Any]


def default_layers(names: Sequence[str], where: str = "layers") -> str:
    """Write the layers file for names of the form D<units>: a dense layer with that many units and relu.

    Raises:
        SpecError: another name.

    >>> print(default_layers(["D8"]))
    from keras.layers import Dense
    <BLANKLINE>
    LAYERS = {
        "D8": lambda: Dense(8, activation="relu"),
    }
    <BLANKLINE>
    """
    lines = []
    for name in dict.fromkeys(names):
        match = DENSE.fullmatch(name)
        if not match:
            raise SpecError(
                f"{where}[{list(names).index(name)}]: unknown layer {name!r}; "
                "without a layers file only D<units> is known, for example D16; give a Python file that defines LAYERS"
            )
        lines.append(f'    "{name}": lambda: Dense({match[1]}, activation="relu"),\n')
    return "from keras.layers import Dense\n\nLAYERS = {\n" + "".join(lines) + "}\n"


def load_layers(source: str, where: str = "layers.py") -> LayersFile:
    """Execute a layers file; the names of keras.layers are there without an import.

    Args:
        source: Python text that defines LAYERS.
        where: its name, for messages.

    Raises:
        SpecError: the text cannot be executed or defines no LAYERS.
    """
    keras = import_keras()
    namespace: dict[str, Any] = {"keras": keras, "__name__": MODULE}
    public = {name: value for name, value in vars(keras.layers).items() if not name.startswith("_")}
    namespace.update(public)
    try:
        exec(compile(source, where, "exec"), namespace)  # noqa: S102  a layers file is code, and says so
    except (Exception, SystemExit) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise SpecError(f"{where}:{line} cannot be executed: {type(error).__name__}: {error}") from error
    layers = namespace.get("LAYERS")
    if not isinstance(layers, dict) or not all(isinstance(name, str) for name in layers):
        raise SpecError(
            f"{where}: expected a dict LAYERS of names and functions that make a layer, "
            f"found {'none' if layers is None else type(layers).__name__}; "
            'for example LAYERS = {"D8": lambda: Dense(8, activation="relu")}'
        )
    for name, make in layers.items():
        if isinstance(make, keras.layers.Layer) or not callable(make):
            raise SpecError(
                f"{where}: LAYERS[{name!r}]: expected a function that makes a new layer, found {type(make).__name__}; "
                f"write {name!r}: lambda: ..."
            )
    own = {name: value for name, value in namespace.items() if getattr(value, "__module__", None) == MODULE}
    return LayersFile(layers, own)
