"""Columns: a table that runs share gets those that it lacks while builds share it; what other tables have stays."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import ConflictError, TableError
from resources.environments import local_resources
from resources.maintenance import Terms
from resources.tables import INFERENCE, RESULTS, TableStore
from resources.usage import InUse

NAME = "haven.scored"
SCHEMA = pa.schema([("run_id", pa.string()), ("probability", pa.float64())])


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def rows(run_id: str, **more: object) -> pa.Table:
    return pa.table({"run_id": [run_id], "probability": [0.5], **{name: [value] for name, value in more.items()}})


def ensure(tables: TableStore, *more: str, of: pa.DataType | None = None) -> None:
    schema = pa.schema([*SCHEMA, *(pa.field(name, of or pa.float64()) for name in more)])
    tables.ensure(NAME, schema, kind=INFERENCE, partition_by=["run_id"])


def publish(tables: TableStore, table: pa.Table) -> None:
    tables.replace(NAME, [tables.stage(NAME, [table])], {"run_id": table["run_id"][0].as_py()})


def stored(tables: TableStore) -> list[dict[str, object]]:
    return pa.Table.from_batches(list(tables.batches(tables.pin(NAME)))).sort_by("run_id").to_pylist()


def test_columns_that_an_inference_table_lacks_are_added_and_null_in_the_rows_of_other_runs(tables):
    ensure(tables)
    publish(tables, rows("a"))
    before = tables.pin(NAME)
    ensure(tables, "d_probability_d_tt")
    publish(tables, rows("b", d_probability_d_tt=-0.25))
    publish(tables, rows("c"))
    assert stored(tables) == [
        {"run_id": "a", "probability": 0.5, "d_probability_d_tt": None},
        {"run_id": "b", "probability": 0.5, "d_probability_d_tt": -0.25},
        {"run_id": "c", "probability": 0.5, "d_probability_d_tt": None},
    ]
    assert tables.schema_of(before) == SCHEMA
    assert pa.Table.from_batches(list(tables.batches(before))) == rows("a")


def test_a_table_that_has_all_columns_is_not_changed(tables):
    ensure(tables, "d_probability_d_tt")
    version = tables.metadata_file(NAME)
    ensure(tables)
    ensure(tables, "d_probability_d_tt")
    assert tables.metadata_file(NAME) == version


@pytest.mark.parametrize("column", ["d_probability_d_travel time", "d_probability_d_cost.CHF", "d_probability_d_Größe"])
def test_a_column_may_have_any_name_that_a_feature_has(tables, tmp_path, column):
    ensure(tables)
    publish(tables, rows("a"))
    ensure(tables, column)
    publish(tables, rows("b", **{column: 1.5}))
    assert [row[column] for row in stored(tables)] == [None, 1.5]
    assert tables.export(tables.pin(NAME), tmp_path / "rows.parquet") == 2
    assert sorted(pq.read_table(tmp_path / "rows.parquet")[column].to_pylist(), key=str) == [1.5, None]


def test_a_column_of_another_type_is_refused_and_nothing_is_added(tables):
    ensure(tables, "_alternative", of=pa.string())
    version = tables.metadata_file(NAME)
    with pytest.raises(TableError, match=r"cannot hold inference rows:\n  column '_alternative' is string, expected int64$"):
        ensure(tables, "_alternative", "_new", of=pa.int64())
    assert tables.metadata_file(NAME) == version


def test_a_results_table_of_an_earlier_version_gets_the_columns_that_it_lacks(tables):
    name, grown = "haven.results", pa.schema([*SCHEMA, ("finished", pa.bool_())])
    tables.ensure(name, SCHEMA, kind=RESULTS, partition_by=["run_id"])
    tables.replace(name, [tables.stage(name, [rows("a")])], {"run_id": "a"})
    tables.ensure(name, grown, kind=RESULTS, partition_by=["run_id"])
    tables.replace(name, [tables.stage(name, [rows("b", finished=True)])], {"run_id": "b"})
    found = pa.Table.from_batches(list(tables.batches(tables.pin(name)))).sort_by("run_id")
    assert found["finished"].to_pylist() == [None, True]


def test_rows_that_were_staged_before_another_build_added_a_column_are_published(tables):
    ensure(tables)
    staged = [tables.stage(NAME, [rows("a")])]
    ensure(tables, "d_probability_d_tt")
    staged += [tables.stage(NAME, [rows("a", d_probability_d_tt=2.0)], "later")]
    tables.replace(NAME, staged, {"run_id": "a"})
    assert sorted((row["d_probability_d_tt"] for row in stored(tables)), key=str) == [2.0, None]


def test_small_files_from_before_and_after_a_column_was_added_are_compacted_together(tables):
    ensure(tables)
    staged = [tables.stage(NAME, [rows("a")], f"part_{number}") for number in range(2)]
    ensure(tables, "d_probability_d_tt")
    staged += [tables.stage(NAME, [rows("a", d_probability_d_tt=2.0)], f"part_{number}") for number in range(2, 5)]
    tables.replace(NAME, staged, {"run_id": "a"})
    before = stored(tables)
    tables.maintain(NAME, Terms(in_use=InUse()))
    assert len(list(tables._load(NAME).scan().plan_files())) == 1
    assert [row["d_probability_d_tt"] for row in stored(tables)] == [None, None, 2.0, 2.0, 2.0]
    assert stored(tables) == before


def test_rows_that_were_staged_for_a_column_that_is_gone_are_refused(tables):
    ensure(tables, "d_probability_d_tt")
    staged = [tables.stage(NAME, [rows("a", d_probability_d_tt=2.0)])]
    with tables._load(NAME).update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("d_probability_d_tt")
    with pytest.raises(ConflictError, match=r"table haven\.scored: its columns were changed meanwhile"):
        tables.replace(NAME, staged, {"run_id": "a"})
