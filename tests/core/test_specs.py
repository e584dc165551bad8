import json

import pytest

from mimic_core.configs import parse_spec, read_document
from mimic_core.documents import normalise
from mimic_core.errors import SpecError
from mimic_core.model_specs import ModelSpec
from mimic_core.specs import (
    ContrastSpec,
    DatasetSpec,
    ExperimentSpec,
    InferenceSpec,
    RunSpec,
    spec_digest,
)

FIRST = "9b0556be032119fc566fc751c692a13ad7793d33309be140512f65fa1b75fe09"
SECOND = "07c49bc09b5b47fca0fbcd0aba35f414ce6a129a12ee7f0310df016f084cda7f"

DATASET = {
    "database": "haven",
    "table": "example_log_odds_features",
    "train_partitions": 2,
    "test_partitions": 1,
    "max_choices": 3,
    "features": ["size", "age"],
    "missing_values_map": {"size": -1, "age": -1},
    "space": "mimic-log-odds",
    "dataset": "example-dataset",
}
EXPERIMENT = {
    "experiment_name": "test-experiment",
    "space": "mimic-log-odds",
    "dataset": "example-dataset",
    "max_choices": 3,
    "features": ["size", "age"],
    "database": "haven",
    "table": "mimic_log_odds_results",
    "models": [
        {
            "batch_size": 100,
            "epochs": 10,
            "layers": ["D16", "D32", "D16"],
            "optimizer": "Adam",
            "optimizer_kwargs": {"learning_rate": 0.002},
        },
        {"batch_size": 100, "epochs": 10, "layers": ["D16", "D32", "D16", "D8"]},
    ],
}
INFERENCE = {
    "database": "haven",
    "table": "example_log_odds_features",
    "train_partitions": 2,
    "test_partitions": 1,
    "features": ["size", "age"],
    "space": "mimic-log-odds",
    "experiment_name": "test-experiment",
    "run_id": SECOND,
    "upload_table": "example_log_odds_batch_infer",
}
AS_YAML = """
models:
- {layers: [D16, D32, D16], epochs: 10, batch_size: 100, optimizer: Adam, optimizer_kwargs: {learning_rate: 2e-3}}
- {layers: [D16, D32, D16, D8], epochs: 1e1, batch_size: 100.0, seed: null}
table: mimic_log_odds_results
database: haven
features: [size, age]
max_choices: 3
dataset: example-dataset
space: mimic-log-odds
experiment_name: test-experiment
"""


def run_ids(document):
    return [run.run_id for run in parse_spec(ExperimentSpec, document).runs]


def with_model(**changes):
    return {**EXPERIMENT, "models": [{"layers": ["D8"]}, {"layers": ["D16"], **changes}]}


def turned_round(value):
    if isinstance(value, dict):
        return {name: turned_round(value[name]) for name in reversed(value)}
    return [turned_round(item) for item in value] if isinstance(value, list) else value


def refused(kind, document):
    with pytest.raises(SpecError) as caught:
        parse_spec(kind, document, "my.json")
    return str(caught.value)


