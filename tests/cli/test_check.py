"""`mimic tables check`: what it says of tables that keep the contract, that break it, and that are no decision tables."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core import contract

NAME = "haven.features"


@pytest.fixture
def imported(mimic):
    def write(table, name=NAME):
        pq.write_table(table, mimic.home / "table.parquet")
        mimic.done("tables", "import", name, mimic.home / "table.parquet")

    return write


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def test_a_table_that_keeps_the_contract_is_counted(mimic, imported, decision_table):
    imported(decision_table())
    said = mimic.done("tables", "check", NAME, "--features", "age").stdout.splitlines()
    assert said[0] == f"{NAME} keeps the decision-table contract: 42 rows, 18 decisions, at most 3 choices each"
    assert said[1:] == ["  features checked: age", "  columns not checked: size"]
    found = json.loads(mimic.done("tables", "check", NAME, "--features", "age", "--json").stdout)
    assert (found["table"], found["rows"], found["decisions"], found["violations"]) == (NAME, 42, 18, [])


def test_every_broken_rule_is_printed_and_the_exit_code_is_1(mimic, imported, decision_table):
    table = decision_table()
    imported(with_column(table, "_train", [i % 2 == 0 for i in range(len(table))]))
    result = mimic("tables", "check", NAME, "--max-choices", 2)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"{NAME} breaks the decision-table contract: 42 rows, 18 decisions, at most 3 choices each"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        "rows whose feature 'size' is null or NaN without an entry in missing_values_map",
        "decisions with more than max_choices = 2 rows",
        "individuals in both train and test",
        '"invalid_decisions"',
        "features checked",
    ]
    assert lines[4].endswith('"drop" in a config would leave out 18 decisions')
    assert lines[3].endswith(": 6 (individual 1, individual 2, individual 3, individual 4, individual 5, ...)")
    found = json.loads(mimic("tables", "check", NAME, "--json").stdout)
    assert [violation["count"] for violation in found["violations"]] == [1, 6]


def test_only_the_rows_that_are_asked_for_are_checked(mimic, imported, decision_table):
    imported(decision_table())
    said = mimic.done("tables", "check", NAME, "--where", "_individual > 1").stdout
    assert "35 rows, 15 decisions, at most 3 choices each; --where leaves out 7 rows\n" in said
    assert "`where` keeps only some rows: 18 (" in mimic("tables", "check", NAME, "--where", "_choice = 0").stdout


def test_missing_values_that_a_config_fills_in_break_no_rule(mimic, imported, decision_table):
    imported(decision_table())
    assert mimic("tables", "check", NAME).exit_code == 1
    assert "features checked: size, age" in mimic.done("tables", "check", NAME, "--missing", "size").stdout


def test_a_table_to_be_scored_needs_no_flags(mimic, imported, decision_table):
    imported(decision_table().drop_columns(["_selected", "_train"]))
    assert "keeps" in mimic.done("tables", "check", NAME, "--unlabelled", "--features", "age").stdout


def test_a_build_names_what_the_check_names(mimic, imported, decision_table):
    table = decision_table()
    train = [None if i in (3, 20) else i != 30 and flag for i, flag in enumerate(table["_train"].to_pylist())]
    imported(with_column(table, "_train", train))
    checked = mimic("tables", "check", NAME, "--missing", "size", "--max-choices", 3).stdout.splitlines()
    built = mimic.refused("log-odds", "build-dataset", mimic.dataset(), exit_code=1).splitlines()
    rules = [line for line in checked if line.startswith("  ") and "(individual" in line]
    assert len(rules) == 2
    assert [line for line in built if "(individual" in line] == rules


def test_a_registered_table_is_checked_where_it_lies(mimic, decision_table):
    folder = mimic.home / "files/_train=true"
    folder.mkdir(parents=True)
    table = decision_table(test=()).drop_columns("_train")
    pq.write_table(table, folder / "a.parquet")
    mimic.done("tables", "register", NAME, mimic.home / "files")
    assert "42 rows, 18 decisions" in mimic.done("tables", "check", NAME, "--features", "age").stdout


def test_a_table_in_several_passes_is_the_same_table(mimic, imported, decision_table, monkeypatch):
    imported(decision_table())
    once = mimic("tables", "check", NAME, "--max-choices", 2).stdout
    monkeypatch.setattr(contract, "ROWS_AT_ONCE", 10)
    assert [line.split("(")[0] for line in mimic("tables", "check", NAME, "--max-choices", 2).stdout.splitlines()] == [
        line.split("(")[0] for line in once.splitlines()
    ]


def test_a_table_that_is_no_decision_table_breaks_the_contract(mimic, imported, decision_table):
    imported(decision_table().drop_columns(["_selected"]))
    result = mimic("tables", "check", NAME)
    assert result.exit_code == 1
    assert "column '_selected' is missing" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "age > 5"], "--where: holds for none of the 42 rows of table haven.features"),
        (["--features", "sizes"], "column 'sizes' is missing (did you mean 'size'?)"),
        (["--features", ""], "--features: expected feature columns, each once, such as size,age; found ''"),
        (["--features", "age,_train"], "expected feature columns, each once, such as size,age; found 'age,_train'"),
        (["--features", "age, age"], "expected feature columns, each once"),
        (["--missing", "sizes"], "column 'sizes' is missing (did you mean 'size'?)"),
        (["--where", "age"], "--where: cannot be understood from 'age' on: expected COLUMN = VALUE"),
        (["--where", "ages = 1"], "there is no column 'ages' (did you mean 'age'?)"),
        (["--max-choices", "0"], "0 is not in the range x>=1"),
    ],
)
def test_what_is_asked_wrongly_is_named(mimic, imported, decision_table, options, message):
    imported(decision_table())
    assert message in mimic.refused("tables", "check", NAME, *options)


def test_a_table_that_is_not_there_is_named(mimic, imported, decision_table):
    imported(decision_table())
    assert "did you mean 'haven.features'?" in mimic.refused("tables", "check", "haven.feature")


def test_an_import_says_which_columns_cannot_be_features(mimic):
    (mimic.home / "a.csv").write_text("_individual,_decision,_choice,_selected,_train,size,age\n1,1,1,1,1,?,2\n")
    said = mimic.done("tables", "import", NAME, mimic.home / "a.csv").stdout
    assert said.splitlines()[1] == "  not numbers, so no features: size"


@pytest.mark.parametrize(
    ("dropped", "warned"),
    [
        ([], ""),
        (
            ["_selected", "_train"],
            f"warning: {NAME} has no _selected and no _train: it can be scored, and nothing can be trained on it; "
            f"see `mimic tables check {NAME} --unlabelled` and docs/tables.md\n",
        ),
        (
            ["_individual", "_choice", "_train"],
            f"warning: {NAME} is no decision table: column '_individual' is missing; column '_choice' is missing; "
            "column '_train' is missing; its columns are _decision, _selected, size, age; "
            f"see `mimic tables check {NAME}` and docs/tables.md\n",
        ),
    ],
)
def test_an_import_warns_of_what_a_decision_table_has_and_this_one_has_not(mimic, decision_table, dropped, warned):
    pq.write_table(decision_table().drop_columns(dropped), mimic.home / "a.parquet")
    assert mimic.done("tables", "import", NAME, mimic.home / "a.parquet").stderr == warned


def test_a_registration_warns_of_a_reserved_column_that_is_no_number(mimic, decision_table):
    table = decision_table()
    pq.write_table(table.append_column("_weight", pa.array(["a"] * len(table))), mimic.home / "a.parquet")
    said = mimic.done("tables", "register", NAME, mimic.home / "a.parquet").stderr
    assert f"warning: {NAME} is no decision table: column '_weight' is string, expected numbers; its columns are" in said


def test_an_import_over_a_table_says_what_it_replaced_and_which_column_may_be_meant(mimic, decision_table):
    mimic.imported(decision_table())
    renamed = decision_table().rename_columns({"_selected": "selected"})
    pq.write_table(renamed, mimic.home / "table.parquet")
    said = mimic.done("tables", "import", "haven.features", mimic.home / "table.parquet").stderr
    assert "haven.features has no _selected (did you mean 'selected'?): it can be scored" in said
    assert "in place of 42 rows; `mimic plan` says what is out of date by that" in said
