"""Maintenance of tables: what goes, what must stay, and that neither rows nor content tokens change."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import snapshot as producers
from sqlalchemy.exc import OperationalError

from mimic_core.errors import ConflictError, MimicError, NotFoundError, SpecError, StorageError, TableError
from resources import compaction, snapshots, staging
from resources.catalogs import open_catalog
from resources.environments import local_resources
from resources.maintenance import UNKNOWN, Maintained, Terms
from resources.tables import CONTRAST, RESULTS, Pin, TableStore
from resources.upkeep import maintain_all
from resources.usage import InUse

NAME, PAIRS, SCORES = "haven.features", "haven.pairs", "haven.scores"
DAY = 24 * 3600.0
IDS = pa.schema([("_individual", pa.int64())])


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def later(days: float = 30, **options: object) -> Terms:
    """The terms of maintenance that is done some days from now."""
    facts = {name: options.pop(name) for name in ("since", "pins", "runs") if name in options}
    return Terms(in_use=InUse(asked=time.time() + days * DAY, **facts), **options)


def rows(*ids: int) -> pa.Table:
    return pa.table({"_individual": pa.array(ids, pa.int64())})


def imported(tables: TableStore, folder: Path, table: pa.Table, name: str = NAME, *, append: bool = False) -> Pin:
    pq.write_table(table, folder / "import.parquet")
    return tables.import_files(name, [folder / "import.parquet"], append=append)


def appended(tables: TableStore, folder: Path, count: int = 4) -> Pin:
    """A table of several small files, one row each: 0, 1, ..."""
    for number in range(count):
        pin = imported(tables, folder, rows(number), append=number > 0)
    return pin


def paired(tables: TableStore, *ids: int) -> Pin:
    tables.ensure(PAIRS, IDS, kind=CONTRAST)
    return tables.replace(PAIRS, [tables.stage(PAIRS, [rows(number)]) for number in ids], None)


def ids(tables: TableStore, pin: Pin) -> list[int]:
    return [number for batch in tables.batches(pin) for number in batch["_individual"].to_pylist()]


def data_files(tables: TableStore, name: str = NAME) -> set[str]:
    folder = Path(tables.warehouse.removeprefix("file://"), *name.split("."), "data")
    return {file.name for file in folder.rglob("*.parquet")}


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def versions(tables: TableStore, name: str = NAME) -> set[int]:
    return {snapshot.snapshot_id for snapshot in tables._load(name).snapshots()}


# ---- versions


def test_versions_expire_when_they_were_superseded_long_ago_however_old_they_are(tables, tmp_path):
    first, second = (imported(tables, tmp_path, rows(number)) for number in (1, 2))
    assert tables.maintain(NAME, later(6.9)).expired == 0
    result = tables.maintain(NAME, later(7.1))
    assert (result.expired, result.files, result.compacted) == (
        2,
        5,
        0,
    )  # its rows and their deletion: a data file, two manifests and their lists
    assert versions(tables) == {second.snapshot}
    assert data_files(tables) == {Path(file).name for file in snapshots.named_files(tables._load(NAME)) if "/data/" in file}
    assert (ids(tables, second), tables.pin(NAME)) == ([2], second)
    with pytest.raises(NotFoundError, match=f"version {first.snapshot} is gone; start the build again"):
        tables.pin(NAME, first.snapshot)
    assert tables.maintain(NAME, later(30)) == Maintained(table=NAME)


def test_a_pinned_version_survives_with_its_rows_until_nobody_holds_it(tables, tmp_path):
    first = imported(tables, tmp_path, rows(1, 2))
    for number in range(3, 6):
        imported(tables, tmp_path, rows(number))
    tables.maintain(NAME, later(pins={NAME: frozenset({first.snapshot})}))
    assert ids(tables, first) == [1, 2]
    assert len(versions(tables)) == 2
    tables.maintain(NAME, later(), pinned=[first.snapshot])
    assert ids(tables, first) == [1, 2]
    tables.maintain(NAME, later())
    assert versions(tables) == {tables.pin(NAME).snapshot}


def test_nothing_that_went_out_of_use_since_the_oldest_unfinished_run_began_goes(tables, tmp_path):
    first = imported(tables, tmp_path, rows(1))
    began = time.time()
    staged = tables.stage(NAME, [rows(7)])
    imported(tables, tmp_path, rows(2))
    assert tables.maintain(NAME, later(since=began)) == Maintained(table=NAME)
    assert ids(tables, first) == [1]
    assert ids(tables, tables.replace(NAME, [staged], None)) == [7]


def test_a_commit_that_an_unfinished_run_repeats_after_maintenance_still_lands_once(tables, tmp_path):
    paired(tables, 1)
    began = time.time()
    staged = [tables.stage(PAIRS, [rows(2)])]
    committed = tables.replace(PAIRS, staged, None)
    assert tables.maintain(PAIRS, later(since=began)).files == 0
    assert tables.replace(PAIRS, staged, None) == committed == tables.pin(PAIRS)


def test_a_repeated_commit_is_still_the_newest_content_after_a_compaction(tables):
    tables.ensure(PAIRS, IDS, kind=CONTRAST)
    staged = [tables.stage(PAIRS, [rows(number)]) for number in range(4)]
    committed = tables.replace(PAIRS, staged, None)
    assert compaction.compact(PAIRS, lambda: tables._load(PAIRS), lambda: tables._queue(PAIRS)) == (4, 1)
    assert tables.replace(PAIRS, staged, None) == committed
    assert tables.pin(PAIRS).token == committed.token


def test_a_commit_whose_staged_files_are_gone_changes_nothing(tables, tmp_path):
    before = imported(tables, tmp_path, rows(1))
    staged = tables.stage(NAME, [rows(2)])
    assert tables.maintain(NAME, later()).files == 1
    with pytest.raises(NotFoundError, match=r"table haven\.features: files that were staged for it are gone; .* again"):
        tables.replace(NAME, [staged], None)
    assert tables.pin(NAME) == before


def test_a_reader_of_a_pinned_version_is_undisturbed(tables, tmp_path):
    pin = appended(tables, tmp_path, 6)
    read = tables.batches(pin)
    seen = next(read)["_individual"].to_pylist()
    imported(tables, tmp_path, rows(99))
    tables.maintain(NAME, later(pins={NAME: frozenset({pin.snapshot})}))
    assert sorted(seen + [number for batch in read for number in batch["_individual"].to_pylist()]) == [0, 1, 2, 3, 4, 5]


# ---- compaction


def test_compaction_changes_neither_rows_nor_their_order_nor_the_content_token(tables, tmp_path):
    before = appended(tables, tmp_path, 5)
    order = ids(tables, before)
    result = tables.maintain(NAME, later(1))
    assert (result.compacted, result.into) == (5, 1)
    after = tables.pin(NAME)
    assert after.snapshot != before.snapshot
    assert (after.token, after.rows, after.schema_id) == (before.token, 5, before.schema_id)
    assert ids(tables, after) == ids(tables, before) == order
    tables.maintain(NAME, later(60))
    assert len(data_files(tables)) == 1
    assert (ids(tables, tables.pin(NAME)), tables.pin(NAME)) == (order, after)


def test_rows_appended_to_a_compacted_table_make_new_content(tables, tmp_path):
    before = appended(tables, tmp_path)
    tables.maintain(NAME, later(1))
    after = imported(tables, tmp_path, rows(4), append=True)
    assert after.token != before.token
    assert sorted(ids(tables, after)) == [0, 1, 2, 3, 4]


def test_a_new_file_holds_no_more_rows_than_a_staged_one(tables, tmp_path, monkeypatch):
    before = appended(tables, tmp_path, 10)
    for module in (staging, compaction):
        monkeypatch.setattr(module, "ROWS_PER_FILE", 4)
    monkeypatch.setattr(compaction, "SMALL", 2)
    assert (tables.maintain(NAME, later(1)).into, ids(tables, tables.pin(NAME))) == (3, ids(tables, before))
    tasks = tables._load(NAME).scan().plan_files()
    assert sorted(task.file.record_count for task in tasks) == [2, 4, 4]


def test_few_small_files_are_left_as_they_are(tables, tmp_path):
    before = appended(tables, tmp_path, 3)
    assert tables.maintain(NAME, later(1)).compacted == 0
    assert tables.pin(NAME) == before


def test_only_the_partitions_that_gain_from_it_are_compacted(tables):
    schema = pa.schema([("run", pa.string()), ("_individual", pa.int64())])
    tables.ensure(SCORES, schema, kind=RESULTS, partition_by=["run"])
    for run, count in (("a", 5), ("b", 1)):
        table = pa.table({"run": [run], "_individual": [1]}).cast(schema)
        tables.replace(SCORES, [tables.stage(SCORES, [table]) for _ in range(count)], {"run": run})
    result = tables.maintain(SCORES, later(1))
    assert (result.compacted, result.into) == (5, 1)
    assert sorted(task.file.record_count for task in tables._load(SCORES).scan().plan_files()) == [1, 5]
    tables.replace(SCORES, [], {"run": "a"})
    assert [len(batch) for batch in tables.batches(tables.pin(SCORES))] == [1]


def test_files_that_lack_newer_columns_are_compacted_with_nulls(tables, tmp_path):
    appended(tables, tmp_path, 3)
    imported(tables, tmp_path, pa.table({"_individual": [3], "age": [30.5]}), append=True)
    pin = imported(tables, tmp_path, pa.table({"_individual": [4], "age": [40.5], "mode": ["car"]}), append=True)
    tables.maintain(NAME, later(1))
    found = pa.Table.from_batches(list(tables.batches(tables.pin(NAME)))).sort_by("_individual")
    assert found.to_pydict() == {
        "_individual": [0, 1, 2, 3, 4],
        "age": [None, None, None, 30.5, 40.5],
        "mode": [None, None, None, None, "car"],
    }
    assert found.schema == tables.schema_of(pin)
    (file,) = {task.file.file_path for task in tables._load(NAME).scan().plan_files()}
    fields = pq.read_schema(file.removeprefix("file://"))
    assert [field.metadata[b"PARQUET:field_id"] for field in fields] == [b"1", b"2", b"3"]


def test_a_contrast_table_is_not_compacted_because_its_manifest_names_a_version(tables):
    pin = paired(tables, 1, 2, 3, 4)
    assert tables.maintain(PAIRS, later(1)).compacted == 0
    assert tables.pin(PAIRS) == pin


def overtaken(tables: TableStore, monkeypatch, meanwhile) -> tuple[int, int]:
    """Compact a table while somebody else commits between the writing of its new files and their commit."""
    whole = compaction._commit

    def commit(*arguments):
        meanwhile()
        return whole(*arguments)

    monkeypatch.setattr(compaction, "_commit", commit)
    return compaction.compact(NAME, lambda: tables._load(NAME), lambda: tables._queue(NAME))


def test_compaction_gives_up_and_leaves_no_file_where_the_rows_were_replaced_meanwhile(tables, tmp_path, monkeypatch):
    appended(tables, tmp_path)
    assert overtaken(tables, monkeypatch, lambda: imported(tables, tmp_path, rows(9))) == (0, 0)
    assert ids(tables, tables.pin(NAME)) == [9]
    assert not [file for file in data_files(tables) if file.startswith("compacted")]


def test_rows_that_are_appended_during_a_compaction_stay_and_so_does_their_content_token(tables, tmp_path, monkeypatch):
    appended(tables, tmp_path)
    assert overtaken(tables, monkeypatch, lambda: imported(tables, tmp_path, rows(9), append=True)) == (4, 1)
    current = tables._load(NAME).current_snapshot()
    assert sorted(ids(tables, tables.pin(NAME))) == [0, 1, 2, 3, 9]
    assert tables.pin(NAME).token == tables.pin(NAME, current.parent_snapshot_id).token


def test_a_commit_at_the_very_moment_of_a_compaction_wins_with_its_content_token(tables, tmp_path, monkeypatch):
    appended(tables, tmp_path)
    catalog, commit = tables._catalog, type(tables._catalog).commit_table
    added = []

    def slow(self, table, requirements, updates):
        if not added:
            added.append(True)
            other = local_resources(tmp_path / "mimic")["tables"].model_copy(update={"locks": str(tmp_path / "elsewhere")})
            imported(other, tmp_path, rows(9), append=True)
        return commit(self, table, requirements, updates)

    monkeypatch.setattr(type(catalog), "commit_table", slow)
    assert compaction.compact(NAME, lambda: tables._load(NAME), lambda: tables._queue(NAME)) == (4, 1)
    current = tables._load(NAME).current_snapshot()
    assert sorted(ids(tables, tables.pin(NAME))) == [0, 1, 2, 3, 9]
    assert tables.pin(NAME).token == tables.pin(NAME, current.parent_snapshot_id).token


def test_a_table_that_another_engine_compacted_keeps_its_content_token_also_after_expiry(tables, tmp_path, monkeypatch):
    before = appended(tables, tmp_path, 2)
    summarise = producers.update_snapshot_summaries

    def as_replace(summary, previous_summary):
        return summarise(summary, previous_summary).model_copy(update={"operation": Operation.REPLACE})

    monkeypatch.setattr(producers, "update_snapshot_summaries", as_replace)  # pyiceberg itself writes no such version
    table = tables._load(NAME)
    transaction = table.transaction()
    (file,) = tables.stage(NAME, [rows(0, 1)]).paths
    with transaction.update_snapshot().overwrite() as update:
        for task in table.scan().plan_files():
            update.delete_data_file(task.file)
        update.append_data_file(parquet_file_to_data_file(table.io, table.metadata, file))
    transaction.commit_transaction()
    monkeypatch.undo()
    assert tables._load(NAME).current_snapshot().summary.operation is Operation.REPLACE
    assert tables.pin(NAME).token == before.token
    assert tables.maintain(NAME, later()).expired == 1
    assert (tables.pin(NAME).token, ids(tables, tables.pin(NAME))) == (before.token, [0, 1])


COMPACTING = """
import sys
from pathlib import Path
from resources import compaction
from resources.environments import local_resources
from resources.maintenance import Terms
from resources.usage import InUse

