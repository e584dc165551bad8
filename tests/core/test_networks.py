import sys

import numpy as np
import pytest

from mimic_core.backend import import_keras
from mimic_core.errors import SpecError, TrainingError
from mimic_core.interactions import columns
from mimic_core.layers_files import LayersFile, default_layers, is_code, load_layers
from mimic_core.model_specs import ModelSpec
from mimic_core.networks import (
    build_network,
    check_model,
    check_models,
    export_network,
    gradient_function,
    linear_network,
    load_network,
    utility_function,
)
from mimic_core.optimizers import make_optimizer

OWN_LAYER = """
@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x

LAYERS = {"twice": Doubled, "D2": lambda: Dense(2, activation="relu")}
"""


def plain(features):
    """Return the columns of a model of so many features, without interactions."""
    return columns((), [f"x{j}" for j in range(features)])


def model(*layers, **changes):
    return ModelSpec(layers=layers, **changes)


def layers_of(*names):
    return load_layers(default_layers(names))


def test_a_default_layers_file_defines_each_dense_layer_once():
    source = default_layers(["D16", "D3", "D16"])
    assert source.count("D16") == 1
    layers, classes = load_layers(source)
    assert (list(layers), classes) == (["D16", "D3"], {})
    dense = layers["D3"]()
    assert (dense.units, dense.activation.__name__) == (3, "relu")


@pytest.mark.parametrize(
    "name",
    [
        "D0",
        "D",
        "d16",
        "D16x",
        "D1.5",
        "D-1",
        "LSTM",
        "",
        "D8-",
        "D8-relu6",
        "D8-Tanh",
        "D100000",
        "dropout",
        "dropout-1",
        "dropout-0",
        "batch-norm()",
    ],
)
def test_without_a_layers_file_there_are_few_names(name):
    expected = (
        f"layers[1]: unknown layer {name!r}; without a layers file there are D<units>, D<units>-<activation>, "
        "dropout-<rate>, batch-norm, layer-norm, for example D16, dropout-0.2 and "
        "D16-elu|gelu|linear|relu|selu|sigmoid|silu|softplus|tanh, with at most 99999 units; others need a layers file, "
        "Python that defines LAYERS"
    )
    with pytest.raises(SpecError) as caught:
        default_layers(["D8", name])
    assert str(caught.value) == expected


def test_without_a_layers_file_there_are_activations_dropout_and_normalizations():
    layers, _ = layers_of("D8-tanh", "dropout-0.25", "batch-norm", "layer-norm", "D4")
    dense, dropout, batch, norm, last = (make() for make in layers.values())
    assert (dense.units, dense.activation.__name__, dropout.rate) == (8, "tanh", 0.25)
    assert [type(layer).__name__ for layer in (batch, norm)] == ["BatchNormalization", "LayerNormalization"]
    assert (last.units, last.activation.__name__) == (4, "relu")
    network = build_network(model(*layers), plain(2), layers)
    assert network(np.ones((3, 2), np.float32)).shape == (3, 1)


def test_only_what_mimic_wrote_is_no_code():
    written = default_layers(["D8", "D4-elu", "dropout-0.5"])
    assert not is_code(written)
    assert not is_code(default_layers([]))
    hidden = written.replace("Dense(8", "__import__('os').getcwd() and Dense(8")
    for code in (hidden, written + "print(1)\n", "", "LAYERS = {}", written.replace('"D8":', '"D9":')):
        assert is_code(code)


def test_a_model_file_with_code_in_it_is_loaded_only_beside_a_layers_file_with_code(tmp_path):
    code = "LAYERS = {'F': lambda: Lambda(lambda x: x * 2)}"
    network = build_network(model("F"), plain(2), load_layers(code)[0])
    network.save(tmp_path / "model.keras")
    assert load_network(tmp_path / "model.keras", code).layers[1].__class__.__name__ == "Lambda"
    with pytest.raises(ValueError, match="Lambda"):
        load_network(tmp_path / "model.keras", default_layers(["D8"]))


def test_the_names_of_keras_layers_are_there_without_an_import():
    layers, _ = load_layers('LAYERS = {"D8": lambda: Dense(8, activation="relu"), "off": lambda: Dropout(0.5)}')
    assert layers["D8"]().units == 8
    assert layers["off"]().rate == 0.5


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("LAYERS = {", r"layers\.py: line 1 cannot be executed: SyntaxError: "),
        ("x = 1\n1 / 0", r"layers\.py: cannot be executed: ZeroDivisionError: division by zero"),
        ("import no_such_module_here", r"layers\.py: cannot be executed: ModuleNotFoundError: .*no_such_module_here"),
        ("LAYERS = {'D8': lambda: Dense(8)}\nDnse", r"layers\.py: cannot be executed: NameError: name 'Dnse'"),
    ],
)
def test_a_layers_file_that_cannot_run_is_refused(source, expected):
    with pytest.raises(SpecError, match=expected):
        load_layers(source, "layers.py")


