"""Networks: from names of layers to a Keras model of utility, (rows, features) -> (rows, 1), its file, and its utilities.

TensorFlow is imported inside the functions that need it.
"""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError, TrainingError, did_you_mean
from mimic_core.interactions import Columns
from mimic_core.layers_files import Layers, LayersFile, is_code, load_layers
from mimic_core.model_specs import ModelSpec
from mimic_core.optimizers import make_optimizer
from mimic_core.rows import Float32, Float64
from mimic_core.trials import STORABLE, on_accepted, reason_of, try_network

if TYPE_CHECKING:
    import keras

CHUNK = 65_536  # rows whose utilities are computed at once
# and a multiple of these, by repeating the last row: what is left over is computed by other kernels, so the last bits of its
# rows would change with the number of shards (measured: in a quarter of 200 cuts of the rows of a linear run)
ALIKE = 64

Utilities = Callable[[Float32], Float64]  # (rows, features) -> (rows,)


def check_models(models: Sequence[tuple[int, ModelSpec]], files: Sequence[LayersFile], columns: Columns, where: str) -> None:
    """Check all models of an experiment, each with its layers file; see `check_model`.

    Args:
        models: each with its place in the config, which those that differ in their seed only share.
        files: of each model.

    Raises:
        SpecError: one line per model that cannot be made.
    """
    made: set[str] = set()
    problems: dict[int, str] = {}
    for (index, model), file in zip(models, files, strict=True):
        # to make a network takes 50 ms, and models of one experiment often differ in nothing that matters here
        needs = json.dumps([id(file), model.layers, model.optimizer, model.optimizer_kwargs])
        if needs in made or index in problems:
            continue
        try:
            check_model(model, file, columns, f"models[{index}]")
            made.add(needs)
        except SpecError as error:
            problems[index] = str(error)
    if problems:
        raise SpecError(f"{where}: " + "\n  ".join(problems.values()))


def check_model(model: ModelSpec, file: LayersFile, columns: Columns, path: str = "model") -> None:
    """Check that a model can be made: its layers exist and make layers, its optimizer exists and takes its arguments.

    The network is tried on a few rows; see `mimic_core.trials`.

    Args:
        columns: what the first layer gets.
        path: where the model stands in its config, such as `models[1]`.

    Raises:
        SpecError: it cannot.
    """
    for index, name in enumerate(model.layers):
        if name not in file.layers:
            raise SpecError(
                f"{path}.layers[{index}]: unknown layer {name!r}{did_you_mean(name, file.layers)}; "
                f"the layers file defines {', '.join(file.layers)}"
            )
    make_optimizer(model, path)
    if not model.linear:
        try_network(build_network(model, columns, file.layers, path), file.own, f"{path}.layers")


def build_network(model: ModelSpec, columns: Columns, layers: Layers, path: str = "model") -> "keras.Model":
    """Build the utility network: the interactions, the named layers, then a dense layer to one utility without bias.

    Every use of a name makes a layer of its own, also where its function gives the layer a name.

    Raises:
        SpecError: a function of the layers file fails or makes no layer.
    """
    keras = import_keras()
    inputs = keras.Input((len(columns.inputs),), name="features")
    hidden = _with_interactions(inputs, columns)  # (rows, columns)
    made: list[Any] = []
    # Keras wants every name of a network once
    taken = {"utility", *(operation.name for operation in keras.Model(inputs, hidden).operations)}
    for index, name in enumerate(model.layers):
        where = f"{path}.layers[{index}]: layer {name!r}"
        try:
            layer = layers[name]()
            _require_new(layer, made, where)
            if getattr(layer, "name", None) in taken:
                layer.name = _free_name(layer.name, taken)
            hidden = layer(hidden)  # (rows, units)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(f"{where} cannot be made or applied to {tuple(hidden.shape)}: {reason_of(error)}") from error
        made.append(layer)
        taken.add(getattr(layer, "name", name))
        if not keras.utils.is_keras_tensor(hidden) or len(hidden.shape) != 2:
            raise SpecError(f"{where} must map (rows, n) to (rows, m)")
    utility = keras.layers.Dense(1, use_bias=False, name="utility")(hidden)  # (rows, 1)
    return keras.Model(inputs, utility)


def _require_new(layer: Any, made: Sequence[Any], where: str) -> None:
    keras = import_keras()
    if any(layer is other for other in made):
        raise SpecError(
            f"{where} is the same one twice, with one set of weights; let its function make a new layer each time"
        )
    if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None and not layer.built:
        raise SpecError(f"{where} is adapted to no data; give it mean=... and variance=..., or use BatchNormalization")


