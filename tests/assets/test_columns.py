"""Columns as Dagster shows them: what they hold, what is never null, and where they come from."""

import dagster as dg

from mimic_assets.columns import MOST_DRAWN, columns_shown, table_schema, usual_columns


def run(*features: str) -> dict:
    """What is shown of the columns of a run on some features."""
    return columns_shown(
        {"asset": "model_run", "features": list(features), "inputs": {}},
        {"epoch": "int32", "loss": "double", "experiment_name": "string", "run_id": "string"},
    )


def test_columns_have_meanings_origins_and_constraints():
    shown = run("size", "age")
    epoch, loss, *_ = shown["dagster/column_schema"].columns
    assert (epoch.name, epoch.type, epoch.constraints.nullable) == ("epoch", "int32", False)
    assert epoch.description == "from 1; for a linear model an iteration of the solver"
    assert loss.description.endswith("in nats; from size, age of tfrecord_dataset")
    assert shown["dagster/column_schema"].constraints.other == ["unique: experiment_name, run_id, epoch"]
    assert [dep.column_name for dep in shown["dagster/column_lineage"].deps_by_column["loss"]] == ["age", "size"]


def test_lineage_of_very_many_columns_is_said_and_not_drawn():
    shown = run(*map(str, range(MOST_DRAWN + 1)))
    assert shown["dagster/column_schema"].columns[1].description.endswith("from 13 columns of tfrecord_dataset")
    assert shown["dagster/column_lineage"].deps_by_column == {}


def test_what_is_no_table_has_no_columns():
    assert usual_columns("experiment_report") == {}
    assert columns_shown({"asset": "experiment_report"}, {}) == {}


def test_columns_that_a_table_may_lack_are_marked():
    columns = {column.name: column for column in usual_columns("source_table")["dagster/column_schema"].columns}
    assert "optional" in columns["_weight"].tags
    assert "optional" not in columns["_decision"].tags


def test_features_are_columns_of_their_owner_that_may_be_null():
    (size,) = table_schema("source_table", {"size": "double"}).columns
    assert size == dg.TableColumn("size", "double", description="a feature, or another column of its owner")


def test_only_columns_that_a_table_has_are_said_to_be_unique_in_it():
    types = {"_individual": "int64", "_decision": "int64", "_choice": "string"}
    assert table_schema("source_table", types).constraints.other == ["unique: _individual, _decision, _choice"]
    assert table_schema("source_table", {"_individual": "int64", "size": "double"}).constraints.other == []