def read_text(tmp_path, text, name="config.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def test_the_original_experiment_has_its_two_golden_run_ids():
    assert run_ids(EXPERIMENT) == [FIRST, SECOND]


def test_run_ids_do_not_depend_on_the_order_of_keys():
    assert run_ids(turned_round(EXPERIMENT)) == [FIRST, SECOND]


def test_a_key_that_is_none_is_a_key_that_is_not_set():
    models = [{**model, "seed": None, "validation": None} for model in EXPERIMENT["models"]]
    models[1] |= {"optimizer": None, "optimizer_kwargs": None}
    assert run_ids({**EXPERIMENT, "models": models}) == [FIRST, SECOND]


def test_compression_is_part_of_what_is_built_where_it_is_set():
    plain, unset, zipped = (
        parse_spec(DatasetSpec, DATASET | more) for more in ({}, {"compression": None}, {"compression": "GZIP"})
    )
    assert unset.defining == plain.defining
    assert zipped.defining == plain.defining | {"compression": "GZIP"}


def test_what_a_key_may_be_is_said_in_our_words():
    assert 'compression: expected "GZIP", found "gzip"' in refused(DatasetSpec, DATASET | {"compression": "gzip"})


def test_an_integral_number_is_an_integer():
    models = [{**model, "epochs": 10.0, "batch_size": 100.0} for model in EXPERIMENT["models"]]
    assert run_ids({**EXPERIMENT, "max_choices": 3.0, "models": models}) == [FIRST, SECOND]


def test_the_same_config_as_yaml_has_the_same_run_ids(tmp_path):
    for name in ("config.yaml", "config.yml"):
        assert run_ids(read_text(tmp_path, AS_YAML, name)) == [FIRST, SECOND]


def test_the_same_config_as_json_has_the_same_run_ids(tmp_path):
    assert run_ids(read_text(tmp_path, json.dumps(EXPERIMENT, indent=3))) == [FIRST, SECOND]


def test_a_default_that_the_user_wrote_out_is_part_of_the_run_id():
    written = [EXPERIMENT["models"][0], {**EXPERIMENT["models"][1], "seed": 0}]
    assert run_ids({**EXPERIMENT, "models": written})[1] != SECOND


@pytest.mark.parametrize(("key", "value"), [("features", ["age", "size"]), ("max_choices", 4), ("table", "other")])
def test_whatever_the_user_set_is_part_of_the_run_id(key, value):
    assert FIRST not in run_ids({**EXPERIMENT, key: value})


def test_a_run_keeps_its_id_when_its_stored_document_is_read_again():
    for run in parse_spec(ExperimentSpec, EXPERIMENT).runs:
        assert parse_spec(RunSpec, json.loads(json.dumps(run.document))).run_id == run.run_id


def test_keys_and_folders_are_those_of_the_architecture():
    dataset, inference = parse_spec(DatasetSpec, DATASET), parse_spec(InferenceSpec, INFERENCE)
    run = parse_spec(ExperimentSpec, EXPERIMENT).runs[1]
    assert (dataset.key, dataset.folder) == ("mimic-log-odds/example-dataset", "mimic-log-odds-tfrecords/example-dataset")
    assert run.key == inference.run_key == f"mimic-log-odds/test-experiment/{SECOND[:12]}"
    assert run.folder == inference.run_folder == f"mimic-log-odds-models/test-experiment/{SECOND}"
    assert (run.dataset_key, run.dataset_folder) == (dataset.key, dataset.folder)
    assert inference.key == f"haven.example_log_odds_batch_infer/test-experiment/{SECOND[:12]}"
    assert dataset.source == inference.source == "haven.example_log_odds_features"
    assert run.results == "haven.mimic_log_odds_results"
    assert dataset.partitions == inference.partitions == {"train": 2, "test": 1}


@pytest.mark.parametrize(("kind", "document"), [(DatasetSpec, DATASET), (ExperimentSpec, EXPERIMENT)])
def test_a_document_holds_what_the_user_set_and_nothing_else(kind, document):
    assert parse_spec(kind, document).document == document


def test_a_spec_cannot_be_changed():
    spec = parse_spec(DatasetSpec, DATASET)
    with pytest.raises(ValueError, match="frozen"):
        spec.max_choices = 4


def test_partitions_default_to_one_and_the_optimizer_to_adam():
    spec = parse_spec(DatasetSpec, {k: v for k, v in DATASET.items() if "partitions" not in k})
    model = ModelSpec(layers=["D8"])
    assert spec.partitions == {"train": 1, "test": 1}
    assert (model.optimizer, model.optimizer_kwargs, model.validation, model.linear) == ("Adam", {}, None, False)
    assert ModelSpec(layers=[]).linear


def test_a_spec_digest_does_not_depend_on_the_order_of_keys_and_does_on_every_part():
    digest = spec_digest(EXPERIMENT, "layers")
    assert spec_digest(turned_round(EXPERIMENT), "layers") == digest
    assert len({digest, spec_digest(EXPERIMENT), spec_digest(EXPERIMENT, "other"), spec_digest(DATASET, "layers")}) == 4


def test_normalise_keeps_true_and_fractions_and_drops_none_at_every_depth():
    assert normalise({"a": [{"b": None, "c": 2.0}], "d": True, "e": (0.5, 1)}) == {"a": [{"c": 2}], "d": True, "e": [0.5, 1]}


def test_how_many_shards_a_step_builds_is_no_part_of_what_is_built():
    one, more = (parse_spec(DatasetSpec, DATASET | steps) for steps in ({}, {"shards_per_step": 3}))
    assert (one.shards_per_step, more.shards_per_step) == (1, 3)
    assert more.defining == one.defining


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    assert refused(DatasetSpec, {**DATASET, "max_choice": 3}) == (
        "my.json: max_choice: unknown key (did you mean 'max_choices'?); the keys are database, table, max_choices, "
        "features, space, dataset, train_partitions, test_partitions, where, invalid_decisions, overflow, seed, "
        "missing_values_map, compression, refresh, compute, shards_per_step"
    )


def test_the_known_keys_are_listed_once_however_many_are_unknown():
    model = {"layers": [], "epoch": 3, "batch": 4}
    text = refused(ExperimentSpec, EXPERIMENT | {"models": [model, model], "spce": "s"})
    assert text.startswith("my.json: 5 problems\n")
    assert text.count("the keys are layers, ") == text.count("the keys are experiment_name, ") == 1
    assert "models[1].epoch: unknown key (did you mean 'epochs'?)\n" in text


def test_an_unknown_key_of_a_model_is_told_the_keys_of_a_model():
    text = refused(ExperimentSpec, with_model(epoch=3))
    assert text.startswith("my.json: models[1].epoch: unknown key (did you mean 'epochs'?); the keys are layers, batch_size")


def test_every_missing_key_is_named():
    text = refused(InferenceSpec, {key: INFERENCE[key] for key in INFERENCE if key not in {"run_id", "table"}})
    assert text == "my.json: 2 problems\n  table: this key is missing\n  run_id: this key is missing"


def test_a_model_without_layers_is_a_missing_key_not_a_linear_model():
    assert refused(ExperimentSpec, {**EXPERIMENT, "models": [{}]}) == "my.json: models[0].layers: this key is missing"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_choices": "3"}, 'max_choices: expected an integer, found "3" (string)'),
        ({"max_choices": 3.5}, "max_choices: expected an integer, found 3.5 (number)"),
        ({"max_choices": True}, "max_choices: expected an integer, found true (true or false)"),
        ({"max_choices": 1}, "max_choices: expected a number of at least 2, found 1 (integer)"),
        ({"train_partitions": 0}, "train_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"database": 7}, "database: expected a string, found 7 (integer)"),
        ({"features": []}, "features: expected at least one entry, found [] (list)"),
        ({"features": "size"}, 'features: expected a list, found "size" (string)'),
        ({"features": ["size", 3], "missing_values_map": {}}, "features[1]: expected a string, found 3 (integer)"),
        ({"missing_values_map": []}, "missing_values_map: expected an object, found [] (list)"),
        ({"missing_values_map": {"size": "x"}}, 'missing_values_map.size: expected a number, found "x" (string)'),
    ],
)
def test_a_wrong_type_or_value_is_named_with_its_path(changes, expected):
    assert refused(DatasetSpec, {**DATASET, **changes}) == f"my.json: {expected}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"layers": ["D8", 8]}, "models[1].layers[1]: expected a string, found 8 (integer)"),
        ({"layers": "D8"}, 'models[1].layers: expected a list, found "D8" (string)'),
        ({"epochs": 0}, "models[1].epochs: expected a number of at least 1, found 0 (integer)"),
        ({"batch_size": 2.5}, "models[1].batch_size: expected an integer, found 2.5 (number)"),
        ({"optimizer": 3}, "models[1].optimizer: expected a string, found 3 (integer)"),
        ({"optimizer_kwargs": [1]}, "models[1].optimizer_kwargs: expected an object, found [1] (list)"),
        ({"seed": -1}, "models[1].seed: expected a number of at least 0, found -1 (integer)"),
        ({"seed": 2**31}, "models[1].seed: expected a number less than 2147483648, found 2147483648 (integer)"),
        ({"validation": 0}, "models[1].validation: expected a number greater than 0.0, found 0 (integer)"),
        ({"validation": 1.0}, "models[1].validation: expected a number less than 1.0, found 1 (integer)"),
    ],
)
def test_a_wrong_type_or_value_of_a_model_is_named_with_its_path(changes, expected):
    assert refused(ExperimentSpec, with_model(**changes)) == f"my.json: {expected}"


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([], "models: expected at least one entry, found [] (list)"),
        ({}, "models: expected a list, found {} (object)"),
        (["D8"], 'models[0]: expected an object, found "D8" (string)'),
    ],
)
def test_models_are_a_list_of_objects(models, expected):
    assert refused(ExperimentSpec, {**EXPERIMENT, "models": models}) == f"my.json: {expected}"


