"""Reading: which files a stream opens, how large its batches are, and columns that changed after files were written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import LongType

from mimic_core.errors import StorageError
from resources.environments import local_resources
from resources.reading import ROWS_PER_BATCH
from resources.tables import RESULTS, TableStore

NAME = "haven.results"
SCHEMA = pa.schema([("run_id", pa.string()), ("epoch", pa.int32()), ("loss", pa.float64())])


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path)["tables"]


def results(run_id: str, *losses: float) -> pa.Table:
    columns = {"run_id": [run_id] * len(losses), "epoch": range(1, len(losses) + 1), "loss": losses}
    return pa.table({name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()})


def write(tables: TableStore, run_id: str, *losses: float, partition_by: tuple[str, ...] = ("run_id",)):
    tables.ensure(NAME, SCHEMA, kind=RESULTS, partition_by=partition_by)
    return tables.replace(NAME, [tables.stage(NAME, [results(run_id, *losses)], run_id)], {"run_id": run_id})


def read(tables: TableStore, **options: object) -> pa.Table:
    return pa.Table.from_batches(list(tables.batches(tables.pin(NAME), **options)))


def as_another_engine(tables: TableStore):
    """The table as a writer that knows nothing of mimic loads it."""
    return tables._catalog.load_table(NAME)


def data_files(tables: TableStore) -> list[Path]:
    return sorted(Path(tables.warehouse.removeprefix("file://")).rglob("*.parquet"))


def test_batches_are_bounded_and_come_in_the_order_of_the_files_names(tables):
    write(tables, "b", 1.0)
    write(tables, "a", *range(ROWS_PER_BATCH + 5))
    batches = list(tables.batches(tables.pin(NAME)))
    assert [len(batch) for batch in batches] == [ROWS_PER_BATCH, 5, 1]
    assert [batch["run_id"][0].as_py() for batch in batches] == ["a", "a", "b"]
    assert batches[1]["loss"].to_pylist() == list(range(ROWS_PER_BATCH, ROWS_PER_BATCH + 5))


@pytest.mark.parametrize("partition_by", [("run_id",), ()])
def test_rows_of_a_key_are_read_without_opening_the_files_of_others(tables, partition_by):
    for run_id in "abc":
        write(tables, run_id, 0.5, 0.6, partition_by=partition_by)
    for file in data_files(tables):
        if not file.name.startswith("b-"):
            file.unlink()
    assert read(tables, where={"run_id": "b"}) == results("b", 0.5, 0.6)
    with pytest.raises(StorageError, match=r"table haven\.results: cannot be read: .*No such file"):
        read(tables)


def test_rows_are_selected_by_a_column_that_is_not_returned(tables):
    write(tables, "a", 0.5, 0.6)
    assert read(tables, columns=["loss"], where={"run_id": "a", "epoch": 2}).to_pydict() == {"loss": [0.6]}
    assert list(tables.batches(tables.pin(NAME), where={"epoch": 3})) == []


def test_columns_that_another_engine_added_renamed_widened_or_removed_are_read_by_their_ids(tables):
    before = write(tables, "a", 0.5)
    with as_another_engine(tables).update_schema() as update:
        update.add_column("rank", LongType())
        update.update_column("epoch", LongType())
        update.rename_column("loss", "nll")
    with as_another_engine(tables).update_schema() as update:
        update.delete_column("epoch")
    with as_another_engine(tables).update_schema() as update:
        update.add_column("epoch", LongType())
    row = {"run_id": "a", "nll": 0.5, "rank": None, "epoch": None}
    assert read(tables).to_pylist() == [row]
    assert read(tables, columns=["rank"]).to_pydict() == {"rank": [None]}
    assert list(tables.batches(tables.pin(NAME), where={"rank": 1})) == []
    old = tables.pin(NAME, before.snapshot)
    assert pa.Table.from_batches(list(tables.batches(old))) == results("a", 0.5)


def test_a_widened_column_has_its_new_type_in_old_rows(tables):
    write(tables, "a", 0.5)
    with as_another_engine(tables).update_schema() as update:
        update.update_column("epoch", LongType())
    assert read(tables).schema.field("epoch").type == pa.int64()
    assert read(tables, where={"epoch": 1})["loss"].to_pylist() == [0.5]


def test_files_that_another_engine_added_without_field_ids_are_read_by_their_columns_names(tables, tmp_path):
    write(tables, "a", 0.5)
    foreign = tmp_path / "z.parquet"
    pq.write_table(results("b", *range(ROWS_PER_BATCH + 5)).select(["loss", "epoch", "run_id"]), foreign)
    as_another_engine(tables).add_files([str(foreign)])
    assert read(tables, where={"run_id": "b", "epoch": 2}).to_pydict() == {"run_id": ["b"], "epoch": [2], "loss": [1.0]}
    assert max(len(batch) for batch in tables.batches(tables.pin(NAME))) == ROWS_PER_BATCH