@pytest.mark.parametrize(("source", "found"), [("", "none"), ("LAYERS = [1]", "list"), ("LAYERS = {8: Dense}", "dict")])
def test_a_layers_file_without_layers_is_refused_with_an_example(source, found):
    expected = (
        rf"layers\.py: expected a dict LAYERS of names and functions .*, found {found}; for example LAYERS = \{{\"D8\""
    )
    with pytest.raises(SpecError, match=expected):
        load_layers(source, "layers.py")


@pytest.mark.parametrize(("value", "kind"), [("Dense(8)", "Dense"), ("8", "int"), ("'Dense'", "str"), ("None", "NoneType")])
def test_a_layer_or_anything_else_instead_of_a_function_that_makes_a_layer_is_refused(value, kind):
    expected = rf"layers\.py: LAYERS\['D8'\]: expected a function that makes a new layer, found {kind}; write 'D8': lambda"
    with pytest.raises(SpecError, match=expected):
        load_layers(f"LAYERS = {{'D8': {value}}}", "layers.py")


def test_an_unknown_layer_is_named_with_its_place_and_those_that_exist():
    with pytest.raises(SpecError) as caught:
        check_model(model("D8", "D32", "D9"), layers_of("D8", "D16", "D32"), plain(2), "models[1]")
    assert str(caught.value) == "models[1].layers[2]: unknown layer 'D9'; the layers file defines D8, D16, D32"


def test_every_model_that_cannot_be_made_is_named_at_once():
    layers = layers_of("D8")
    models = [model("D9"), model("D8"), model("D8", optimizer_kwargs={"learning_rte": 1}), model("D8", optimizer="None")]
    with pytest.raises(SpecError) as caught:
        check_models(list(enumerate(models)), [layers] * 4, plain(2), "my.json")
    first, second, third = str(caught.value).split("\n  ")
    assert first == "my.json: models[0].layers[0]: unknown layer 'D9'; the layers file defines D8"
    assert second.startswith("models[2].optimizer_kwargs: Adam does not take them: ")
    assert third.startswith("models[3].optimizer: unknown optimizer 'None'")
    check_models([(1, models[1])], [layers], plain(2), "my.json")


def test_models_that_differ_in_their_seed_only_are_made_once_and_named_once():
    layers, made = layers_of("D8").layers, []
    counted = LayersFile({"D8": lambda: made.append(1) or layers["D8"]()}, {})
    seeds = [(1, model("D8", seed=seed)) for seed in range(9)]
    check_models(seeds, [counted] * 9, plain(2), "my.json")
    assert len(made) == 1
    with pytest.raises(SpecError) as caught:
        check_models(seeds, [layers_of("D4")] * 9, plain(2), "my.json")
    assert str(caught.value) == "my.json: models[1].layers[0]: unknown layer 'D8'; the layers file defines D4"


def test_a_layer_with_a_similar_name_is_proposed():
    with pytest.raises(SpecError, match=r"model\.layers\[0\]: unknown layer 'D116' \(did you mean 'D16'\?\)"):
        check_model(model("D116"), layers_of("D8", "D16"), plain(2))


def test_an_unknown_optimizer_is_named_with_those_of_keras():
    with pytest.raises(SpecError, match=r"models\[0\]\.optimizer: unknown optimizer 'Adams' \(did you mean 'Adam.*keras"):
        check_model(model("D8", optimizer="Adams"), layers_of("D8"), plain(2), "models[0]")


@pytest.mark.parametrize("name", ["Optimizer", "get", "schedules", "LossScaleOptimizer", "__doc__", ""])
def test_a_name_in_keras_optimizers_that_is_no_optimizer_is_unknown(name):
    with pytest.raises(SpecError, match=rf"model\.optimizer: unknown optimizer '{name}'.*SGD"):
        make_optimizer(model("D8", optimizer=name))


@pytest.mark.parametrize("kwargs", [{"learning_rte": 0.1}, {"learning_rate": "fast"}])
def test_an_argument_that_an_optimizer_does_not_take_is_refused(kwargs):
    with pytest.raises(SpecError, match=rf"model\.optimizer_kwargs: Adam does not take them: .*{list(kwargs)[-1]}"):
        make_optimizer(model("D8", optimizer_kwargs=kwargs))


def test_the_optimizer_of_a_linear_model_is_checked_too():
    with pytest.raises(SpecError, match=r"models\[0\]\.optimizer: unknown optimizer 'None'"):
        check_model(model(optimizer="None"), LayersFile({}, {}), plain(2), "models[0]")
    check_model(model(), LayersFile({}, {}), plain(2))