whole = compaction._commit

def commit(*arguments):
    print("staged", flush=True)
    return whole(*arguments)

compaction._commit = commit
local_resources(Path(sys.argv[1]))["tables"].maintain("haven.features", Terms(in_use=InUse()))
"""


@pytest.mark.parametrize("milliseconds", [0, 12])
def test_a_compaction_that_is_killed_leaves_the_old_files_or_the_new_ones(tables, tmp_path, milliseconds):
    before = appended(tables, tmp_path, 6)
    command = [sys.executable, "-c", COMPACTING, str(tmp_path / "mimic")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "staged\n"
        time.sleep(milliseconds / 1000)
        os.kill(process.pid, signal.SIGKILL)
    assert (tables.pin(NAME).token, sorted(ids(tables, tables.pin(NAME)))) == (before.token, [0, 1, 2, 3, 4, 5])
    order = ids(tables, before)
    for days in (0, 1, 30):
        tables.maintain(NAME, later(days))
        pin = tables.pin(NAME)
        assert (ids(tables, pin), pin.token) == (order, before.token)
    assert len(data_files(tables)) == 1


# ---- files


def test_files_that_nothing_names_go_after_the_grace_period(tables, tmp_path):
    pin = imported(tables, tmp_path, rows(1))
    staged = tables.stage(NAME, [rows(2)])
    metadata = Path(staged.paths[0].removeprefix("file://")).parents[1] / "metadata/00009-lost.metadata.json"
    metadata.write_text("{}")
    assert tables.maintain(NAME, later(0.9)).files == 0
    assert tables.maintain(NAME, later(0.9, grace=0.5 * DAY)).files == 2
    assert not metadata.exists()
    assert ids(tables, pin) == [1]


def test_nothing_outside_a_table_or_behind_a_link_goes(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    folder = Path(tables._load(NAME).location().removeprefix("file://"))
    (tmp_path / "mine").mkdir()
    for place in (tmp_path / "mine", folder, folder.parent, folder.parent.parent):
        (place / "mine.txt").write_text("keep")
    (folder / "data/link").symlink_to(tmp_path / "mine")
    (folder / "data/link.parquet").symlink_to(tmp_path / "mine/mine.txt")
    (folder.parent / "link").symlink_to(tmp_path / "mine")
    before = listing(tmp_path / "mine")
    assert [tables.maintain(NAME, later()).files, tables.remove_unknown(later()).files] == [0, 0]
    assert listing(tmp_path / "mine") == before
    assert all((place / "mine.txt").exists() for place in (folder, folder.parent, folder.parent.parent))


def test_old_files_of_a_creation_that_was_killed_go(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    lost = Path(tables._load(NAME).location().removeprefix("file://")).with_name("lost")
    (lost / "data").mkdir(parents=True)
    (lost / "data/import-0.parquet").write_text("{}")
    assert tables.remove_unknown(later(0.5)).files == 0
    assert tables.remove_unknown(later(2, since=time.time() - 60)).files == 0
    assert tables.remove_unknown(later(2)) == Maintained(table=UNKNOWN, files=1, bytes=2)
    assert ids(tables, tables.pin(NAME)) == [1]


def with_another_catalog(tables, tmp_path) -> TableStore:
    """The same folder of tables under a catalog of other tables."""
    open_catalog(f"sqlite:///{tmp_path}/other.db", f"file://{tmp_path}/other").close()
    return TableStore(catalog_uri=f"sqlite:///{tmp_path}/other.db", warehouse=tables.warehouse, locks=tables.locks)


def test_tables_of_another_catalog_are_left_alone_and_named(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    tables.register("haven.registered", tmp_path / "import.parquet")
    tables.ensure(SCORES, IDS, kind=RESULTS)
    other = with_another_catalog(tables, tmp_path)
    other.names()
    before = listing(tmp_path)
    (result,) = maintain_all(other, local_resources(tmp_path / "mimic")["artefacts"], [], later)
    assert listing(tmp_path) == before
    assert all(f"warehouse/haven/{name}" in result.error for name in ("features", "registered", "scores"))
    assert "see that MIMIC_CATALOG names the right catalog" in result.error


def test_the_files_of_a_removed_table_go_after_the_grace_period_also_if_that_is_cut_off(tables, tmp_path, monkeypatch):
    imported(tables, tmp_path, rows(1), "haven.other")
    imported(tables, tmp_path, rows(*range(100_000)))
    read = tables.batches(tables.pin(NAME))
    first = next(read)
    folder = Path(tables._load(NAME).location().removeprefix("file://"))
    tables.remove(NAME)
    assert tables.names() == ["haven.other"]
    assert sum(map(len, [first, *read])) == 100_000  # who reads already goes on
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "removed"]
    for path in files:
        os.utime(path, (0, 0))  # however old they are: it counts when they went out of use
    assert (
        tables.remove_unknown(later(0.5))
        == tables.remove_unknown(later(since=time.time() - 60))
        == Maintained(table=UNKNOWN)
    )
    said = tables.remove_unknown(later(2, dry_run=True))
    assert (said.files, said.bytes) == (len(files), sum(path.stat().st_size for path in files))

    removals: list[Path] = []

    def unlink(path, **_):
        if len(removals) == 3:
            raise PermissionError("killed")
        removals.append(path)
        whole(path)

    whole = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StorageError, match="killed"):
        tables.remove_unknown(later(2))
    monkeypatch.undo()
    assert tables.remove_unknown(later(2)) == Maintained(table=UNKNOWN, files=len(files) - 3, bytes=ANY)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert ids(tables, tables.pin("haven.other")) == [1]


def test_a_removal_that_is_killed_before_the_catalog_changes_leaves_the_table(tables, tmp_path, monkeypatch):
    pin = imported(tables, tmp_path, rows(1))
    note = Path(tables._load(NAME).location().removeprefix("file://"), "metadata/removed")

    def drop(name):
        raise PermissionError("killed")

    monkeypatch.setattr(tables._catalog, "drop_table", drop)
    monkeypatch.setattr("resources.removal.forget_note", lambda _: None)  # as a kill has no time for it
    with pytest.raises(StorageError, match="killed"):
        tables.remove(NAME)
    monkeypatch.undo()
    assert note.exists()
    assert [tables.remove_unknown(later()).files, tables.maintain(NAME, later()).files] == [0, 1]
    assert not note.exists()
    assert (tables.pin(NAME), ids(tables, pin)) == (pin, [1])


def test_a_removal_that_fails_leaves_a_table_that_no_other_catalog_takes_for_a_removed_one(tables, tmp_path, monkeypatch):
    pin = imported(tables, tmp_path, rows(1))

    def drop(name):
        raise PermissionError("busy")

    monkeypatch.setattr(tables._catalog, "drop_table", drop)
    with pytest.raises(StorageError, match="busy"):
        tables.remove(NAME)
    monkeypatch.undo()
    other = with_another_catalog(tables, tmp_path)
    assert "knows no table in" in str(other.remove_unknown(later()).error)
    assert ids(tables, pin) == [1]


def test_a_reader_of_a_removed_table_goes_on_also_where_its_name_is_imported_again_and_maintained(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    old = data_files(tables)
    for path in Path(tables.warehouse.removeprefix("file://")).rglob("*"):
        os.utime(path, (time.time() - 3 * DAY,) * 2)
    tables.remove(NAME)
    imported(tables, tmp_path, rows(2))
    assert tables.maintain(NAME, later(0)).files == 0
    assert old < data_files(tables)
    assert tables.maintain(NAME, later(2)).files > 3
    assert not old & data_files(tables)


def test_nothing_is_removed_from_a_folder_that_tables_of_two_catalogs_share(tables, tmp_path):
    imported(tables, tmp_path, rows(1, 2))
    other = with_another_catalog(tables, tmp_path)  # such as Glue in another region
    before = set(data_files(tables))
    imported(other, tmp_path, rows(3, 4))
    for one, expected in ((tables, [1, 2]), (other, [3, 4])):
        done = one.maintain(NAME, later())
        assert (done.files, ids(one, one.pin(NAME))) == (0, expected)
        assert "haven/features holds files of another table, which another catalog may name" in done.error
    assert data_files(tables) > before


def test_a_table_that_was_made_where_one_was_removed_is_no_removed_one(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    tables.remove(NAME)
    time.sleep(0.02)  # by the clock of files a moment later
    pin = imported(tables, tmp_path, rows(2))
    other = with_another_catalog(tables, tmp_path)
    assert f"knows no table in {tmp_path}/mimic/warehouse/haven/features" in str(other.remove_unknown(later()).error)
    assert tables.maintain(NAME, later()).files > 3  # those of the removed one
    assert (ids(tables, pin), len(data_files(tables))) == ([2], 1)


def test_a_table_of_another_home_or_purpose_is_not_removed(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    shutil.copytree(tmp_path / "mimic", tmp_path / "copy")
    before = listing(tmp_path / "mimic/warehouse")
    with pytest.raises(SpecError, match=f"expected a folder below {tmp_path}/copy/warehouse; this catalog may be a copy"):
        local_resources(tmp_path / "copy")["tables"].remove(NAME)
    assert listing(tmp_path / "mimic/warehouse") == before
    tables.ensure(SCORES, IDS, kind=RESULTS)
    with pytest.raises(TableError, match="holds results rows, expected source rows"):
        tables.remove(SCORES)


def test_a_copied_home_maintains_no_table_of_the_original(tables, tmp_path):
    imported(tables, tmp_path, rows(1))
    shutil.copytree(tmp_path / "mimic", tmp_path / "copy")
    pin = imported(tables, tmp_path, rows(2))
    before = listing(tmp_path / "mimic")
    copy = local_resources(tmp_path / "copy")
    table, unknown = maintain_all(copy["tables"], copy["artefacts"], [], later)
    assert listing(tmp_path / "mimic") == before
    assert f"expected a folder below {tmp_path}/copy/warehouse; this catalog may be a copy" in table.error
    assert f"the catalog knows no table in {tmp_path}/copy/warehouse/haven/features" in unknown.error
    assert ids(tables, pin) == [2]


def test_a_warehouse_may_be_a_link_to_another_disk(tables, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "mimic").mkdir()
    (tmp_path / "mimic/warehouse").symlink_to(tmp_path / "disk")
    for number in (1, 2):
        imported(tables, tmp_path, rows(number))
    (tmp_path / "disk/haven/lost/data").mkdir(parents=True)
    (tmp_path / "disk/haven/lost/data/a").write_text("{}")
    assert tables.maintain(NAME, later()).files == 5
    assert tables.remove_unknown(later()).files == 1


def test_a_dry_run_says_the_same_and_changes_nothing(tables, tmp_path):
    for number in range(3):
        imported(tables, tmp_path, rows(number))
    tables.stage(NAME, [rows(9)])
    before = listing(tmp_path)
    said = tables.maintain(NAME, later(dry_run=True))
    assert listing(tmp_path) == before
    assert (said.expired, said.files) == (4, 11)
    assert tables.maintain(NAME, later()) == said


def test_all_tables_are_maintained_also_those_without_a_version_and_an_unknown_name_changes_nothing(tables, tmp_path):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    appended(tables, tmp_path)
    tables.ensure(SCORES, IDS, kind=RESULTS)
    tables.stage(SCORES, [rows(1)])
    with pytest.raises(NotFoundError, match=r"no table haven\.score \(did you mean 'haven\.scores'\?\)"):
        list(maintain_all(tables, artefacts, [NAME, "haven.score"], later))
    done = {result.table: result for result in maintain_all(tables, artefacts, [], later)}
    assert (done[NAME].compacted, done[SCORES].files, sorted(done)) == (4, 1, [UNKNOWN, NAME, SCORES])


def test_a_table_whose_files_are_damaged_is_left_alone_and_the_others_are_maintained(tables, tmp_path):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    for name in (NAME, "haven.other"):
        imported(tables, tmp_path, rows(1), name)
        tables.stage(name, [rows(2)])
    Path(tables._load(NAME).current_snapshot().manifest_list.removeprefix("file://")).unlink()
    done = {result.table: result for result in maintain_all(tables, artefacts, [], later)}
    assert "no row is lost" in done[NAME].error
    assert (len(data_files(tables)), done["haven.other"].files) == (2, 1)
    with pytest.raises(StorageError, match=r"haven\.features.*No such file"):
        tables.maintain(NAME, later())


def damaged(tables: TableStore, folder: Path, damage) -> list[str]:
    """Three tables, of which the middle one's metadata file is damaged; returns their names."""
    names = ["haven.a", "haven.b", "haven.c"]
    for name in names:
        imported(tables, folder, rows(1), name)
        tables.stage(name, [rows(2)])
    damage(Path(tables.metadata_file("haven.b").removeprefix("file://")))
    return names


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "table haven.b: cannot be read: "),
        (lambda file: file.write_text("{"), "table haven.b: its metadata file is damaged: "),
    ],
)
def test_a_table_whose_metadata_is_damaged_is_named_and_the_others_are_maintained(tables, tmp_path, damage, message):
    names = damaged(tables, tmp_path, damage)
    done = list(maintain_all(tables, local_resources(tmp_path / "mimic")["artefacts"], [], later))
    assert [result.table for result in done] == [*names, UNKNOWN]
    assert [result.files for result in done] == [1, 0, 1, 0]
    assert done[1].error.startswith(message)
    assert done[3].error.startswith(message)
    assert tables.names() == names
    for read in (tables.pin, tables.exists, tables.kind):
        with pytest.raises(MimicError, match=message):
            read("haven.b")