def test_all_problems_are_reported_at_once():
    text = refused(DatasetSpec, {**DATASET, "max_choices": "3", "features": [], "spaces": "x"})
    assert text.startswith("my.json: 3 problems\n  ")
    assert all(part in text for part in ("max_choices: expected", "features: expected", "spaces: unknown key"))


@pytest.mark.parametrize("name", ["", "ha ven", "1t", "a-b", "a.b", "a/b", "ä", "a;drop"])
def test_a_bad_table_name_is_refused(name):
    expected = "table: expected a name of letters, digits and '_' that does not begin with a digit, found "
    assert expected in refused(DatasetSpec, {**DATASET, "table": name})


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "a\n"])
def test_a_bad_space_or_dataset_name_is_refused(name):
    expected = "expected a name of letters, digits, '.', '_' and '-' that begins with a letter or digit, found "
    assert f"space: {expected}" in refused(DatasetSpec, {**DATASET, "space": name})
    assert f"dataset: {expected}" in refused(DatasetSpec, {**DATASET, "dataset": name})


@pytest.mark.parametrize("name", ["_train", "_weight", "_", ""])
def test_a_reserved_column_is_no_feature(name):
    text = refused(DatasetSpec, {**DATASET, "features": ["size", "age", name]})
    assert "features[2]: expected a column name that does not begin with '_' (such names are reserved)" in text


