"""Forms: what the launchpad asks, what it registers by itself and by the command line alike, and what it refuses."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_assets.forms import example, parse_form, registration_form, spec_form
from mimic_assets.partitions import BY_ASSET
from mimic_assets.registration import register
from mimic_core.compute import ComputeSpec, Toleration
from mimic_core.configs import parse_spec
from mimic_core.layers_files import default_layers
from mimic_core.model_specs import ExperimentModelSpec
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, RunSpec
from resources.environments import local_resources

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/first_table"
FIRST = "9b0556be032119fc566fc751c692a13ad7793d33309be140512f65fa1b75fe09"
SECOND = "07c49bc09b5b47fca0fbcd0aba35f414ce6a129a12ee7f0310df016f084cda7f"
NAMES = {ContrastSpec: "contrast_set", DatasetSpec: "dataset", ExperimentSpec: "experiment", InferenceSpec: "inference"}
KINDS = [pytest.param(kind, id=name) for kind, name in NAMES.items()]
FILES = {ContrastSpec: "contrast", DatasetSpec: "dataset", ExperimentSpec: "experiment", InferenceSpec: "inference"}
KEYS = {
    ContrastSpec: ["haven.example_log_odds_contrasts"],
    DatasetSpec: ["mimic-log-odds/example-dataset"],
    ExperimentSpec: [f"mimic-log-odds/test-experiment/{FIRST[:12]}", f"mimic-log-odds/test-experiment/{SECOND[:12]}"],
    InferenceSpec: [f"haven.example_log_odds_batch_infer/test-experiment/{SECOND[:12]}"],
}
TYPES = {
    ContrastSpec: {
        "database": "String",
        "source_table": "String",
        "train_partitions": "Int?",
        "test_partitions": "Int?",
        "shards_per_step": "Int?",
        "where": "String?",
        "invalid_decisions": "String?",
        "destination_table": "String",
        "decisions_per_individual": "Int",
        "alternatives_per_decision": "Int",
        "sampling": "Shape?",
        "seed": "Int?",
        "refresh": "String?",
        "compute": "Shape?",
    },
    DatasetSpec: {
        "database": "String",
        "table": "String",
        "train_partitions": "Int?",
        "test_partitions": "Int?",
        "shards_per_step": "Int?",
        "where": "String?",
        "invalid_decisions": "String?",
        "max_choices": "Int",
        "overflow": "String?",
        "seed": "Int?",
        "features": "[String]",
        "missing_values_map": "{Float?}?",
        "compression": "String?",
        "space": "String",
        "dataset": "String",
        "refresh": "String?",
        "compute": "Shape?",
    },
    ExperimentSpec: {
        "experiment_name": "String",
        "space": "String",
        "dataset": "String",
        "max_choices": "Int",
        "features": "[String]",
        "interactions": "[[String]]?",
        "database": "String",
        "table": "String",
        "models": "[Shape]",
        "refresh": "String?",
        "compute": "Shape?",
    },
    ExperimentModelSpec: {
        "layers": "[String]",
        "batch_size": "Int?",
        "epochs": "Int?",
        "optimizer": "String?",
        "optimizer_kwargs": "{Any?}?",
        "seed": "Int?",
        "validation": "Float?",
        "early_stopping": "Shape?",
        "l2": "Float?",
        "seeds": "[Int]?",
    },
    ComputeSpec: {
        "gpu": "Int?",
        "cpu": "String?",
        "memory": "String?",
        "node_selector": "{String?}?",
        "tolerations": "[Shape]?",
    },
    Toleration: {
        "key": "String",
        "operator": "String?",
        "value": "String?",
        "effect": "String?",
    },
    InferenceSpec: {
        "database": "String",
        "table": "String",
        "train_partitions": "Int?",
        "test_partitions": "Int?",
        "shards_per_step": "Int?",
        "where": "String?",
        "invalid_decisions": "String?",
        "features": "[String]",
        "explain": "[String]?",
        "space": "String",
        "experiment_name": "String",
        "run_id": "String",
        "upload_table": "String",
        "refresh": "String?",
        "compute": "Shape?",
    },
}
WRONG = {
    "String": 3,
    "Shape": [],
    "[[String]]": "size",
    "Int": "3",
    "[Int]": "3",
    "Float": "0.5",
    "[String]": "size",
    "[Shape]": {},
    "{Float?}": [],
    "{Any?}": "x",
}


def document(kind, **changes):
    """The example of a kind; a changed key is given, a key given as ... is left out."""
    changed = json.loads((EXAMPLES / f"{FILES[kind]}.json").read_text()) | changes
    return {name: value for name, value in changed.items() if value is not ...}


def experiment(*models, **changes):
    return document(ExperimentSpec, models=list(models), **changes)


def execute(platform, kind, *specs, **fields):
    """Launch the registration of a form as the launchpad would."""
    job = platform.definitions().resolve_job_def(f"register_{NAMES[kind]}")
    config = {"ops": {f"{NAMES[kind]}_form": {"config": {"specs": list(specs), **fields}}}}
    return job.execute_in_process(run_config=config, instance=platform.instance, raise_on_error=False)


def registered(platform, kind, *specs, **fields):
    """Register a form; returns the partition keys that its run says."""
    result = execute(platform, kind, *specs, **fields)
    assert result.success
    return result.output_for_node(f"{NAMES[kind]}_form")


def refused(platform, kind, *specs, **fields):
    """Launch a form whose run must fail in one step with a message of ours and register nothing; returns the message."""
    before = everything(platform)
    result = execute(platform, kind, *specs, **fields)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data, failure.error
    assert everything(platform) == before
    return failure.user_failure_data.description


def refused_by_dagster(platform, kind, *specs, **fields):
    """Launch a form that Dagster must refuse before a run starts; returns its message."""
    before = everything(platform)
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        execute(platform, kind, *specs, **fields)
    assert everything(platform) == before
    return str(caught.value)


def spec_files(platform):
    """The stored versions of all specs."""
    return {path.as_posix(): path.read_bytes() for path in platform.home.glob("mimic/objects/specs/**/*.json")}


def partitions(platform, kind):
    asset = RunSpec.asset if kind is ExperimentSpec else kind.asset
    return list(platform.instance.get_dynamic_partitions(BY_ASSET[asset].name))


def everything(platform):
    return spec_files(platform), [partitions(platform, kind) for kind in NAMES]


def documents(new):
    return [spec.document for spec, _ in new]


def from_file(kind, given):
    """The specs of a config file, as the command line registers them."""
    spec = parse_spec(kind, given)
    return list(spec.runs) if kind is ExperimentSpec else [spec]


def filled_in(kind, *specs, **fields):
    """A filled-in form as the step gets it from Dagster."""
    return registration_form(kind)(specs=list(specs), **fields).model_dump()


def command_line(command, *paths):
    """Register a config file by the command line; returns what it says of each partition."""
    arguments = ["log-odds", command, *map(str, paths), "--register-only", "--json"]
    result = CliRunner().invoke(main, arguments, prog_name="mimic")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["partitions"]


def config_files(folder, given):
    """A config as JSON and as YAML."""
    (folder / "config.json").write_text(json.dumps(given))
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    return folder / "config.json", folder / "config.yaml"


def type_of(config_type):
    """A Dagster config type in short: ? may be null, [] an array, {} a map."""
    if config_type.kind.name == "NONEABLE":
        return type_of(config_type.inner_type) + "?"
    if config_type.kind.name == "ARRAY":
        return f"[{type_of(config_type.inner_type)}]"
    if config_type.kind.name == "MAP":
        return f"{{{type_of(config_type.inner_type)}}}"
    if config_type.kind.name == "STRICT_SHAPE":
        return "Shape"
    return config_type.scalar_type.given_name if config_type.kind.name == "SCALAR_UNION" else config_type.given_name


def schema(form):
    """What Dagster asks for a form: its fields by name."""
    return form.to_config_schema().as_field().config_type.fields


# ---- what a form asks


@pytest.mark.parametrize("kind", TYPES)
def test_every_key_of_a_spec_is_in_its_form_with_its_type_and_description(kind):
    asked = schema(spec_form(kind))
    assert {name: type_of(field.config_type) for name, field in asked.items()} == TYPES[kind]
    for name, field in kind.model_fields.items():
        assert field.description
        assert asked[name].description.startswith(f"{field.description} Example: {json.dumps(field.examples[0])}.")
        assert asked[name].is_required == field.is_required()


@pytest.mark.parametrize("kind", TYPES)
def test_a_key_that_may_stay_unset_says_its_default_and_is_none(kind):
    asked = schema(spec_form(kind))
    optional = {name: field for name, field in kind.model_fields.items() if not field.is_required()}
    for name, field in optional.items():
        assert asked[name].default_value is None
        default = field.get_default(call_default_factory=True)
        said = "unset" if default is None else json.dumps(default)
        assert asked[name].description.endswith(f" Default: {said}.")


def test_a_form_offers_no_sampling_that_it_does_not_take():
    """A file may say "uniform"; a field of a form is text or a form, not either of them."""
    assert parse_spec(ContrastSpec, document(ContrastSpec, sampling="uniform")).sampling is None
    said = schema(spec_form(ContrastSpec))["sampling"].description
    assert said.startswith("How rejected choices are sampled. Unset: uniformly")
    assert '"uniform"' not in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_registration_asks_for_any_number_of_specs_and_whether_to_build_them(kind):
    asked = schema(registration_form(kind))
    assert asked["specs"].is_required
    assert set(asked["specs"].config_type.inner_type.fields) == set(kind.model_fields)
    assert (asked["build"].is_required, asked["build"].default_value) == (False, False)
    assert set(asked) == {"specs", "build"} | ({"layers_file"} if kind is ExperimentSpec else set())
    assert all(field.description for field in asked.values())


def test_the_models_of_an_experiment_form_are_forms_of_models():
    asked = schema(spec_form(ExperimentSpec))["models"].config_type.inner_type.fields
    assert {name: type_of(field.config_type) for name, field in asked.items()} == TYPES[ExperimentModelSpec]
    assert all(
        asked[name].description.startswith(field.description) for name, field in ExperimentModelSpec.model_fields.items()
    )


def test_every_registration_job_and_its_step_describe_themselves(shared_platform):
    for name in NAMES.values():
        job = shared_platform.definitions().resolve_job_def(f"register_{name}")
        assert job.description.startswith("A form: fill in specs in the Launchpad. They become partitions of ")
        assert job.graph.node_named(f"{name}_form").definition.description == job.description


# ---- the types that Dagster checks


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NAMES for name in TYPES[kind]])
def test_a_value_of_a_wrong_type_is_refused_with_its_path(shared_platform, kind, name):
    wrong = WRONG[TYPES[kind][name].removesuffix("?")]
    message = refused_by_dagster(shared_platform, kind, document(kind), document(kind, **{name: wrong}))
    assert f"at path root:ops:{NAMES[kind]}_form:config:specs[1]:{name}" in message


@pytest.mark.parametrize("name", TYPES[ExperimentModelSpec])
def test_a_value_of_a_wrong_type_in_a_model_is_refused_with_its_path(shared_platform, name):
    model = {"layers": ["D4"], name: WRONG[TYPES[ExperimentModelSpec][name].removesuffix("?")]}
    message = refused_by_dagster(shared_platform, ExperimentSpec, experiment({"layers": []}, model))
    assert f"at path root:ops:experiment_form:config:specs[0]:models[1]:{name}" in message


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in NAMES for n, f in k.model_fields.items() if f.is_required()])
def test_a_key_that_is_missing_is_named(shared_platform, kind, name):
    message = refused_by_dagster(shared_platform, kind, document(kind, **{name: ...}))
    assert f'Missing required config entry "{name}" at path root:ops:{NAMES[kind]}_form:config:specs[0]' in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, 'Received unexpected config entry "sed" at path root:ops:contrast_set_form:config:specs[0]'),
        ({"seed": True}, 'specs[0]:seed. Value "True" of type "<class \'bool\'>" is not valid for expected type "Int"'),
        ({"seed": 0.5}, 'specs[0]:seed. Value "0.5" of type "<class \'float\'>" is not valid for expected type "Int"'),
        ({"database": ["haven"]}, "specs[0]:database"),
        ({"database": None}, "specs[0]:database must not be None"),
        ({"alternatives_per_decision": {}}, "specs[0]:alternatives_per_decision"),
    ],
)
def test_a_contrast_form_of_a_wrong_shape(shared_platform, changes, message):
    assert message in refused_by_dagster(shared_platform, ContrastSpec, document(ContrastSpec, **changes))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, 'Missing required config entry "specs" at path root:ops:dataset_form:config'),
        ({"specs": None}, "Value at path root:ops:dataset_form:config:specs must not be None"),
        ({"specs": {}}, "Value at path root:ops:dataset_form:config:specs must be list"),
        ({"specs": ["d"]}, "Value at path root:ops:dataset_form:config:specs[0] must be dict"),
        ({"specs": [], "bild": True}, 'Received unexpected config entry "bild" at path root:ops:dataset_form:config'),
        ({"specs": [], "build": "yes"}, "at path root:ops:dataset_form:config:build"),
    ],
)
def test_a_form_that_is_not_one(shared_platform, config, message):
    job = shared_platform.definitions().resolve_job_def("register_dataset")
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        job.execute_in_process(run_config={"ops": {"dataset_form": {"config": config}}}, instance=shared_platform.instance)
    assert message in str(caught.value)


# ---- from a form to specs


@pytest.mark.parametrize("kind", KINDS)
def test_a_filled_in_form_gives_the_specs_of_the_same_file(kind):
    form = filled_in(kind, document(kind))
    assert documents(parse_form(kind, form)) == [spec.document for spec in from_file(kind, document(kind))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_not_filled_in_is_none_in_the_form_and_not_in_the_spec(kind):
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    least = {name: value for name, value in document(kind).items() if name in required}
    if kind is ExperimentSpec:
        least["models"] = [{"layers": ["D4"]}]
    form = filled_in(kind, least)
    assert {name for name, value in form["specs"][0].items() if value is not None} == required
    assert documents(parse_form(kind, form)) == [spec.document for spec in from_file(kind, least)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_null_in_a_form_is_not_set(kind):
    least = {name: value for name, value in document(kind).items() if kind.model_fields[name].is_required()}
    nulls = dict.fromkeys(set(kind.model_fields) - set(least))
    assert documents(parse_form(kind, filled_in(kind, least | nulls))) == documents(parse_form(kind, filled_in(kind, least)))


def test_the_numbers_of_a_missing_values_map_mean_the_same_however_they_are_written(platform):
    for numbers in ({"size": -1, "age": 0}, {"size": -1.0, "age": 0.0}):
        registered(platform, DatasetSpec, document(DatasetSpec, missing_values_map=numbers))
        for path in config_files(platform.home, document(DatasetSpec, missing_values_map=numbers)):
            command_line("build-dataset", path)
    assert [Path(path).name for path in spec_files(platform)] == ["000001.json"]
    stored = platform.specs.get(DatasetSpec, *KEYS[DatasetSpec]).spec
    assert stored.document["missing_values_map"] == {"size": -1, "age": 0}


# ---- the example


@pytest.mark.parametrize("kind", KINDS)
def test_a_launchpad_that_nobody_touched_registers_the_example_and_twice_changes_nothing(platform, kind):
    job = platform.definitions().resolve_job_def(f"register_{NAMES[kind]}")
    assert job.execute_in_process(instance=platform.instance).output_for_node(f"{NAMES[kind]}_form") == KEYS[kind]
    assert partitions(platform, kind) == KEYS[kind]
    stored_as = RunSpec if kind is ExperimentSpec else kind
    stored = [platform.specs.get(stored_as, key).spec.document for key in KEYS[kind]]
    assert stored == [spec.document for spec in from_file(kind, document(kind))]
    before = everything(platform)
    assert job.execute_in_process(instance=platform.instance).success
    assert everything(platform) == before
    assert [Path(path).name for path in spec_files(platform)] == ["000001.json"] * len(KEYS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_that_the_launchpad_shows_is_the_example_and_builds_nothing(shared_platform, kind):
    job = shared_platform.definitions().resolve_job_def(f"register_{NAMES[kind]}")
    shown = job.run_config["ops"][f"{NAMES[kind]}_form"]["config"]
    assert shown == example(kind)
    assert (shown["specs"], shown["build"]) == ([document(kind)], False)


def test_the_example_is_stored_as_the_command_line_stores_it(platform):
    filled = example(ExperimentSpec)
    new = [*parse_form(ExperimentSpec, filled), *parse_form(ExperimentSpec, filled | {"layers_file": " "})]
    layers = (EXAMPLES / "layers.py").read_text()
    assert [text for _, text in new[:2]] == [layers, layers]
    assert new[2][1] == default_layers(["D16", "D32", "D16"])


# ---- form, file and command line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [FIRST, SECOND], id="as the original tool has it"),
        pytest.param({"seed": None, "validation": None}, [FIRST, SECOND], id="with nulls"),
        pytest.param({"optimizer_kwargs": {"learning_rate": 1}, "optimizer": "SGD"}, None, id="with an integer"),
        pytest.param({"optimizer_kwargs": {"learning_rate": 1.0}, "optimizer": "SGD"}, None, id="with an integral number"),
        pytest.param({"validation": 0.25, "seed": 2**31 - 1, "epochs": 1}, None, id="with a fraction"),
        pytest.param({"layers": [], "optimizer_kwargs": {}}, None, id="without layers"),
    ],
)
def test_form_files_and_command_line_give_the_same_run_ids(platform, changes, expected):
    models = [model | changes for model in document(ExperimentSpec)["models"]]
    given = experiment(*models) if expected else experiment(models[0])
    ids = [run.run_id for run in from_file(ExperimentSpec, given)]
    assert ids == (expected or ids)
    assert [platform.specs.get(RunSpec, key).spec.run_id for key in registered(platform, ExperimentSpec, given)] == ids
    for path in config_files(platform.home, given):
        assert [partition["run_id"] for partition in command_line("run-experiment", path)] == ids
    assert [Path(path).name for path in spec_files(platform)] == ["000001.json"] * len(ids)


def test_integral_numbers_are_integers_in_a_form_and_in_files(platform):
    given = [experiment({"layers": ["D4"], "optimizer_kwargs": {"learning_rate": rate}}) for rate in (1, 1.0)]
    keys = [registered(platform, ExperimentSpec, one) for one in given]
    in_a_file = experiment({"layers": ["D4"], "optimizer_kwargs": {"learning_rate": 1.0}}, max_choices=3.0)
    (said,) = command_line("run-experiment", config_files(platform.home, in_a_file)[0])
    assert keys == [[said["key"]]] * 2


@pytest.mark.parametrize(
    ("kind", "command"),
    [(ContrastSpec, "build-contrast"), (DatasetSpec, "build-dataset"), (InferenceSpec, "run-batch-infer")],
)
def test_form_files_and_command_line_store_the_same_spec_under_the_same_key(platform, kind, command):
    assert registered(platform, kind, document(kind)) == KEYS[kind]
    before = spec_files(platform)
    for path in config_files(platform.home, document(kind)):
        (said,) = command_line(command, path)
        assert (said["asset"], said["key"]) == (kind.asset, *KEYS[kind])
    assert spec_files(platform) == before


# ---- layers files


def test_runs_are_registered_with_the_text_of_the_layers_file(platform):
    text = "LAYERS = {\n  'wide': lambda: Dense(64, activation='tanh'),\n  'D4': lambda: Dense(4)\n}\n"
    given = experiment({"layers": ["wide", "D4"]}, {"layers": ["D4"]})
    for key in registered(platform, ExperimentSpec, given, layers_file=text):
        assert platform.specs.get(RunSpec, key).layers == text


def test_a_layers_file_is_stored_alike_by_the_form_and_by_the_command_line(platform):
    keys = registered(platform, ExperimentSpec, document(ExperimentSpec), layers_file=(EXAMPLES / "layers.py").read_text())
    before = spec_files(platform)
    said = command_line("run-experiment", EXAMPLES / "experiment.json", EXAMPLES / "layers.py")
    assert [partition["key"] for partition in said] == keys == KEYS[ExperimentSpec]
    assert spec_files(platform) == before


def test_runs_without_a_layers_file_are_registered_with_the_dense_layers_that_they_name(platform):
    keys = registered(platform, ExperimentSpec, experiment({"layers": ["D4", "D7"]}, {"layers": []}), layers_file=None)
    assert [platform.specs.get(RunSpec, key).layers for key in keys] == [default_layers(["D4", "D7"]), default_layers([])]


def test_another_layers_file_is_another_version_of_the_same_runs(platform):
    given = experiment({"layers": ["D4"]})
    texts = [f"LAYERS = {{'D4': lambda: Dense(4, activation='{name}')}}" for name in ("relu", "tanh")]
    keys = [registered(platform, ExperimentSpec, given, layers_file=text) for text in texts]
    assert keys[0] == keys[1] == partitions(platform, ExperimentSpec)
    assert sorted(Path(path).name for path in spec_files(platform)) == ["000001.json", "000002.json"]
    assert platform.specs.get(RunSpec, *keys[0]).layers == texts[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LAYERS = {", "layers_file: line 1 cannot be executed: SyntaxError"),
        ("\n\n1 / 0", "layers_file: cannot be executed: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "layers_file: cannot be executed: SystemExit: 3"),
        ("LAYER = {}", "layers_file: expected a dict LAYERS of names and functions that make a layer, found none"),
        ("LAYERS = ['D4']", "layers_file: expected a dict LAYERS of names and functions that make a layer, found list"),
        ("LAYERS = {'D4': Dense(4)}", "layers_file: LAYERS['D4']: expected a function that makes a new layer, found Dense"),
        (
            "LAYERS = {'D8': lambda: Dense(8)}",
            "specs[0]: models[1].layers[0]: unknown layer 'D4'; the layers file defines D8",
        ),
        ("LAYERS = {'D4': lambda: 4}", "specs[0]: models[1].layers[0]: layer 'D4' cannot be made or applied to"),
    ],
)
def test_a_layers_file_that_cannot_be_used(shared_platform, text, message):
    given = experiment({"layers": []}, {"layers": ["D4"]})
    assert message in refused(shared_platform, ExperimentSpec, given, layers_file=text)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"layers": ["D4", "X9"]},
            "models[1].layers[1]: unknown layer 'X9'; without a layers file there are D<units>, D<units>-<acti",
        ),
        ({"optimizer": "Adamm"}, "models[1].optimizer: unknown optimizer 'Adamm' (did you mean 'Adam'?)"),
        ({"optimizer_kwargs": {"lr": 0.5}}, "models[1].optimizer_kwargs: Adam does not take them"),
        ({"optimizer_kwargs": {"learning_rate": "x"}}, "models[1].optimizer_kwargs: Adam does not take them"),
        ({"optimizer_kwargs": {"use_ema": True}}, "models[1].optimizer_kwargs: use_ema is not supported"),
        ({"epochs": 0}, "models[1].epochs: expected a number of at least 1, found 0 (integer)"),
        ({"batch_size": -1}, "models[1].batch_size: expected a number of at least 1, found -1 (integer)"),
        ({"seed": 2**31}, "models[1].seed: expected a number less than 2147483648, found 2147483648 (integer)"),
        ({"validation": 0.0}, "models[1].validation: expected a number greater than 0.0, found 0 (integer)"),
        ({"validation": 1.0}, "models[1].validation: expected a number less than 1.0, found 1 (integer)"),
        ({"seeds": [1, 1]}, "models[1].seeds[1]: 1 stands more than once; name each seed once"),
        ({"early_stopping": {"patience": 0}}, "models[1].early_stopping.patience: expected a number of at least 1, found 0"),
        ({"epochs": 10}, "models[1] is identical to models[0], so both would be one run; remove one"),
    ],
)
def test_a_model_that_cannot_be_made(shared_platform, model, message):
    good = {"layers": ["D4"], "epochs": 10}
    said = refused(shared_platform, ExperimentSpec, document(ExperimentSpec), experiment(good, {"layers": ["D4"]} | model))
    assert said.startswith(f"specs[1]: {message}")


# ---- many at once


def test_a_form_with_many_specs_registers_all_of_them(platform):
    given = [document(DatasetSpec, dataset=f"d{number:03}") for number in range(200)]
    began = time.monotonic()
    keys = registered(platform, DatasetSpec, *given)
    assert time.monotonic() - began < 20
    assert keys == [f"mimic-log-odds/d{number:03}" for number in range(200)]
    assert sorted(partitions(platform, DatasetSpec)) == platform.specs.registered(DatasetSpec.asset) == keys


def test_an_experiment_of_many_models_registers_all_of_them(platform):
    given = experiment(*({"layers": ["D4"], "seed": seed} for seed in range(200)))
    began = time.monotonic()
    keys = registered(platform, ExperimentSpec, given)
    assert time.monotonic() - began < 60
    assert keys == [run.key for run in from_file(ExperimentSpec, given)]
    assert sorted(partitions(platform, ExperimentSpec)) == platform.specs.registered(RunSpec.asset) == sorted(keys)


def test_a_form_with_seeds_early_stopping_and_a_schedule_registers_the_runs_of_the_same_config(platform):
    schedule = {"class_name": "CosineDecay", "config": {"initial_learning_rate": 1, "decay_steps": 100, "alpha": None}}
    model = {"layers": ["D4"], "early_stopping": {"patience": 2}, "optimizer_kwargs": {"learning_rate": schedule}}
    given = experiment(model | {"seeds": [3, 1]})
    keys = registered(platform, ExperimentSpec, given)
    assert keys == [run.key for run in from_file(ExperimentSpec, given)]
    assert [platform.specs.get(RunSpec, key).spec.model.seed for key in keys] == [3, 1]


def test_experiments_of_one_form_may_share_models_and_differ_in_name(platform):
    models = document(ExperimentSpec)["models"]
    keys = registered(
        platform, ExperimentSpec, *(document(ExperimentSpec, experiment_name=name, models=models) for name in "ab")
    )
    assert [key.split("/")[1] for key in keys] == ["a", "a", "b", "b"]
    assert len(set(keys)) == 4


def at_the_same_time(folder, *writers):
    """Register specs by several writers, one spec of each at a time; returns what is registered afterwards.

    Every writer is a thread with its own view of one instance on disk, as a process would have.
    """
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    barrier, store = Barrier(len(writers)), local_resources(folder / "mimic")["specs"]

    def write(instance, new):
        barrier.wait()
        register(instance, store, [new])

    with ExitStack() as stack, ThreadPoolExecutor(len(writers)) as pool:
        instances = [stack.enter_context(dg.DagsterInstance.from_config(str(folder))) for _ in writers]
        for news in zip(*writers, strict=True):
            list(pool.map(write, instances, news))
        return sorted(instances[0].get_dynamic_partitions("tfrecord_datasets")), store.registered(DatasetSpec.asset)


def dataset_form(*names):
    return parse_form(DatasetSpec, filled_in(DatasetSpec, *(document(DatasetSpec, dataset=name) for name in names)))


def test_registrations_of_different_specs_at_the_same_time_lose_nothing(tmp_path):
    writers = [dataset_form(*(f"d{writer}-{number}" for number in range(10))) for writer in range(8)]
    expected = sorted(spec.key for new in writers for spec, _ in new)
    assert at_the_same_time(tmp_path, *writers) == (expected, expected)


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"database": ""}, "database: expected a name of letters, digits and '_' that does not begin with a digit"),
        ({"database": "../up"}, "database: expected a name of letters, digits and '_' that does not begin with a digit"),
        ({"database": "d" * 129}, "database: String should have at most 128 characters"),
        ({"source_table": "1st"}, "source_table: expected a name of letters, digits and '_' that does not begin with a"),
        ({"source_table": "a b"}, "source_table: expected a name of letters, digits and '_' that does not begin with a"),
        ({"destination_table": "a.b"}, "destination_table: expected a name of letters, digits and '_' that does not"),
        ({"destination_table": "tä"}, "destination_table: expected a name of letters, digits and '_' that does not"),
        (
            {"destination_table": "example_log_odds_features"},
            "destination_table: 'example_log_odds_features' is the source table; give the contrast table a name",
        ),
        ({"train_partitions": 0}, "train_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"test_partitions": -1}, "test_partitions: expected a number of at least 1, found -1 (integer)"),
        ({"decisions_per_individual": 0}, "decisions_per_individual: expected a number of at least 1, found 0 (integer)"),
        (
            {"decisions_per_individual": 10**6},
            "decisions_per_individual: 1000000 x alternatives_per_decision 2 are 2,000,000 pairs",
        ),
        ({"alternatives_per_decision": -2}, "alternatives_per_decision: expected a number of at least 1, found -2"),
        ({"alternatives_per_decision": 10**30}, "decisions_per_individual: 2 x alternatives_per_decision 1"),
        ({"seed": -1}, "seed: expected a number of at least 0, found -1 (integer)"),
        ({"seed": 2**31}, "seed: expected a number less than 2147483648, found 2147483648 (integer)"),
    ],
)
def test_a_contrast_form_that_cannot_be_used(shared_platform, changes, message):
    good, bad = document(ContrastSpec, destination_table="good"), document(ContrastSpec, **changes)
    assert refused(shared_platform, ContrastSpec, good, bad).startswith(f"specs[1]: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_choices": 1}, "max_choices: expected a number of at least 2, found 1 (integer)"),
        ({"train_partitions": 0}, "train_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"features": []}, "features: expected at least one entry, found [] (list)"),
        ({"features": ["size", "size"]}, "features: 'size' stands more than once; name each feature once"),
        ({"features": ["size", "_choice"]}, "features[1]: expected a column name that does not begin with '_'"),
        ({"missing_values_map": {"aeg": -1}}, "missing_values_map: 'aeg' is not one of the features (did you mean 'age'?)"),
        ({"missing_values_map": {"age": 1e39}}, "missing_values_map.age: expected a number of at most 3.4e+38, found"),
        ({"missing_values_map": {"age": float("nan")}}, "a value is not one that JSON can hold"),
        ({"space": "../up"}, "space: expected a name of letters, digits, '.', '_' and '-'"),
        ({"dataset": ""}, "dataset: expected a name of letters, digits, '.', '_' and '-'"),
    ],
)
def test_a_dataset_form_that_cannot_be_used(shared_platform, changes, message):
    bad, good = document(DatasetSpec, **changes), document(DatasetSpec, dataset="good")
    assert refused(shared_platform, DatasetSpec, bad, good).startswith(f"specs[0]: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment_name": "a/b"}, "experiment_name: expected a name of letters, digits, '.', '_' and '-'"),
        ({"max_choices": 0}, "max_choices: expected a number of at least 2, found 0 (integer)"),
        ({"features": ["age", "age"]}, "features: 'age' stands more than once; name each feature once"),
        ({"table": "a.b"}, "table: expected a name of letters, digits and '_' that does not begin with a digit"),
        ({"models": []}, "models: expected at least one entry, found [] (list)"),
    ],
)
def test_an_experiment_form_that_cannot_be_used(shared_platform, changes, message):
    assert refused(shared_platform, ExperimentSpec, document(ExperimentSpec, **changes)).startswith(f"specs[0]: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run_id": "abc"}, "run_id: expected a run id (64 hexadecimal digits; `mimic status` lists them), found"),
        ({"run_id": SECOND.upper()}, "run_id: expected a run id (64 hexadecimal digits; `mimic status` lists them), found"),
        ({"features": ["size", "size"]}, "features: 'size' stands more than once; name each feature once"),
        ({"test_partitions": 0}, "test_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"upload_table": "example_log_odds_features"}, "upload_table: 'example_log_odds_features' is the source table"),
    ],
)
def test_an_inference_form_that_cannot_be_used(shared_platform, changes, message):
    assert refused(shared_platform, InferenceSpec, document(InferenceSpec, **changes)).startswith(f"specs[0]: {message}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_without_specs_is_refused(shared_platform, kind):
    assert refused(shared_platform, kind) == "specs: expected at least one spec, found []"


def test_all_problems_of_all_specs_are_named_at_once(shared_platform):
    bad = [{"seed": -1, "train_partitions": 0}, {}, {"decisions_per_individual": 0}]
    assert refused(shared_platform, ContrastSpec, *(document(ContrastSpec, **changes) for changes in bad)) == (
        "specs[0]: 2 problems\n"
        "  train_partitions: expected a number of at least 1, found 0 (integer)\n"
        "  seed: expected a number of at least 0, found -1 (integer)\n"
        "specs[2]: decisions_per_individual: expected a number of at least 1, found 0 (integer)"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_stands_twice_in_a_form_is_refused(shared_platform, kind):
    said = refused(shared_platform, kind, document(kind), document(kind))
    assert said == f"specs: {', '.join(f'{key} stands 2 times' for key in KEYS[kind])}; give each partition one spec"


def test_the_models_of_all_experiments_are_named_at_once(shared_platform):
    specs = [experiment({"layers": ["D4"], "optimizer": name}) for name in ("A", "B")]
    said = refused(shared_platform, ExperimentSpec, *specs)
    assert "specs[0]: models[0].optimizer" in said
    assert "specs[1]: models[0].optimizer" in said


def test_unknown_layers_of_all_models_are_named_at_once(shared_platform):
    said = refused(shared_platform, ExperimentSpec, experiment({"layers": ["X1"]}, {"layers": ["X2"]}))
    assert "models[0].layers[0]: unknown layer 'X1'" in said
    assert "models[1].layers[0]: unknown layer 'X2'" in said


def test_an_inference_of_another_table_under_the_same_key_is_refused_and_with_it_the_whole_form(platform):
    registered(platform, InferenceSpec, document(InferenceSpec))
    new = document(InferenceSpec, upload_table="new")
    said = refused(platform, InferenceSpec, new, document(InferenceSpec, table="other"))
    assert f"example_log_odds_batch_infer already holds inferences of run {SECOND[:12]}..." in said
    assert "and this config applies it to haven.other; give another upload_table" in said


# ---- what a person may leave empty, and several at once


def test_a_build_that_is_null_is_false(platform):
    assert registered(platform, DatasetSpec, document(DatasetSpec), build=None)


def test_an_optimizer_argument_that_is_null_is_not_set(platform):
    keys = registered(platform, ExperimentSpec, experiment({"layers": [], "optimizer_kwargs": {"learning_rate": None}}))
    assert keys == [parse_spec(ExperimentSpec, experiment({"layers": [], "optimizer_kwargs": {}})).runs[0].key]


def test_registrations_of_the_same_specs_at_the_same_time_fail_nothing(tmp_path):
    form = dataset_form(*(f"d{number}" for number in range(10)))
    expected = sorted(spec.key for spec, _ in form)
    assert at_the_same_time(tmp_path, *([form] * 8)) == (expected, expected)
