"""Bad input: one clear message for each mistake, no traceback, exit code 2 or a failed step, and nothing published."""

import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MODEL = {"layers": ["D4"], "epochs": 1}
NAN_IN_MAP = """{"database": "haven", "table": "features", "max_choices": 3, "features": ["size"],
 "missing_values_map": {"size": NaN}, "space": "s", "dataset": "d"}"""


# ---- configs of datasets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature": ["a"]}, "feature: unknown key (did you mean 'features'?); the keys are database, table,"),
        ({"max_choices": ...}, "max_choices: this key is missing"),
        ({"max_choices": "three"}, 'max_choices: expected an integer, found "three" (string)'),
        ({"max_choices": True}, "max_choices: expected an integer, found true (true or false)"),
        ({"max_choices": 2.5}, "max_choices: expected an integer, found 2.5 (number)"),
        ({"max_choices": 1}, "max_choices: expected a number of at least 2, found 1 (integer)"),
        ({"train_partitions": 0}, "train_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"features": []}, "features: expected at least one entry, found [] (list)"),
        ({"features": "size"}, 'features: expected a list, found "size" (string)'),
        ({"features": ["size", "size"]}, "features: 'size' stands more than once; name each feature once"),
        ({"features": ["_choice"]}, "features[0]: expected a column name that does not begin with '_'"),
        ({"missing_values_map": {"aeg": -1}}, "missing_values_map: 'aeg' is not one of the features (did you mean 'age'?)"),
        ({"missing_values_map": {"age": "low"}}, 'missing_values_map.age: expected a number, found "low" (string)'),
        ({"space": "../up"}, "space: expected a name of letters, digits, '.', '_' and '-'"),
        (
            {"table": "featuers"},
            "there is no table haven.featuers (did you mean 'haven.features'?); the tables are haven.features",
        ),
        ({"features": ["sise"], "missing_values_map": ...}, "column 'sise' is missing (did you mean 'size'?)"),
    ],
)
def test_a_dataset_config_that_cannot_be_used(unchanged, changes, message):
    assert message in unchanged.refused("log-odds", "build-dataset", unchanged.dataset(**changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{oops", "c.json:1:2: this is not JSON: Expecting property name"),
        ("", "this is not JSON: Expecting value (the file is empty)"),
        ("[1, 2]", "c.json: expected an object with the keys of a config, found [1, 2] (list)"),
        ('{"space": "a", "space": "b"}', "the key 'space' stands twice in one object; remove one"),
        (NAN_IN_MAP, "NaN is not a number that JSON knows; give a finite number"),
    ],
)
def test_a_file_that_is_no_config(mimic, text, message):
    assert message in mimic.refused("log-odds", "build-dataset", mimic.write("c.json", text))


def test_a_yaml_file_that_is_no_config(mimic):
    assert "c.yaml: this is not YAML" in mimic.refused("log-odds", "build-dataset", mimic.write("c.yaml", "a: [1"))


@pytest.mark.parametrize("command", ["build-contrast", "build-dataset", "run-experiment", "run-batch-infer"])
def test_a_config_that_is_not_there(mimic, command):
    message = mimic.refused("log-odds", command, "nothing.json")
    assert message == "mimic: nothing.json: cannot be read: No such file or directory\n"


def test_every_problem_of_a_config_is_named_at_once(mimic):
    message = mimic.refused("log-odds", "build-dataset", mimic.dataset(max_choices="x", space=..., extra=1))
    assert "dataset.json: 3 problems\n  " in message
    assert all(part in message for part in ("max_choices: expected", "space: this key is missing", "extra: unknown key"))


def test_a_wrong_command_or_option_ends_with_code_2(mimic):
    assert "No such command 'nope'" in mimic.refused("nope")
    assert "Missing argument 'CONFIG'" in mimic.refused("log-odds", "build-dataset")
    assert "No such option" in mimic.refused("status", "--nope")


# ---- rows of decision tables


def column(table: pa.Table, name: str, first: Any) -> pa.Table:
    """Change the first value of a column."""
    values = [first, *table[name].to_pylist()[1:]]
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def repeated(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def all_of(table: pa.Table, name: str, value: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array([value] * len(table)))


FIRST = "individual 1 decision 0"
BROKEN = {  # what it is called -> the change of the table and of the config, and the rules that are broken
    "of the config": (
        lambda t: t,
        {"max_choices": 2, "missing_values_map": {}},
        [
            "decisions with more than max_choices = 2 rows: 6 (individual ",
            f"'size' is null or NaN without an entry in missing_values_map: 1 ({FIRST})",
        ],
    ),
    "of a row": (
        lambda t: column(column(column(all_of(t, "_selected", False), "_choice", None), "_train", None), "age", 1e300),
        {},
        [
            "decisions with no selected row: 18 (individual ",
            f"rows with a null _choice: 1 ({FIRST})",
            f"rows with a null _train: 1 ({FIRST})",
            f"feature 'age' is infinite (or too large for float32): 1 ({FIRST})",
        ],
    ),
    "of several rows": (
        lambda t: repeated(column(column(all_of(t, "_selected", True), "_train", False), "age", math.nan)),
        {},
        [
            "decisions with two or more selected rows: 18 (individual ",
            "individuals in both train and test: 1 (individual 1)",
            f"decisions that offer a _choice twice: 1 ({FIRST})",
            "'age' is null or NaN without an entry in missing_values_map: 2 (",
        ],
    ),
    "of an individual": (
        lambda t: column(t, "_individual", None),
        {},
        ["rows with a null _individual: 1 (individual None decision 0)"],
    ),
    "of a decision": (
        lambda t: column(t, "_decision", None),
        {},
        ["rows with a null _decision: 1 (individual 1 decision None)"],
    ),
    "of a selection": (
        lambda t: column(column(t, "_selected", None), "age", math.inf),
        {},
        [
            f"rows with a null _selected: 1 ({FIRST})",
            f"feature 'age' is infinite (or too large for float32): 1 ({FIRST})",
        ],
    ),
}


@pytest.mark.parametrize(("change", "config", "messages"), BROKEN.values(), ids=BROKEN)
def test_rows_that_break_the_contract_fail_the_run_with_counts_and_ids(unchanged, decision_table, change, config, messages):
    unchanged.imported(change(decision_table()), "haven.broken")
    config = unchanged.dataset(table="broken", dataset="broken", **config)
    text = unchanged.refused("log-odds", "build-dataset", config, exit_code=1)
    assert (
        "mimic: tfrecord_dataset s/broken: table haven.broken breaks the decision-table contract; nothing was published"
        in text
    )
    assert [message for message in messages if message not in text] == []
    assert "mend these rows in the table, or what the config says of them" in text


def test_at_most_five_examples_are_named(mimic, decision_table):
    mimic.imported(all_of(decision_table(), "_selected", False))
    text = mimic.refused("log-odds", "build-dataset", mimic.dataset(), exit_code=1)
    (line,) = [line for line in text.splitlines() if "no selected row" in line]
    assert line.count("individual ") == 5
    assert line.endswith(", ...)")


def test_a_train_split_without_rows(mimic, decision_table):
    mimic.imported(all_of(decision_table(), "_train", False))
    text = mimic.refused("log-odds", "build-dataset", mimic.dataset(), exit_code=1)
    assert "the training split is empty: none of 42 rows has _train = true" in text
    assert mimic.published() == {}


def test_a_feature_that_is_not_a_number(mimic, decision_table):
    mimic.imported(all_of(decision_table(), "size", "large"))
    text = mimic.refused("log-odds", "build-dataset", mimic.dataset())
    assert "feature 'size' is string, expected numbers" in text


def test_a_table_without_a_reserved_column(mimic, decision_table):
    mimic.imported(decision_table().drop_columns(["_train"]))
    assert "column '_train' is missing" in mimic.refused("log-odds", "build-dataset", mimic.dataset())


# ---- contrast sets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "sed: unknown key (did you mean 'seed'?); the keys are database, source_table, destination_table,"),
        ({"database": ...}, "database: this key is missing"),
        ({"database": 1}, "database: expected a string, found 1 (integer)"),
        ({"database": "../up"}, "database: expected a name of letters, digits and '_' that does not begin with a digit"),
        ({"database": "d" * 129}, "database: String should have at most 128 characters"),
        ({"database": "heaven"}, "there is no table heaven.features (did you mean 'haven.features'?)"),
        ({"source_table": ...}, "source_table: this key is missing"),
        ({"source_table": ["features"]}, 'source_table: expected a string, found ["features"] (list)'),
        (
            {"source_table": "1st"},
            "source_table: expected a name of letters, digits and '_' that does not begin with a digit",
        ),
        ({"source_table": "featuers"}, "there is no table haven.featuers (did you mean 'haven.features'?); the tables are"),
        ({"destination_table": ...}, "destination_table: this key is missing"),
        ({"destination_table": True}, "destination_table: expected a string, found true (true or false)"),
        ({"destination_table": "a.b"}, "destination_table: expected a name of letters, digits and '_' that does not begin"),
        ({"destination_table": "features"}, "destination_table: 'features' is the source table; give the contrast table a"),
        ({"train_partitions": "2"}, 'train_partitions: expected an integer, found "2" (string)'),
        ({"train_partitions": 0}, "train_partitions: expected a number of at least 1, found 0 (integer)"),
        ({"test_partitions": 1.5}, "test_partitions: expected an integer, found 1.5 (number)"),
        ({"test_partitions": -1}, "test_partitions: expected a number of at least 1, found -1 (integer)"),
        ({"decisions_per_individual": ...}, "decisions_per_individual: this key is missing"),
        ({"decisions_per_individual": None}, "decisions_per_individual: this key is missing"),
        ({"decisions_per_individual": True}, "decisions_per_individual: expected an integer, found true (true or false)"),
        ({"decisions_per_individual": 0}, "decisions_per_individual: expected a number of at least 1, found 0"),
        ({"decisions_per_individual": 10**6}, "2,000,000 pairs per individual, expected at most 1,000,000"),
        ({"alternatives_per_decision": ...}, "alternatives_per_decision: this key is missing"),
        ({"alternatives_per_decision": {}}, "alternatives_per_decision: expected an integer, found {} (object)"),
        ({"alternatives_per_decision": 0}, "alternatives_per_decision: expected a number of at least 1, found 0"),
        ({"alternatives_per_decision": 10**6}, "decisions_per_individual: 2 x alternatives_per_decision 1000000 are"),
        ({"alternatives_per_decision": 10**30}, "pairs per individual, expected at most 1,000,000"),
        ({"seed": "x"}, 'seed: expected an integer, found "x" (string)'),
        ({"seed": 0.5}, "seed: expected an integer, found 0.5 (number)"),
        ({"seed": -1}, "seed: expected a number of at least 0, found -1 (integer)"),
        ({"seed": 2**31}, "seed: expected a number less than 2147483648, found 2147483648 (integer)"),
    ],
)
def test_a_contrast_config_that_cannot_be_used(unchanged, changes, message):
    assert message in unchanged.refused("log-odds", "build-contrast", unchanged.contrast(**changes))
    assert "haven.contrasts" not in unchanged.done("tables", "list").stdout