@pytest.mark.parametrize("run_id", ["07c49bc0", SECOND.upper(), SECOND + "0", "g" * 64])
def test_a_bad_run_id_is_refused_with_the_command_that_lists_them(run_id):
    text = refused(InferenceSpec, {**INFERENCE, "run_id": run_id})
    assert "run_id: expected a run id (64 hexadecimal digits; `mimic status` lists them), found " in text


@pytest.mark.parametrize(
    ("kind", "document"), [(DatasetSpec, DATASET), (ExperimentSpec, EXPERIMENT), (InferenceSpec, INFERENCE)]
)
def test_a_feature_named_twice_is_refused(kind, document):
    text = refused(kind, {**document, "features": ["size", "age", "size"]})
    assert text == "my.json: features: 'size' stands more than once; name each feature once"


def test_a_missing_value_for_no_feature_is_refused():
    text = refused(DatasetSpec, {**DATASET, "missing_values_map": {"sise": 1}})
    assert text == "my.json: missing_values_map: 'sise' is not one of the features (did you mean 'size'?)"


def test_identical_models_are_refused_and_told_about_seeds():
    text = refused(ExperimentSpec, {**EXPERIMENT, "models": [*EXPERIMENT["models"], EXPERIMENT["models"][0]]})
    assert text == (
        'my.json: models[2] is identical to models[0], so both would be one run; remove one, or give them different "seed"s'
    )


def test_models_that_differ_only_in_writing_are_identical():
    same = {"layers": ["D8"], "batch_size": 10.0, "seed": None}
    text = refused(ExperimentSpec, {**EXPERIMENT, "models": [{"batch_size": 10, "layers": ["D8"]}, same]})
    assert "models[1] is identical to models[0]" in text


def test_models_with_different_seeds_are_different_runs():
    models = [{"layers": ["D8"], "seed": 1}, {"layers": ["D8"], "seed": 2}]
    assert len(set(run_ids({**EXPERIMENT, "models": models}))) == 2