def test_an_optimizer_gets_its_arguments():
    optimizer = make_optimizer(model("D8", optimizer="SGD", optimizer_kwargs={"learning_rate": 0.125, "momentum": 0.5}))
    assert (type(optimizer).__name__, float(optimizer.learning_rate), optimizer.momentum) == ("SGD", 0.125, 0.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("lambda: 1 / 0", r"layer 'x' cannot be made or applied to \(None, 2\): ZeroDivisionError"),
        ("lambda: 3", r"layer 'x' cannot be made or applied to \(None, 2\): TypeError"),
        ("Dense", r"layer 'x' cannot be made or applied to \(None, 2\): TypeError: .*units"),
        ("lambda: Dense(2, activation='rleu')", r"layer 'x' cannot be made or applied to \(None, 2\): .*rleu"),
        ("lambda: RepeatVector(3)", r"layer 'x' must map \(rows, n\) to \(rows, m\)"),
    ],
)
def test_a_layer_that_cannot_be_used_is_named_with_its_place(value, expected):
    file = load_layers(f"LAYERS = {{'D2': lambda: Dense(2), 'x': {value}}}")
    with pytest.raises(SpecError, match=rf"models\[3\]\.layers\[1\]: {expected}"):
        check_model(model("D2", "x"), file, plain(2), "models[3]")


def test_a_network_ends_in_one_utility_without_bias():
    network = build_network(model("D4", "D3"), plain(2), layers_of("D3", "D4").layers)
    assert (network.input_shape, network.output_shape) == ((None, 2), (None, 1))
    assert [weights.shape for weights in network.get_weights()] == [(2, 4), (4,), (4, 3), (3,), (3, 1)]


def test_two_uses_of_one_name_are_two_layers():
    import_keras().utils.set_random_seed(0)
    network = build_network(model("D2", "D2"), plain(2), layers_of("D2").layers)
    first, _, second, _, _ = network.get_weights()
    assert len(network.get_weights()) == 5
    assert not np.array_equal(first, second)


def test_two_networks_of_one_layers_file_share_no_weights():
    layers = layers_of("D2").layers
    first, second = (build_network(model("D2"), plain(2), layers) for _ in range(2))
    first.set_weights([np.zeros_like(weights) for weights in first.get_weights()])
    assert any(weights.any() for weights in second.get_weights())


def test_a_network_computes_what_its_weights_say():
    network = build_network(model("D2"), plain(2), layers_of("D2").layers)
    network.set_weights([np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([0.5, 0.0]), np.array([[10.0], [1.0]])])
    # relu([1 + .5, -1 + 2 * 3]) = [1.5, 5]; relu([-2 + .5, 2]) = [0, 2]
    found = utility_function(network)(np.array([[1.0, 3.0], [-2.0, 0.0]], np.float32))
    assert found.tolist() == [20.0, 2.0]
    assert found.dtype == np.float64


WEIGHTS = np.linspace(-1, 1, 8) / 3
SMALL = {"network": ["D4"], "linear model": []}


@pytest.mark.parametrize("layers", SMALL.values(), ids=SMALL)
def test_utilities_do_not_depend_on_how_many_rows_come_at_once_to_the_last_bit(layers, monkeypatch):
    """The number of shards would change the last digits of an inference, and predictions would have others."""
    network = (
        build_network(model(*layers), plain(8), layers_of(*layers).layers) if layers else linear_network(WEIGHTS, plain(8))
    )
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    whole = utility_function(network)(x)
    for chunk in (1, 3, 17, 100):
        monkeypatch.setattr("mimic_core.networks.CHUNK", chunk)
        assert np.array_equal(utility_function(network)(x), whole)
    assert utility_function(network)(x[:0]).shape == (0,)


def test_gradients_of_a_smooth_network_are_those_of_finite_differences():
    layers, _ = load_layers('LAYERS = {"S": lambda: Dense(5, "tanh", dtype="float64"), "N": BatchNormalization}')
    network = build_network(model("S", "N"), plain(3), layers)
    random = np.random.default_rng(0)
    network.set_weights([random.uniform(0.2, 1, weights.shape) for weights in network.get_weights()])
    x = random.normal(size=(20, 3)).astype(np.float32)
    utility, step = utility_function(network), np.float32(2**-8)
    found = gradient_function(network, [2, 0])(x)
    for place, column in enumerate([2, 0]):
        moved = step * (np.arange(3) == column)
        expected = (utility(x + moved) - utility(x - moved)) / (2 * step)
        assert found[:, place] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_gradients_of_a_linear_network_are_exactly_its_coefficients():
    coefficients = np.array([1 / 3, -1e-9, 12345.678])
    found = gradient_function(linear_network(coefficients, plain(3)), [2, 0, 1])(np.ones((4, 3), np.float32))
    assert found.tolist() == [coefficients[[2, 0, 1]].tolist()] * 4


