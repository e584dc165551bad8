"""Other engines: polars and DuckDB see the rows and columns that we see, after everything that a table goes through."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import LongType

from resources.environments import local_resources
from resources.tables import CONTRAST, RESULTS, TableStore

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
RESULTS_SCHEMA = pa.schema([("run_id", pa.string()), ("epoch", pa.int32()), ("loss", pa.float64())])


def import_rows(tables: TableStore, name: str, rows: dict[str, Any], folder: Path, **options: bool) -> None:
    path = folder / "rows.parquet"
    pq.write_table(pa.table(rows), path)
    tables.import_files(name, [path], **options)


def many_types(tables: TableStore, folder: Path) -> None:
    moment = datetime(2020, 1, 2, 3, 4, 5, 6, UTC)
    columns = {
        "_individual": [2**53 + 1, -1, 0],
        "_train": [True, False, None],
        "mode": ["train", "", None],
        "size": [1.5, None, -0.0],
        "small": pa.array([1, None, 3], pa.float32()),
        "at": pa.array([moment, None, moment], pa.timestamp("us", "UTC")),
        "local": pa.array([moment.replace(tzinfo=None)] * 3, pa.timestamp("us")),
        "day": pa.array([moment.date()] * 3, pa.date32()),
    }
    import_rows(tables, "haven.types", columns, folder)


def replaced_keys(tables: TableStore, name: str, partition_by: list[str]) -> None:
    """Replace rows of keys; without partitions, a file that holds rows of several is written anew."""
    tables.ensure(name, RESULTS_SCHEMA, kind=RESULTS, partition_by=partition_by)
    for run_ids, where in (("aab", None), ("c", {"run_id": "c"}), ("aa", {"run_id": "a"}), ("", {"run_id": "c"})):
        if partition_by and where is None:
            continue
        table = pa.table([list(run_ids), range(len(run_ids)), [0.5] * len(run_ids)], RESULTS_SCHEMA)
        tables.replace(name, [tables.stage(name, [table])] if run_ids else [], where)


def added_column(tables: TableStore, folder: Path) -> None:
    import_rows(tables, "haven.added", {"_individual": [1], "size": [1.5]}, folder)
    import_rows(tables, "haven.added", {"_individual": [2], "size": [2.5], "age": [7]}, folder, append=True)


def other_columns(tables: TableStore) -> None:
    """Replace all rows by others with a column more, one less, and one that was there before with another type."""
    for rows in ({"i": [1, 2], "size": [1.5, 2.5]}, {"i": [3], "age": [7]}, {"i": [4], "size": ["large"]}):
        table = pa.table(rows)
        tables.ensure("haven.pairs", table.schema, kind=CONTRAST)
        staged = [tables.stage("haven.pairs", [table], columns=table.schema)]
        tables.replace("haven.pairs", staged, None, columns=table.schema)


def changed_elsewhere(tables: TableStore, folder: Path) -> None:
    """Add, rename and remove columns by pyiceberg itself, without writing rows anew."""
    import_rows(tables, "haven.changed", {"_individual": [1], "size": [1.5], "age": [7]}, folder)
    with tables._catalog.load_table("haven.changed").update_schema() as update:
        update.add_column("rank", LongType())
        update.rename_column("size", "length")
        update.delete_column("age")


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    """Give rows as sorted texts; an engine has its own order of rows and of columns, and its own name for UTC."""
    return sorted(json.dumps({**row, "at": str(row.get("at"))[:26]}, sort_keys=True, default=str) for row in rows)


def test_polars_and_duckdb_read_what_we_read(tmp_path):
    if not PYTHON.exists():
        reason = "the environment .venv-engines is missing; `make test` makes it"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    tables: TableStore = local_resources(tmp_path / "mimic")["tables"]
    many_types(tables, tmp_path)
    replaced_keys(tables, "haven.partitioned", ["run_id"])
    replaced_keys(tables, "haven.unpartitioned", [])
    added_column(tables, tmp_path)
    other_columns(tables)
    changed_elsewhere(tables, tmp_path)
    names = tables.names()
    command = [str(PYTHON), str(Path(__file__).with_name("read_tables.py")), *map(tables.metadata_file, names)]
    # DuckDB installs extensions below the home folder
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert len(names) == 6
    for name, seen in zip(names, json.loads(result.stdout), strict=True):
        ours = [row for batch in tables.batches(tables.pin(name)) for row in batch.to_pylist()]
        assert ours
        for engine, rows in seen.items():
            assert comparable(rows) == comparable(ours), (name, engine)