def test_seeds_are_the_models_written_out_with_one_seed_each():
    first, second = EXPERIMENT["models"]
    given = {**EXPERIMENT, "models": [{**first, "seeds": [5, 0, 2]}, second]}
    written = {**EXPERIMENT, "models": [{**first, "seed": 5}, {**first, "seed": 0}, {**first, "seed": 2}, second]}
    assert run_ids(given) == run_ids(written)
    assert parse_spec(ExperimentSpec, given).document == written
    assert parse_spec(ExperimentSpec, given).runs == parse_spec(ExperimentSpec, written).runs
    assert [index for index, _ in parse_spec(ExperimentSpec, given).numbered] == [0, 0, 0, 1]


def test_seeds_of_yaml_that_are_whole_numbers_or_null_are_those_of_json(tmp_path):
    text = AS_YAML.replace("seed: null", "seed: null, seeds: [1, 2.0]")
    models = [EXPERIMENT["models"][0], {**EXPERIMENT["models"][1], "seeds": [1, 2]}]
    assert run_ids(read_text(tmp_path, text, "config.yaml")) == run_ids({**EXPERIMENT, "models": models})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": []}, "models[1].seeds: expected at least one entry, found [] (list)"),
        ({"seeds": 3}, "models[1].seeds: expected a list, found 3 (integer)"),
        ({"seeds": [1, 2, 1]}, "models[1].seeds[2]: 1 stands more than once; name each seed once"),
        ({"seeds": [1, "2"]}, 'models[1].seeds[1]: expected an integer, found "2" (string)'),
        ({"seeds": [1, 2, 2.5]}, "models[1].seeds[2]: expected an integer, found 2.5 (number)"),
        ({"seeds": [-1]}, "models[1].seeds[0]: expected a number of at least 0, found -1 (integer)"),
        ({"seeds": [1], "seed": 1}, 'models[1].seeds: "seed" is given too; expected one of the two, remove the other'),
        ({"early_stopping": {"patience": 0}}, "models[1].early_stopping.patience: expected a number of at least 1, found 0"),
        ({"early_stopping": {}}, "models[1].early_stopping.patience: this key is missing"),
        ({"early_stopping": 3}, "models[1].early_stopping: expected an object, found 3 (integer)"),
        (
            {"early_stopping": {"patince": 1, "patience": 2}},
            "models[1].early_stopping.patince: unknown key (did you mean 'patience'?); the keys are patience",
        ),
        (
            {"early_stopping": {"patience": 2}, "layers": []},
            "models[1].early_stopping: a linear model (layers: []) is estimated to its optimum and never stopped early",
        ),
    ],
)
def test_seeds_and_early_stopping_that_are_none_are_named_with_their_path(changes, expected):
    assert refused(ExperimentSpec, with_model(**changes)).startswith(f"my.json: {expected}")


def test_a_seed_that_two_models_share_is_named_with_their_places_in_the_config():
    models = [{"layers": ["D8"], "seeds": [1, 2]}, {"layers": []}, {"layers": ["D8"], "seeds": [3, 2]}]
    assert refused(ExperimentSpec, {**EXPERIMENT, "models": models}).startswith(
        "my.json: models[2] is identical to models[0] with seed 2, so both would be one run; remove one"
    )


def test_a_run_has_one_seed():
    (run,) = parse_spec(ExperimentSpec, {**EXPERIMENT, "models": [{"layers": ["D8"], "seeds": [4]}]}).runs
    assert run.document["model"] == {"layers": ["D8"], "seed": 4}
    text = refused(RunSpec, {**run.document, "model": {"layers": ["D8"], "seeds": [4]}})
    assert text.startswith("my.json: model.seeds: unknown key (did you mean 'seed'?)")


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (1, 'sampling: expected "uniform" or {"weights": COLUMN}, found 1'),
        ("even", 'sampling: expected "uniform" or {"weights": COLUMN}, found "even"'),
        ({"weights": ""}, 'sampling.weights: expected a text that is not empty, found "" (string)'),
        (
            {"weights": "_selected"},
            "sampling.weights: expected a column of numbers, found '_selected', which has ids or flags",
        ),
    ],
)
def test_a_sampling_that_is_none_is_refused(sampling, expected):
    document = {"database": "haven", "source_table": "t", "destination_table": "c", "decisions_per_individual": 1}
    text = refused(ContrastSpec, document | {"alternatives_per_decision": 1, "sampling": sampling})
    assert text == f"my.json: {expected}"


