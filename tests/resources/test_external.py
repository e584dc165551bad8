"""Registered tables: what can be registered, that nothing is copied or written, and what happens when their files change."""

import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy.exc import OperationalError

from mimic_core.errors import ConflictError, NotFoundError, StorageError, TableError
from mimic_core.shards import plan_parts
from resources import blocks
from resources.environments import local_resources
from resources.tables import RESULTS, SOURCE, Pin, TableStore

NAME = "haven.features"


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def rows(*ids: int) -> pa.Table:
    return pa.table({"_individual": pa.array(ids, pa.int64()), "size": pa.array(ids, pa.float64())})


def parquet(path: Path, table: pa.Table, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def damage(path: Path, start: int, end: int) -> None:
    """Overwrite bytes of a file as a listing cannot see: size and time stay."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (end - start))
    os.utime(path, ns=times)


def ids(tables: TableStore, pin: Pin, **options: object) -> list[int]:
    return [number for batch in tables.batches(pin, **options) for number in batch["_individual"].to_pylist()]


# ---- registering


def test_registering_copies_nothing_and_leaves_the_files_alone(tables, tmp_path):
    path = parquet(tmp_path / "files/a.parquet", rows(1, 2))
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    pin = tables.register(NAME, tmp_path / "files")
    assert (ids(tables, pin), pin.location) == ([1, 2], str(tmp_path / "files"))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not list((tmp_path / "mimic").rglob("*.parquet"))


def commits(tables: TableStore) -> int:
    return len(list(Path(tables.warehouse.removeprefix("file://")).rglob("*.metadata.json")))


def test_registering_is_one_commit_so_a_kill_leaves_a_registered_table_or_none(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(1))
    tables.register(NAME, path)
    assert commits(tables) == 1
    tables.register(NAME, path)
    assert commits(tables) == 1


def test_a_registration_that_another_commit_overtakes_is_tried_again(tables, tmp_path, monkeypatch):
    old, new = (parquet(tmp_path / name, rows(1)) for name in ("a.parquet", "b.parquet"))
    tables.register(NAME, old)
    catalog, commit = type(tables._catalog), type(tables._catalog).commit_table

    def overtaken(*_):
        monkeypatch.setattr(catalog, "commit_table", commit)
        raise CommitFailedException("another machine was first")

    monkeypatch.setattr(catalog, "commit_table", overtaken)
    assert tables.register(NAME, new).location == str(new)


def test_a_registration_that_the_database_refuses_is_said_so(tables, tmp_path, monkeypatch):
    def locked(*_):
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    tables.register(NAME, parquet(tmp_path / "a.parquet", rows(1)))
    monkeypatch.setattr(type(tables._catalog), "commit_table", locked)
    with pytest.raises(StorageError, match=r"table haven\.features: could not be written: database is locked; "):
        tables.register(NAME, parquet(tmp_path / "b.parquet", rows(1)))


def test_a_relative_location_is_kept_as_an_absolute_one(tables, tmp_path, monkeypatch):
    parquet(tmp_path / "files/a.parquet", rows(1))
    monkeypatch.chdir(tmp_path)
    tables.register(NAME, Path("files"))
    monkeypatch.chdir("/")
    assert ids(tables, tables.pin(NAME)) == [1]


def test_a_table_is_registered_again_where_its_files_were_moved(tables, tmp_path):
    parquet(tmp_path / "old/a.parquet", rows(1))
    before = tables.register(NAME, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    after = tables.register(NAME, tmp_path / "new")
    assert (after.token, after.location) == (before.token, str(tmp_path / "new"))
    assert (tables.names(SOURCE), ids(tables, tables.pin(NAME))) == ([NAME], [1])


def test_what_is_no_parquet_cannot_be_registered_and_takes_no_name(tables, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("_individual\n1\n")
    (tmp_path / "broken.parquet").write_bytes(b"not a parquet file")
    parquet(tmp_path / "none.parquet", rows())
    for name, message in (
        ("nothing", r"nothing: there is no such file or folder"),
        ("empty", r"empty: no \.parquet or \.csv file in this folder"),
        ("a.csv", r"a\.csv: only Parquet files can be .* `mimic tables import haven\.features /.*/a\.csv`"),
        ("broken.parquet", r"broken\.parquet: cannot be read as one table"),
        ("none.parquet", r"none\.parquet: there are no rows"),
    ):
        with pytest.raises(TableError, match=message):
            tables.register(NAME, tmp_path / name)
    assert not tables.exists(NAME)


def test_a_table_that_holds_rows_is_not_registered_over(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(1))
    before = tables.import_files(NAME, [path])
    with pytest.raises(TableError, match=r"haven\.features holds imported rows; register the files under another name"):
        tables.register(NAME, path)
    assert tables.pin(NAME) == before
    tables.ensure("haven.results", rows().schema, kind=RESULTS)
    with pytest.raises(TableError, match="holds results rows, expected source rows"):
        tables.register("haven.results", path)


def test_a_registered_table_is_never_written(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(1))
    before = tables.register(NAME, path)
    for write in (
        lambda: tables.import_files(NAME, [path]),
        lambda: tables.import_files(NAME, [path], append=True),
        lambda: tables.stage(NAME, [rows(2)]),
        lambda: tables.replace(NAME, [], None),
        lambda: tables.append(NAME, []),
    ):
        with pytest.raises(TableError, match=r"is registered where its files lie, /.*/a\.parquet, and is never written"):
            write()
    assert tables.pin(NAME) == before


# ---- reading


def test_columns_have_the_types_that_an_import_gives_them(tables, tmp_path):
    table = pa.table(
        {
            "_individual": pa.array([1.0, 2.0], pa.float64()),
            "_decision": pa.array(["a", "b"], pa.large_string()),
            "_choice": pa.array([Decimal(1), Decimal(2)], pa.decimal128(18, 0)),
            "_selected": pa.array([1, 0], pa.int8()),
            "_train": ["True", "f"],
            "mode": pa.array(["bus", "car"]).dictionary_encode(),
            "level": pa.array([3, 4]).dictionary_encode(),
            "name": pa.array(["x", "y"], pa.string_view()),
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "wide": pa.array([Decimal("1.5"), None], pa.decimal256(50, 2)),
            "small": pa.array([1, None], pa.uint16()),
        }
    )
    path = parquet(tmp_path / "a.parquet", table)
    pins = [tables.import_files("haven.imported", [path]), tables.register(NAME, path)]
    assert tables.schema_of(pins[0]) == tables.schema_of(pins[1])
    imported, registered = (pa.Table.from_batches(list(tables.batches(pin))) for pin in pins)
    assert imported == registered
    assert [str(kind) for kind in registered.schema.types] == [
        *("int64", "string", "int64", "bool", "bool", "string", "int64", "string"),
        *("decimal128(9, 2)", "double", "int32"),
    ]
    assert ids(tables, pins[1], where={"_train": True, "_decision": "a", "_selected": True, "level": 3}) == [1]


def test_rows_of_other_folders_are_not_opened(tables, tmp_path):
    for flag, number in (("true", 1), ("false", 2)):
        parquet(tmp_path / f"files/_train={flag}/region=north/a.parquet", rows(number))
    pin = tables.register(NAME, tmp_path / "files")
    other = tmp_path / "files/_train=false/region=north/a.parquet"
    damage(other, 0, other.stat().st_size)
    assert ids(tables, pin, where={"_train": True}) == [1]
    with pytest.raises(TableError, match=r"table haven\.features: .*_train=false.*: cannot be read"):
        ids(tables, pin)


def test_row_groups_and_columns_that_are_not_asked_for_are_not_read(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(*range(10_000)), row_group_size=5_000, compression="none")
    pin = tables.register(NAME, path)
    groups = [pq.ParquetFile(path).metadata.row_group(index) for index in range(2)]
    sizes, last = groups[0].column(1), groups[1].column(0)
    for chunk in (sizes, last):
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        damage(path, start, start + chunk.total_compressed_size)
    assert ids(tables, pin, columns=["_individual"], where={"_individual": 7}) == [7]
    with pytest.raises(TableError, match="cannot be read"):
        ids(tables, pin, columns=["_individual"])


# ---- files that change


@pytest.mark.parametrize("change", ["changed", "added", "removed", "renamed", "touched"])
def test_the_token_follows_the_files(tables, tmp_path, change):
    first, second = (parquet(tmp_path / f"files/{name}.parquet", rows(1)) for name in "ab")
    before = tables.register(NAME, tmp_path / "files")
    if change == "changed":
        parquet(first, rows(2))
    elif change == "added":
        parquet(tmp_path / "files/deeper/c.parquet", rows(1))
    elif change == "removed":
        second.unlink()
    elif change == "renamed":
        second.rename(tmp_path / "files/c.parquet")
    else:
        os.utime(second, ns=(0, 0))
    assert tables.pin(NAME).token != before.token
    with pytest.raises(ConflictError, match="were changed since this build began; start the build again"):
        tables.changed_at(before)


def test_files_that_change_while_they_are_read_end_the_reading_with_an_error(tables, tmp_path):
    for name in "ab":
        parquet(tmp_path / f"files/{name}.parquet", rows(1, 2))
    batches = tables.batches(tables.register(NAME, tmp_path / "files"))
    next(batches)
    parquet(tmp_path / "files/c.parquet", rows(3))
    with pytest.raises(ConflictError, match="were changed since this build began"):
        list(batches)


@pytest.mark.parametrize("change", ["rewritten alike", "rewritten shorter", "rewritten elsewhere", "removed", "added"])
def test_files_that_change_while_blocks_are_read_end_the_reading_with_an_error(tables, tmp_path, monkeypatch, change):
    """Other rows in the same places, or in a file that is not open any more, can be read without an error."""
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 1)
    first, second = (tmp_path / f"files/{name}.parquet" for name in "ab")
    before, after = rows(*range(100, 200)), rows(*range(200, 300))
    for path, table in ((first, rows(*range(100))), (second, before)):
        parquet(path, table, row_group_size=25, use_dictionary=False, compression="none")
    pin = tables.register(NAME, tmp_path / "files")
    (part,) = plan_parts({"train": 1, "test": 1}, tables.row_groups(pin))
    stream = tables.blocks(pin, tables.schema_of(pin), part)
    assert next(stream)["_individual"].to_pylist() == list(range(25))
    if change == "rewritten alike":
        parquet(second, after, row_group_size=25, use_dictionary=False, compression="none")
    elif change == "rewritten shorter":
        parquet(second, after.slice(0, 25))
    elif change == "rewritten elsewhere":
        parquet(tmp_path / "new", after).rename(first)
    elif change == "removed":
        second.unlink()
    else:
        parquet(tmp_path / "files/c.parquet", after)
    with pytest.raises(ConflictError, match="were changed since this build began; start the build again"):
        list(stream)


def test_files_that_are_gone_are_named_with_what_to_do(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(1))
    pin = tables.register(NAME, path)
    path.unlink()
    message = r"table haven\.features: its files at .*/a\.parquet cannot be found: .*register haven\.features LOCATION`"
    for read in (lambda: tables.pin(NAME), lambda: ids(tables, pin)):
        with pytest.raises(NotFoundError, match=message):
            read()
    assert tables.names(SOURCE) == [NAME]


# ---- files that are no table


def test_files_are_pinned_and_read_as_a_table_without_a_catalog(tables, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("_individual,size,_selected,nothing\n007,1.5,,\n8,2,,\n")
    pin = tables.pin_files(path, {"_individual", "_selected", "size"})
    assert (pin.rows, pin.columns.names) == (2, ["_individual", "size", "_selected"])
    (batch,) = tables.batches(pin, ["_individual", "_selected"])
    assert batch.to_pydict() == {"_individual": ["007", "8"], "_selected": [None, None]}
    assert tables.row_groups(pin) is None
    assert not (tmp_path / "mimic").exists()


def test_a_file_that_changes_while_it_is_read_is_refused_by_its_name(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", rows(1, 2))
    pin = tables.pin_files(path, {"_individual"})
    parquet(path, rows(3, 4, 5))
    with pytest.raises(ConflictError, match=r"^\S*a\.parquet: was changed while it was read; run this again$"):
        list(tables.batches(pin))