@pytest.mark.parametrize("name", ["_individual", "_decision", "_choice", "_selected", "_train"])
def test_a_table_to_contrast_without_a_reserved_column(unchanged, decision_table, name):
    unchanged.imported(decision_table().drop_columns([name]), "haven.short")
    message = unchanged.refused("log-odds", "build-contrast", unchanged.contrast(source_table="short"))
    assert "table haven.short is not a decision table" in message
    assert f"column {name!r} is missing" in message


def test_a_table_to_contrast_that_was_made_from_contrasts(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast())
    message = mimic.refused("log-odds", "build-contrast", mimic.contrast(source_table="contrasts", destination_table="b"))
    assert "table haven.contrasts holds contrast rows, expected source rows; give another name" in message
    mimic.done("tables", "export", "haven.contrasts", "out.parquet")
    mimic.done("tables", "import", "haven.copy", "out.parquet")
    message = mimic.refused("log-odds", "build-contrast", mimic.contrast(source_table="copy", destination_table="b"))
    assert "table haven.copy has '_old_decision' and '_old_choice', which a contrast set adds" in message


def test_a_contrast_table_that_is_a_source_table_or_the_other_way_round(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.imported(decision_table(), "haven.others")
    message = mimic.refused("log-odds", "build-contrast", mimic.contrast(destination_table="others"))
    assert "table haven.others holds source rows, expected contrast rows; give another name" in message
    mimic.done("log-odds", "build-contrast", mimic.contrast())
    message = mimic.refused("tables", "import", "haven.contrasts", "table.parquet")
    assert "table haven.contrasts holds contrast rows, expected source rows; give another name" in message


def test_rows_to_contrast_that_break_the_contract_fail_the_run_with_counts_and_ids(unchanged, decision_table):
    unchanged.imported(column(repeated(decision_table()), "_decision", None), "haven.broken")
    config = unchanged.contrast(source_table="broken")
    text = unchanged.refused("log-odds", "build-contrast", config, exit_code=1)
    assert "mimic: contrast_set haven.contrasts: table haven.broken breaks the decision-table contract; nothing" in text
    assert "rows with a null _decision: 1 (individual 1 decision None)" in text


def test_a_dataset_over_a_contrast_set_that_is_not_built(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast(), "--register-only")
    message = mimic.refused("log-odds", "build-dataset", mimic.dataset(table="contrasts"))
    assert "there is no table haven.contrasts" in message
    assert "or make a contrast set with `mimic log-odds build-contrast CONFIG`" in message


# ---- experiments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"models": [MODEL | {"layers": ["D4", "X9"]}]},
            "unknown layer 'X9'; without a layers file there are D<units>, D<units>-<acti",
        ),
        (
            {"models": [MODEL | {"optimizer": "Adamm"}]},
            "models[0].optimizer: unknown optimizer 'Adamm' (did you mean 'Adam'?)",
        ),
        ({"models": [MODEL | {"optimizer_kwargs": {"lr": 0.5}}]}, "models[0].optimizer_kwargs: Adam does not take them"),
        ({"models": [MODEL, MODEL]}, "models[1] is identical to models[0], so both would be one run; remove one"),
        ({"models": []}, "models: expected at least one entry"),
        ({"models": [MODEL | {"layer": ["D4"]}]}, "models[0].layer: unknown key (did you mean 'layers'?)"),
        ({"models": [MODEL, MODEL | {"epochs": 0}]}, "models[1].epochs: expected a number of at least 1, found 0"),
        ({"models": [MODEL | {"validation": 1}]}, "models[0].validation: expected a number less than 1"),
        ({"dataset": "other"}, "dataset s/other is not built; run `mimic log-odds build-dataset CONFIG` for it first"),
        (
            {"features": ["size", "aeg"]},
            "features: the dataset has no 'aeg' (did you mean 'age'?); its features are size, age",
        ),
        ({"max_choices": 2}, "max_choices: 2 is less than the 3 choices of the largest decision in dataset s/d"),
        ({"table": "features"}, "table haven.features holds source rows, expected results rows; give another name"),
    ],
)
def test_an_experiment_that_cannot_be_run(unchanged, changes, message):
    assert message in unchanged.refused("log-odds", "run-experiment", unchanged.experiment(**changes))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("LAYERS = {", "layers.py: line 1 cannot be executed: SyntaxError"),
        ("1 / 0", "layers.py: cannot be executed: ZeroDivisionError: division by zero"),
        ("units = 4", "layers.py: expected a dict LAYERS of names and functions that make a layer, found none"),
        ("LAYERS = ['D4']", "expected a dict LAYERS of names and functions that make a layer, found list"),
        ("LAYERS = {'D4': Dense(4)}", "LAYERS['D4']: expected a function that makes a new layer, found Dense"),
        ("LAYERS = {'D8': lambda: Dense(8)}", "models[0].layers[0]: unknown layer 'D4'; the layers file defines D8"),
        ("LAYERS = {'D4': lambda: 4}", "models[0].layers[0]: layer 'D4' cannot be made or applied to"),
    ],
)
def test_a_layers_file_that_cannot_be_used(unchanged, source, message):
    layers = unchanged.write("layers.py", source)
    assert message in unchanged.refused("log-odds", "run-experiment", unchanged.experiment(), layers)