def test_an_explained_column_that_only_interactions_of_the_run_may_name_is_to_be_listed():
    text = refused(InferenceSpec, {**INFERENCE, "explain": ["size", "GA_1"]})
    assert text == (
        "my.json: explain: 'GA_1' is not one of the features; list it there too if the run reads it; they are size, age"
    )


def test_an_inference_into_its_own_source_is_refused():
    text = refused(InferenceSpec, {**INFERENCE, "upload_table": INFERENCE["table"]})
    assert text == (
        "my.json: upload_table: 'example_log_odds_features' is the source table; give the inference table a name"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    text = refused(DatasetSpec, {**DATASET, "missing_values_map": {"size": value}})
    assert text.startswith("my.json: ")
    assert "not one that JSON can hold" in text or "missing_values_map.size: expected a finite number" in text


def test_text_that_is_not_json_is_refused_with_line_and_column(tmp_path):
    with pytest.raises(SpecError, match=r"config\.json:2:2: this is not JSON: .*; a YAML config needs a name that ends in"):
        read_text(tmp_path, '{"a":\n }')


def test_an_empty_file_is_called_empty(tmp_path):
    with pytest.raises(SpecError, match=r"config\.json:1:1: this is not JSON: .*\(the file is empty\)"):
        read_text(tmp_path, "")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": [{"a": 1, "c": 2, "a": 3}]}'])
def test_a_key_that_stands_twice_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match=r"config\.json: the key 'a' stands twice in one object; remove one"):
        read_text(tmp_path, text)


@pytest.mark.parametrize("text", ["a: 1\na: 1\n", "b:\n- {a: 1, a: 2}\n"])
def test_a_key_that_stands_twice_in_yaml_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match=r"config\.yaml: the key 'a' stands twice in one object; remove one"):
        read_text(tmp_path, text, "config.yaml")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_is_no_json_number_is_refused(tmp_path, constant):
    with pytest.raises(SpecError, match=f"config.json: {constant} is not a number that JSON knows; give a finite number"):
        read_text(tmp_path, f'{{"a": {constant}}}')


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"a"', "true"])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    with pytest.raises(SpecError, match=r"config\.json: expected an object with the keys of a config, found "):
        read_text(tmp_path, text)


def test_text_that_is_not_yaml_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"(?s)config\.yaml: this is not YAML: .*line 1"):
        read_text(tmp_path, "a: [1\n", "config.yaml")


def test_yaml_cannot_make_python_objects(tmp_path):
    with pytest.raises(SpecError, match=r"config\.yaml: this is not YAML: could not determine a constructor"):
        read_text(tmp_path, "a: !!python/name:os.system\n", "config.yaml")


@pytest.mark.parametrize(
    ("text", "number"), [("2e-3", 0.002), ("1E5", 1e5), ("2.e3", 2000.0), ("-1e+3", -1000.0), ("2.5e-1", 0.25), ("7", 7)]
)
def test_yaml_numbers_with_an_exponent_are_numbers(tmp_path, text, number):
    assert read_text(tmp_path, f"a: {text}\n", "config.yaml") == {"a": number}


@pytest.mark.parametrize("text", ["2e", "e3", "D16", "1e2x", "'2e-3'"])
def test_yaml_words_that_only_look_like_numbers_stay_words(tmp_path, text):
    assert read_text(tmp_path, f"a: {text}\n", "config.yaml") == {"a": text.strip("'")}


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"nope\.json: cannot be read: No such file"):
        read_document(tmp_path / "nope.json")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_document(tmp_path)
    with pytest.raises(SpecError, match=r"config\.json: cannot be read: it is not UTF-8 text"):
        read_text(tmp_path, b"\xff\xfe{}")
