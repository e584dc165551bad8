"""Concurrency: eight processes that commit to one table at the same moment, as on one machine and as on several."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.environments import local_resources
from resources.tables import INFERENCE, RESULTS, TableStore

NAME, APPENDED, SCORED = "haven.results", "haven.appended", "haven.scored"
SCHEMA = pa.schema([("run_id", pa.string()), ("writer", pa.int64()), ("row", pa.int64())])
WRITERS, ROWS = 8, 5
TURNS_OF_A_TABLE = 3  # a commit takes the longer the more versions a table has

together: Barrier  # in a writer's process


@dataclass(frozen=True)
class How:
    """How the writers work.

    Attributes:
        alone: whether they share no lock files, so that only the catalog's compare-and-swap protects.
        settings: environment variables that say where the tables are.
    """

    alone: bool
    settings: dict[str, str]


def open_tables(home: Path, how: How, writer: int | None = None) -> TableStore:
    """Open the tables; a writer's number gives it a queue of its own, as if it ran on another machine."""
    os.environ.update(how.settings)  # of a process that has worked with others before
    tables: TableStore = local_resources(home)["tables"]
    return tables.model_copy(update={"locks": str(home / f"locks-{writer}")}) if how.alone else tables


def begin_writer(barrier: Barrier) -> None:
    global together
    together = barrier


def make(home: Path, writer: int, key: str, how: How) -> None:
    tables = open_tables(home, how, writer)
    together.wait(60)
    tables.ensure(key, SCHEMA, kind=RESULTS, partition_by=["run_id"])


def replace(home: Path, writer: int, key: str, how: How) -> None:
    tables = open_tables(home, how, writer)
    staged = [tables.stage(NAME, [rows(key, writer)])]
    together.wait(60)
    tables.replace(NAME, staged, {"run_id": key})


def score(home: Path, writer: int, key: str, how: How) -> None:
    """Replace the rows of a run, with a column of its own that the table gets at the same moment as those of the others."""
    tables = open_tables(home, how, writer)
    table = rows(key, writer).append_column(f"d_{key}", pa.array([float(writer)] * ROWS))
    together.wait(60)
    tables.ensure(SCORED, table.schema, kind=INFERENCE, partition_by=["run_id"])
    tables.replace(SCORED, [tables.stage(SCORED, [table])], {"run_id": key})


def append(home: Path, writer: int, key: str, how: How) -> None:
    tables = open_tables(home, how, writer)
    path = home / f"{key}.parquet"
    pq.write_table(rows(key, writer), path)
    together.wait(60)
    tables.import_files(APPENDED, [path], append=True)


def rows(key: str, writer: int) -> pa.Table:
    return pa.table({"run_id": [key] * ROWS, "writer": [writer] * ROWS, "row": list(range(ROWS))}, SCHEMA)


@pytest.fixture(scope="module")
def writers(processes: BaseContext) -> Iterator[ProcessPoolExecutor]:
    """Processes that are kept for all rounds, and that wait for each other before they commit."""
    with ProcessPoolExecutor(WRITERS, processes, begin_writer, (processes.Barrier(WRITERS),)) as pool:
        yield pool


@pytest.fixture(params=["queueing", "without-a-queue", "on-glue"])
def how(request, monkeypatch, tmp_path) -> How:
    settings = {"MIMIC_CATALOG": "", "MIMIC_WAREHOUSE": ""}
    if request.param == "on-glue":
        settings = {"MIMIC_CATALOG": "glue:haven", "MIMIC_WAREHOUSE": "s3://mimic-tests/warehouse"}
        settings |= request.getfixturevalue("aws").environment
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return How(alone=request.param != "queueing", settings=settings)


@pytest.fixture
def turns(how, rounds) -> range:
    """The turns of a test; those on Glue have one table for all, and are many times slower."""
    return range(1 if how.settings["MIMIC_CATALOG"] else rounds)