def test_the_gradient_by_a_feature_counts_the_interactions_that_it_is_in():
    network = linear_network(np.array([2.0, 0.5]), columns([["a", "b"]], ["a"]))  # u = 2 a + a b / 2
    found = gradient_function(network, [0, 1])(np.array([[1.0, 4.0], [3.0, 0.0]], np.float32))
    assert found.tolist() == [[4.0, 0.5], [2.0, 1.5]]


def test_gradients_do_not_depend_on_how_many_rows_come_at_once_to_the_last_bit(monkeypatch):
    network = build_network(model("D4"), plain(8), layers_of("D4").layers)
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    whole = gradient_function(network, [0, 1])(x)
    for chunk in (1, 3, 17, 100):
        monkeypatch.setattr("mimic_core.networks.CHUNK", chunk)
        assert np.array_equal(gradient_function(network, [0, 1])(x), whole)
    assert gradient_function(network, [0, 1])(x[:0]).shape == (0, 2)


def test_the_gradient_by_a_feature_that_no_layer_uses_is_zero():
    layers, _ = load_layers('LAYERS = {"F": lambda: Lambda(lambda x: 0 * keras.ops.ones_like(x[:, :1]) + x[:, 1:])}')
    found = gradient_function(build_network(model("F"), plain(2), layers), [0, 1])(np.ones((3, 2), np.float32))
    assert not found[:, 0].any()
    assert found[:, 1].all()


def test_a_linear_network_is_exactly_its_coefficients_in_float64():
    coefficients = np.array([1 / 3, -1e-9, 12345.678])
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_allclose(
        utility_function(linear_network(coefficients, plain(len(coefficients))))(x),
        x.astype(float) @ coefficients,
        rtol=1e-13,
    )


@pytest.mark.parametrize("source", [default_layers(["D2"]), OWN_LAYER])
def test_an_exported_network_computes_the_same_after_loading(tmp_path, source):
    layers, classes = load_layers(source)
    network = build_network(model(*layers), plain(3), layers)
    network.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    loaded = load_network(tmp_path / "model.keras", source)
    assert np.array_equal(utility_function(loaded)(x), utility_function(network)(x))
    assert list(classes) == (["Doubled"] if source is OWN_LAYER else [])


def test_an_exported_linear_network_keeps_its_float64(tmp_path):
    coefficients = np.array([1 / 3, 2 / 7])
    linear_network(coefficients, plain(len(coefficients))).save(tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras", default_layers([]))
    assert loaded.get_weights()[0][:, 0].tolist() == coefficients.tolist()


def test_standard_error_is_whole_after_keras_is_imported(capfd):
    import_keras()
    sys.stderr.write("still here\n")
    assert "still here" in capfd.readouterr().err


def test_an_integral_learning_rate_is_a_number_like_any_other():
    """A spec keeps 1.0 as 1 for the run id; Keras refuses an integer."""
    optimizer = make_optimizer(model(optimizer="SGD", optimizer_kwargs={"learning_rate": 1}))
    assert float(optimizer.learning_rate) == 1.0


@pytest.mark.parametrize("wrong", [{"clipnorm": "x"}, {"beta_1": "x"}, {"weight_decay": "a"}, {"lr": 0.1}])
def test_an_optimizer_argument_that_would_fail_in_training_is_refused_before(wrong):
    with pytest.raises(SpecError, match=r"models\[0\].optimizer_kwargs: Adam does not take them"):
        check_model(model("D8", optimizer_kwargs=wrong), layers_of("D8"), plain(2), "models[0]")


def test_a_layers_file_that_exits_is_an_error_and_not_an_exit():
    with pytest.raises(SpecError, match="cannot be executed: SystemExit"):
        load_layers("import sys\nsys.exit(3)")


def test_a_layer_is_tried_on_the_real_number_of_features():
    file = load_layers('LAYERS = {"same": lambda: Reshape((2,))}')
    check_model(model("same"), file, plain(2))


def test_an_activation_of_the_layers_file_is_stored_and_loaded_with_the_network():
    source = "def square(x):\n    return x * x\n\nLAYERS = {'sq': lambda: Dense(4, activation=square)}"
    network = build_network(model("sq"), plain(2), load_layers(source)[0])
    exported, loaded = export_network(network, source)
    assert len(exported) > 1000
    assert loaded is not network


def test_a_layer_that_loses_its_arguments_when_stored_is_refused():
    source = """
class Times(keras.layers.Layer):
    def __init__(self, factor=1.0, **others):
        super().__init__(**others)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()

LAYERS = {"triple": lambda: Times(3.0)}
"""
    network = build_network(model("triple"), plain(2), load_layers(source)[0])
    with pytest.raises(TrainingError, match=r"gives other utilities after it was stored and loaded.*get_config"):
        export_network(network, source)
