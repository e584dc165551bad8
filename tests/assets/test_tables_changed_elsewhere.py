"""Columns that another engine changes in a source table: what a build records of its input, and what it refuses."""

from typing import Any

import pytest
from pyiceberg.types import DoubleType, LongType, StringType

from mimic_assets.builds import table_input
from mimic_assets.datasets import pin_source
from mimic_core.configs import parse_spec
from mimic_core.errors import TableError
from mimic_core.sources import columns_to_read
from mimic_core.specs import DatasetSpec

SPEC = parse_spec(
    DatasetSpec,
    {
        "database": "haven",
        "table": "features",
        "train_partitions": 1,
        "test_partitions": 1,
        "max_choices": 3,
        "features": ["size", "age"],
        "space": "s",
        "dataset": "d",
    },
)


def columns_of(platform):
    """The update of the table's columns that another engine, here pyiceberg by itself, commits."""
    return platform.tables._catalog.load_table(SPEC.source).update_schema(allow_incompatible_changes=True)


def recorded(platform) -> dict[str, Any]:
    """What a dataset build records as its input."""
    pin = pin_source(SPEC, platform.tables, platform.artefacts)
    return table_input(pin, columns_to_read(platform.tables.schema_of(pin), SPEC.features), platform.tables)


def test_a_column_that_is_added_and_not_used_changes_neither_the_token_nor_the_recorded_input(platform, decision_table):
    token, before = platform.imported(decision_table()).token, recorded(platform)
    with columns_of(platform) as update:
        update.add_column("income", DoubleType())
    pin = platform.tables.pin(SPEC.source)
    assert "income" in platform.tables.schema_of(pin).names
    assert (pin.token, recorded(platform)) == (token, before)


def test_a_column_that_is_removed_is_named_to_who_uses_it_and_to_nobody_else(platform, decision_table):
    platform.imported(decision_table())
    with columns_of(platform) as update:
        update.add_column("income", LongType())
    with columns_of(platform) as update:
        update.delete_column("income")
    recorded(platform)
    with columns_of(platform) as update:
        update.delete_column("size")
    with pytest.raises(TableError, match=r"table haven\.features is not.*\n  column 'size' is missing\n  its columns are"):
        recorded(platform)


def test_a_column_that_is_retyped_is_named_with_both_types(platform, decision_table):
    platform.imported(decision_table())
    for column, kind in (("size", StringType()), ("_selected", LongType())):
        with columns_of(platform) as update:
            update.delete_column(column)
        with columns_of(platform) as update:
            update.add_column(column, kind)
    with pytest.raises(
        TableError, match="column '_selected' is int64, expected bool\n  feature 'size' is string, expected numbers"
    ):
        recorded(platform)


def test_a_column_that_is_dropped_and_added_again_is_another_input(platform, decision_table):
    token, before = platform.imported(decision_table()).token, recorded(platform)
    with columns_of(platform) as update:
        update.delete_column("size")
    with columns_of(platform) as update:
        update.add_column("size", DoubleType())
    after = recorded(platform)
    assert after["token"] == token
    assert {name for name in after["columns"] if after["columns"][name] != before["columns"][name]} == {"size"}