def table_of_turn(folder: Path, turn: int, partition_by: list[str], how: How) -> Path:
    """Return the home of the table of a turn, which serves for some turns."""
    home = folder / str(turn // TURNS_OF_A_TABLE)
    open_tables(home, how).ensure(NAME, SCHEMA, kind=RESULTS, partition_by=partition_by)
    home.mkdir(exist_ok=True)
    return home


def run(writers: ProcessPoolExecutor, work, home: Path, keys: list[str], how: How) -> None:
    calls = [writers.submit(work, home, writer, key, how) for writer, key in enumerate(keys)]
    for call in calls:
        call.result(timeout=120)


def stored(home: Path, name: str, how: How) -> Counter:
    tables = open_tables(home, how)
    batches = list(tables.batches(tables.pin(name)))
    return Counter((row["run_id"], row["writer"], row["row"]) for batch in batches for row in batch.to_pylist())


def whole(key: str, writer: int) -> Counter:
    return Counter((key, writer, row) for row in range(ROWS))


def test_eight_processes_that_make_one_table_at_the_same_moment_all_succeed(writers, tmp_path, how, turns):
    for turn in turns:
        run(writers, make, tmp_path / str(turn), [NAME] * WRITERS, how)
        assert open_tables(tmp_path / str(turn), how).kind(NAME) == RESULTS


def test_eight_processes_that_replace_different_keys_lose_and_double_nothing(writers, tmp_path, how, turns):
    keys = [f"run{writer}" for writer in range(WRITERS)]
    for turn in turns:
        home = table_of_turn(tmp_path, turn, ["run_id"], how)
        run(writers, replace, home, keys, how)
        assert stored(home, NAME, how) == sum((whole(key, writer) for writer, key in enumerate(keys)), Counter())


@pytest.mark.parametrize(
    ("how", "partition_by"),
    [("queueing", ["run_id"]), ("without-a-queue", ["run_id"]), ("without-a-queue", []), ("on-glue", ["run_id"])],
    indirect=["how"],
    ids=["queueing", "without-a-queue", "without-a-queue-or-partitions", "on-glue"],
)
def test_of_eight_processes_that_replace_the_same_key_one_leaves_its_rows(writers, tmp_path, how, turns, partition_by):
    for turn in turns:
        home = table_of_turn(tmp_path, turn, partition_by, how)
        # a new key each time: with no rows to delete, nothing but the commit itself is in conflict
        key = f"run{turn}"
        run(writers, replace, home, [key] * WRITERS, how)
        found = Counter({row: count for row, count in stored(home, NAME, how).items() if row[0] == key})
        assert found in [whole(key, writer) for writer in range(WRITERS)]


@pytest.mark.parametrize("how", ["without-a-queue", "on-glue"], indirect=True)
def test_eight_processes_that_add_a_column_each_and_fill_it_all_succeed(writers, tmp_path, how):
    keys = [f"run{writer}" for writer in range(WRITERS)]
    run(writers, score, tmp_path, keys, how)
    assert stored(tmp_path, SCORED, how) == sum((whole(key, writer) for writer, key in enumerate(keys)), Counter())
    tables = open_tables(tmp_path, how)
    for row in (row for batch in tables.batches(tables.pin(SCORED)) for row in batch.to_pylist()):
        assert {key: row[f"d_{key}"] for key in keys} == dict.fromkeys(keys) | {row["run_id"]: float(row["writer"])}


def test_eight_processes_that_append_lose_and_double_nothing(writers, tmp_path, how, turns):
    tokens, expected = set(), Counter()
    for turn in turns:
        home = table_of_turn(tmp_path, turn, [], how)
        if turn % TURNS_OF_A_TABLE == 0:
            pq.write_table(rows("first", WRITERS), home / "first.parquet")
            open_tables(home, how).import_files(APPENDED, [home / "first.parquet"])
            expected = whole("first", WRITERS)
        keys = [f"{turn}-{writer}" for writer in range(WRITERS)]
        run(writers, append, home, keys, how)
        expected += sum((whole(key, writer) for writer, key in enumerate(keys)), Counter())
        assert stored(home, APPENDED, how) == expected
        tokens.add(open_tables(home, how).pin(APPENDED).token)
    assert len(tokens) == len(turns)