def test_a_layers_file_that_is_not_there(unchanged):
    message = unchanged.refused("log-odds", "run-experiment", unchanged.experiment(), "nothing.py")
    assert message == "mimic: nothing.py: cannot be read: No such file or directory\n"


# ---- inferences


def test_an_inference_that_cannot_be_run(with_run):
    mimic, run_id = with_run
    mistakes = {
        "run_id: expected a run id (64 hexadecimal digits": {"run_id": "abc"},
        f"run s/e/{'0' * 12} is not trained; run `mimic log-odds run-experiment CONFIG`": {"run_id": "0" * 64},
        f"run s/other/{run_id[:12]} is not trained": {"experiment_name": "other"},
        "was trained on size, age; age missing; give exactly these": {"features": ["size"]},
        "shoe_size not used by it; give exactly these": {"features": ["size", "age", "shoe_size"]},
        "explain: 'ages' is not one of the features (did you mean 'age'?); list it there": {"explain": ["ages"]},
        "there is no table haven.others": {"table": "others"},
        "upload_table: 'features' is the source table": {"upload_table": "features"},
        "table haven.results holds results rows, expected inference rows": {"upload_table": "results"},
    }
    for message, changes in mistakes.items():
        assert message in mimic.refused("log-odds", "run-batch-infer", mimic.inference(run_id, **changes))
    assert "haven.scored" not in mimic.done("tables", "list").stdout