@pytest.mark.parametrize("written", [b"", b"Obj", b"something else altogether"])
def test_a_table_whose_manifest_is_damaged_is_named_and_the_others_are_maintained(tables, tmp_path, written):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    for name in ("haven.a", "haven.b"):
        imported(tables, tmp_path, rows(1), name)
        tables.stage(name, [rows(2)])
    Path(tables._load("haven.a").current_snapshot().manifest_list.removeprefix("file://")).write_bytes(written)
    done = list(maintain_all(tables, artefacts, [], later))
    assert done[0].error.startswith("table haven.a: a file of its metadata is damaged: ")
    assert [result.files for result in done] == [0, 1, 0]


def test_a_busy_database_of_the_catalog_is_said_so_and_the_other_tables_are_maintained(tables, tmp_path, monkeypatch):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    for number, name in enumerate(["haven.a", "haven.a", "haven.b"]):
        imported(tables, tmp_path, rows(number), name)
    commit = type(tables._catalog).commit_table

    def locked(*_):
        monkeypatch.setattr(type(tables._catalog), "commit_table", commit)
        raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(type(tables._catalog), "commit_table", locked)
    done = list(maintain_all(tables, artefacts, [], later))
    assert done[0].error.startswith("table haven.a: maintenance failed: database is locked; no row is lost. ")
    assert [result.error for result in done[1:]] == [None, None]


