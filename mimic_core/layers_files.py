"""Layers files: Python that defines `LAYERS`, a dict from names to functions that make a layer.

Such a file is code: it is executed with the rights of whoever registers or trains. For names of the forms in `NAMED` mimic
writes one itself, which says no more than the names do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError

ACTIVATIONS = ("elu", "gelu", "linear", "relu", "selu", "sigmoid", "silu", "softplus", "tanh")
UNITS = "[1-9][0-9]{0,4}"  # more are a slip, for which terabytes would be asked for
NAMED = (  # how a name is written for people, what it matches, the layer's class, and what makes one
    ("D<units>", re.compile(rf"D({UNITS})"), "Dense", 'Dense({0}, activation="relu")'),
    (
        "D<units>-<activation>",
        re.compile(rf"D({UNITS})-({'|'.join(ACTIVATIONS)})"),
        "Dense",
        'Dense({0}, activation="{1}")',
    ),
    ("dropout-<rate>", re.compile(r"dropout-(0\.[0-9]*[1-9])"), "Dropout", "Dropout({0})"),
    ("batch-norm", re.compile("batch-norm"), "BatchNormalization", "BatchNormalization()"),
    ("layer-norm", re.compile("layer-norm"), "LayerNormalization", "LayerNormalization()"),
)
KNOWN = ", ".join(form for form, *_ in NAMED)
WRITTEN = re.compile(r'^    "([^"\n]+)": lambda: ', re.MULTILINE)  # a line of a file that mimic wrote
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
    """Write the layers file for names of the forms in `NAMED`.

    Raises:
        SpecError: another name.

    >>> print(default_layers(["D8", "dropout-0.2"]))
    from keras.layers import Dense, Dropout
    <BLANKLINE>
    LAYERS = {
        "D8": lambda: Dense(8, activation="relu"),
        "dropout-0.2": lambda: Dropout(0.2),
    }
    <BLANKLINE>
    """
    lines, classes = [], {"Dense"}
    for name in dict.fromkeys(names):
        found = next(((match, kind, made) for _, form, kind, made in NAMED if (match := form.fullmatch(name))), None)
        if found is None:
            raise SpecError(
                f"{where}[{list(names).index(name)}]: unknown layer {name!r}; without a layers file there are {KNOWN}, for "
                f"example D16, dropout-0.2 and D16-{'|'.join(ACTIVATIONS)}, with at most 99999 units; others need a layers "
                "file, Python that defines LAYERS"
            )
        match, kind, made = found
        lines.append(f'    "{name}": lambda: {made.format(*match.groups())},\n')
        classes.add(kind)
    return f"from keras.layers import {', '.join(sorted(classes))}\n\nLAYERS = {{\n" + "".join(lines) + "}\n"


def is_code(source: str) -> bool:
    """Tell whether a layers file is a person's code, and not one that mimic wrote for the names of layers.

    >>> is_code(default_layers(["D8", "batch-norm"])), is_code('LAYERS = {"D8": lambda: Dense(9)}')
    (False, True)
    """
    try:
        return source != default_layers(WRITTEN.findall(source))
    except SpecError:
        return True


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