def test_a_table_that_lacks_a_feature_of_the_run(with_run, decision_table):
    mimic, run_id = with_run
    mimic.imported(decision_table().drop_columns(["age"]), "haven.short")
    message = mimic.refused("log-odds", "run-batch-infer", mimic.inference(run_id, table="short"))
    assert "table haven.short is not a decision table with these features:\n  column 'age' is missing" in message


def test_rows_that_cannot_be_scored_leave_the_inference_table_as_it_was(with_run, decision_table):
    mimic, run_id = with_run
    mimic.done("log-odds", "run-batch-infer", mimic.inference(run_id))
    mimic.imported(column(decision_table(), "_choice", None))
    message = mimic.refused("log-odds", "run-batch-infer", mimic.inference(run_id), exit_code=1)
    assert "rows with a null _choice: 1" in message
    mimic.done("tables", "export", "haven.scored", "out.parquet")
    assert len(pq.read_table("out.parquet")) == 42


def test_another_source_table_for_the_same_inference(with_run, decision_table):
    mimic, run_id = with_run
    mimic.done("log-odds", "run-batch-infer", mimic.inference(run_id))
    mimic.imported(decision_table(), "haven.others")
    message = mimic.refused("log-odds", "run-batch-infer", mimic.inference(run_id, table="others"))
    assert "haven.scored already holds inferences of run" in message
    assert "give another upload_table" in message