def publish(artefacts, document):
    folder = f"contrast-sets/{PAIRS}"
    with artefacts.publishing(folder, document["version"], artefacts.published(folder)) as publication:
        publication.publish(document)


def test_a_build_that_begins_after_maintenance_did_keeps_the_version_that_it_read(tables, tmp_path):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    imported(tables, tmp_path, rows(1), "haven.first")
    pins = [paired(tables, number) for number in (1, 2, 3)]
    publish(artefacts, {"version": "v", "snapshot": pins[0].snapshot})
    held = {}
    done = maintain_all(tables, artefacts, [], lambda: later(pins=dict(held)))
    next(done)
    held[PAIRS] = frozenset({pins[0].snapshot})  # now a dataset build begins, and then a newer contrast set is published
    publish(artefacts, {"version": "w", "snapshot": pins[2].snapshot})
    assert next(done).expired > 0
    assert ids(tables, pins[0]) == [1]


def test_the_version_that_a_contrast_sets_manifest_names_stays_and_a_damaged_manifest_protects_all(tables, tmp_path):
    artefacts = local_resources(tmp_path / "mimic")["artefacts"]
    named, newer = paired(tables, 1), paired(tables, 2)
    publish(artefacts, {"version": "v", "snapshot": named.snapshot})
    assert [result.error for result in maintain_all(tables, artefacts, [PAIRS], later)] == [None]
    assert versions(tables, PAIRS) == {named.snapshot, newer.snapshot}
    manifest = Path(artefacts.where(f"contrast-sets/{PAIRS}/manifest.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b"v", b"w"))
    (result,) = maintain_all(tables, artefacts, [PAIRS], later)
    assert "damaged" in result.error
    assert ids(tables, named) == [1]


def test_a_catalog_that_others_keep_busy_is_said_so(tables, tmp_path, monkeypatch):
    def busy(*_):
        raise CommitFailedException("busy")

    imported(tables, tmp_path, rows(1))
    imported(tables, tmp_path, rows(2))
    monkeypatch.setattr(type(tables._catalog), "commit_table", busy)
    with pytest.raises(ConflictError, match=r"haven\.features: others kept committing; maintain it again later"):
        tables.maintain(NAME, later())


def test_two_maintenances_at_once_end_well(tables, tmp_path):
    before = appended(tables, tmp_path, 6)
    order = ids(tables, before)
    stores = [local_resources(tmp_path / "mimic")["tables"] for _ in range(2)]
    terms = later(1)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda store: store.maintain(NAME, terms), stores))
    assert sorted(result.compacted for result in results) == [0, 6]
    assert (ids(tables, tables.pin(NAME)), tables.pin(NAME).token) == (order, before.token)
    tables.maintain(NAME, later(60))
    assert len(data_files(tables)) == 1
