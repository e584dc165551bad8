"""Atomicity: a writer that is killed at any moment of its commit leaves the old rows or the new ones."""

import os
import statistics
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from resources.environments import local_resources
from resources.tables import CONTRAST, RESULTS

SCHEMA = pa.schema([("run_id", pa.string()), ("turn", pa.int64()), ("row", pa.int64())])
KEYED, WHOLE = "haven.results", "haven.pairs"
FILES, ROWS = 10, 3  # a commit of many files takes long enough to be hit


def columns_of(turn: int) -> pa.Schema:
    """Columns of the table that is replaced as a whole: another one is added and removed each time."""
    return SCHEMA.append(pa.field("odd" if turn % 2 else "even", pa.int64()))


def replace(home: Path, settings: dict[str, str], name: str, turn: int, moment: Connection | None = None) -> None:
    """Replace the rows of a key, or a whole table with its columns, and tell when the commit begins and ends."""
    os.environ.update(settings)
    tables = local_resources(home)["tables"]
    kind, columns, where = (RESULTS, None, {"run_id": "a"}) if name == KEYED else (CONTRAST, columns_of(turn), None)
    schema = columns or SCHEMA
    tables.ensure(name, schema, kind=kind, partition_by=[] if columns else ["run_id"])
    staged = [tables.stage(name, [rows(part, turn, schema)], columns=columns) for part in range(FILES)]
    if moment:
        moment.send(time.monotonic())
    tables.replace(name, staged, where, columns=columns)
    if moment:
        moment.send(time.monotonic())


def rows(part: int, turn: int, schema: pa.Schema) -> pa.Table:
    """Rows of one file; those of all files are numbered through."""
    numbers = pa.array(range(part * ROWS, (part + 1) * ROWS), pa.int64())
    columns = {"run_id": ["a"] * ROWS, "turn": [turn] * ROWS}
    return pa.table([columns.get(name, numbers) for name in schema.names], schema)


def whole(name: str, turn: int) -> Counter:
    """What a reader sees of one version: its columns, and each row once."""
    names = tuple(SCHEMA.names if name == KEYED else columns_of(turn).names)
    return Counter((names, turn, part * ROWS + row) for part in range(FILES) for row in range(ROWS))


def stored(home: Path, name: str) -> Counter:
    tables = local_resources(home)["tables"]
    pin = tables.pin(name)
    batches = list(tables.batches(pin, where={"run_id": "a"}))
    names = tuple(sorted(tables.schema_of(pin).names, key=[*SCHEMA.names, "odd", "even"].index))
    return Counter((names, row["turn"], row["row"]) for batch in batches for row in batch.to_pylist())


def commit_of_a_child(
    processes: BaseContext, home: Path, settings: dict[str, str], name: str, turn: int, killed_after: float | None
) -> float | None:
    """Replace in a process of its own and return how long the commit took, in seconds; None if it was killed before."""
    ours, theirs = processes.Pipe()
    child = processes.Process(target=replace, args=(home, settings, name, turn, theirs))
    child.start()
    theirs.close()
    began = ours.recv()
    if killed_after is not None:
        time.sleep(killed_after)
        child.kill()
    child.join(60)
    try:
        return float(ours.recv() - began)
    except EOFError:
        return None


@pytest.fixture
def settings(request, monkeypatch) -> dict[str, str]:
    """Environment variables that say where the tables are."""
    if request.param == "here":
        return {}
    found = {"MIMIC_CATALOG": "glue:haven", "MIMIC_WAREHOUSE": "s3://mimic-tests/warehouse"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found | request.getfixturevalue("aws").environment


@pytest.mark.parametrize(("name", "settings"), [(KEYED, "here"), (WHOLE, "here"), (KEYED, "on-glue")], indirect=["settings"])
def test_a_writer_that_is_killed_within_its_commit_leaves_the_old_rows_or_the_new_ones(
    processes, tmp_path, settings, name, rounds
):
    durations = [commit_of_a_child(processes, tmp_path, settings, name, turn, None) for turn in range(3)]
    length, moment = statistics.median(map(float, durations)), np.random.default_rng(0)
    turn = 3
    for _ in range(rounds):
        for _ in range(20):
            if commit_of_a_child(processes, tmp_path, settings, name, turn, moment.uniform(0, length)) is None:
                break
            assert stored(tmp_path, name) == whole(name, turn)  # it ended before it was killed: another moment
            turn += 1
        assert stored(tmp_path, name) in (whole(name, turn - 1), whole(name, turn))
        replace(tmp_path, settings, name, turn)
        assert stored(tmp_path, name) == whole(name, turn)
        turn += 1