# ---- tables and files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "haven.t", "nothing.parquet"), "nothing.parquet: there is no such file or folder"),
        (("import", "t", "table.parquet"), "expected a table as DATABASE.TABLE"),
        (("import", "haven.t"), "Missing argument 'PATH...'"),
        (("show", "haven.feature"), "there is no table haven.feature (did you mean 'haven.features'?)"),
        (("export", "haven.feature", "x.parquet"), "there is no table haven.feature (did you mean 'haven.features'?)"),
        (
            ("export", "haven.features", "x.parquet", "--where", "_train"),
            "--where: cannot be understood from '_train' on: expected COLUMN = VALUE",
        ),
    ],
)
def test_a_table_command_that_cannot_be_run(unchanged, arguments, message):
    assert message in unchanged.refused("tables", *arguments)


def test_rows_that_do_not_fit_are_not_appended(mimic, decision_table):
    mimic.imported(decision_table())
    pq.write_table(pa.table({"size": ["large"]}), "b.parquet")
    message = mimic.refused("tables", "import", "haven.features", "b.parquet", "--append")
    assert "do not fit table haven.features:\n  column 'size' is string, the table has double" in message


def test_a_damaged_dataset_is_refused_with_the_name_of_the_file(with_dataset):
    (path,) = with_dataset.home.glob("mimic/objects/s-tfrecords/d/*/train/00000-of-00002.tfrecord")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    message = with_dataset.refused("log-odds", "run-experiment", with_dataset.experiment(), exit_code=1)
    assert f"{path}: damaged: expected " in message
    assert "build it again" in message