def _free_name(name: str, taken: Collection[str]) -> str:
    number = next(number for number in range(1, len(taken) + 2) if f"{name}_{number}" not in taken)
    return f"{name}_{number}"


def linear_network(coefficients: Float64, columns: Columns) -> "keras.Model":
    """Build the network of a conditional logit, in float64 so that it is exactly the estimate.

    Args:
        coefficients: (columns,).
    """
    keras = import_keras()
    inputs = keras.Input((len(columns.inputs),), name="features", dtype="float64")
    utility = keras.layers.Dense(1, use_bias=False, name="utility", dtype="float64")
    network = keras.Model(inputs, utility(_with_interactions(inputs, columns)))
    utility.set_weights([coefficients[:, None]])
    return network


def _with_interactions(inputs: Any, columns: Columns) -> Any:
    """(rows, inputs) -> (rows, columns), by operations that Keras stores with the model."""
    if not columns.left:
        return inputs
    keras = import_keras()
    left, right = (keras.ops.take(inputs, list(at), axis=1) for at in (columns.left, columns.right))
    products = keras.layers.Multiply(name="interactions", dtype=inputs.dtype)([left, right])
    features = keras.ops.take(inputs, list(range(columns.features)), axis=1)
    return keras.layers.Concatenate(name="columns", dtype=inputs.dtype)([features, products])


def load_network(path: Path, layers_source: str) -> "keras.Model":
    """Load an exported model; the functions and classes that its layers file defines are known to it.

    A model file may hold code as well, which is refused where its layers file holds none.
    """
    keras = import_keras()
    own = load_layers(layers_source).own
    return keras.models.load_model(path, custom_objects=own, compile=False, safe_mode=not is_code(layers_source))


def export_network(network: "keras.Model", layers_source: str) -> tuple[bytes, "keras.Model"]:
    """Return the bytes of a model's file, and the model as it is loaded from them, proved to give the same utilities.

    Raises:
        TrainingError: the file cannot be written, loaded, or computes something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            network.save(path)
            loaded = load_network(path, layers_source)
            x, _ = on_accepted(network, 64, network.input_shape[-1])
            same = np.allclose(utility_function(network)(x), utility_function(loaded)(x), equal_nan=True)
        except Exception as error:
            raise TrainingError(
                f"the trained network cannot be stored and loaded again: {reason_of(error)}; "
                "define its layers, activations and initializers by name in the layers file"
            ) from error
        if not same:
            raise TrainingError(f"the trained network gives other utilities after it was stored and loaded; {STORABLE}")
        return path.read_bytes(), loaded


def utility_function(network: "keras.Model") -> Utilities:
    """Return the function (rows, features) float32 -> (rows,) float64 that a network computes, compiled once."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None, network.input_shape[-1]], network.input_dtype or "float32")]
    compiled = tf.function(lambda x: network(x, training=False), input_signature=signature)

    def utilities(x: Float32) -> Float64:
        found = np.empty(len(x))
        for rows, chunk in _chunks(x):
            values = np.asarray(compiled(chunk.astype(signature[0].dtype.as_numpy_dtype)))[:, 0]
            found[rows] = values[: rows.stop - rows.start]
        return found

    return utilities


def gradient_function(network: "keras.Model", columns: Sequence[int]) -> Callable[[Float32], Float64]:
    """Return the function (rows, features) float32 -> (rows, columns) float64 of du/dx of a network, compiled once.

    By automatic differentiation, in the network's own precision. The utility of a row depends on that row only, so the
    gradient of the sum of the utilities has that of each row in its place.

    Args:
        columns: positions of features by which to differentiate.
    """
    import tensorflow as tf

    # of the inputs: the model itself calls its dtype float32, also where it computes in float64
    signature = [tf.TensorSpec([None, network.input_shape[-1]], network.inputs[0].dtype)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def compiled(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            utility = network(x, training=False)
        # a feature that the layers leave out has no way to the utility
        slopes = tape.gradient(utility, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.gather(tf.convert_to_tensor(slopes), list(columns), axis=1)

    def gradients(x: Float32) -> Float64:
        slopes = np.empty((len(x), len(columns)))
        for rows, chunk in _chunks(x):
            slopes[rows] = compiled(chunk.astype(signature[0].dtype.as_numpy_dtype))[: rows.stop - rows.start]
        return slopes

    return gradients


def _chunks(x: Float32) -> Iterator[tuple[slice, Float32]]:
    """Cut rows into chunks; yields which rows each holds, and these, the last one repeated up to a multiple of `ALIKE`."""
    for start in range(0, len(x), CHUNK):
        rows = slice(start, min(start + CHUNK, len(x)))
        length = rows.stop - rows.start
        yield rows, np.pad(x[rows], ((0, -length % ALIKE), (0, 0)), mode="edge")
