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
    said = mimic.done("tables", "check", NAME, "--features", "age").stdout
    assert said == f"{NAME} keeps the decision-table contract: 42 rows, 18 decisions, at most 3 choices each\n"
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
    ]
    assert lines[3].endswith(": 6 (individual 1, individual 2, individual 3, individual 4, individual 5, ...)")
    found = json.loads(mimic("tables", "check", NAME, "--json").stdout)
    assert [violation["count"] for violation in found["violations"]] == [1, 6]


def test_only_the_rows_that_are_asked_for_are_checked(mimic, imported, decision_table):
    imported(decision_table())
    said = mimic.done("tables", "check", NAME, "--where", "_individual > 1").stdout
    assert said.endswith("35 rows, 15 decisions, at most 3 choices each; --where leaves out 7 rows\n")
    assert "`where` keeps only some rows: 18 (" in mimic("tables", "check", NAME, "--where", "_choice = 0").stdout


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
        (["--features", ""], "--features: expected columns, such as size,age"),
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
