"""Write to a full disk and say what became of it, as JSON; `test_full_disk.py` runs this where DISK is a small file system.

python full_disk.py DISK ELSEWHERE
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([("run_id", pa.string()), ("row", pa.float64())])
NAME = "haven.results"


def fill(disk: Path, leaving: int) -> None:
    """Write until nothing fits any more, then free some bytes."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
        file.truncate(file.tell() - leaving)


def outcome(disk: Path, leaving: int, call: Callable[[], object], seen: Callable[[], Any]) -> dict[str, Any]:
    """Call on a full disk, and again when there is space; note the error and what a reader sees before and after."""
    from mimic_core.errors import MimicError

    before, files, error = seen(), visible(disk), None
    fill(disk, leaving)
    try:
        call()
    except MimicError as raised:
        error = f"{type(raised).__name__}: {raised}"
    full, left = seen(), visible(disk) - files
    (disk / "filler").unlink()
    call()
    return {"error": error, "before": before, "full": full, "after": seen(), "left": sorted(left)}


def visible(disk: Path) -> set[str]:
    """Return the files of which a reader could take notice, or that take space for ever."""
    files = {str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file() and path.name != "filler"}
    return {file for file in files if "/metadata/" not in file and "locks/" not in file}


def rows(count: int) -> pa.Table:
    return pa.table({"run_id": ["a"] * count, "row": pa.array(range(count), pa.float64())}, SCHEMA)


def tables_of(catalog: Path, files: Path) -> Any:
    from resources.tables import TableStore

    uri, warehouse = f"sqlite:///{catalog / 'catalog.db'}", f"file://{files / 'warehouse'}"
    return TableStore(catalog_uri=uri, warehouse=warehouse, locks=str(files / "locks"))


def commits(disk: Path, catalog: Path, files: Path, leaving: int) -> dict[str, Any]:
    """Replace a key by rows that were staged while there was space."""
    from resources.tables import RESULTS

    tables = tables_of(catalog, files)
    tables.ensure(NAME, SCHEMA, kind=RESULTS, partition_by=["run_id"])
    tables.replace(NAME, [tables.stage(NAME, [rows(3)])], {"run_id": "a"})
    staged = [tables.stage(NAME, [rows(5)])]

    def seen() -> int:
        fresh = tables_of(catalog, files)
        return sum(len(batch) for batch in fresh.batches(fresh.pin(NAME)))

    return outcome(disk, leaving, lambda: tables.replace(NAME, staged, {"run_id": "a"}), seen)


def makes(disk: Path, elsewhere: Path) -> dict[str, Any]:
    """Make a table where the catalog's disk is full."""
    from resources.tables import RESULTS

    tables = tables_of(disk / "catalog", elsewhere / "catalog")
    return outcome(disk, 0, lambda: tables.ensure("haven.new", SCHEMA, kind=RESULTS), tables.names)


def stages(disk: Path, leaving: int) -> dict[str, Any]:
    tables = tables_of(disk / "tables", disk / "tables")
    return outcome(disk, leaving, lambda: tables.stage(NAME, [rows(200_000)]), lambda: tables.pin(NAME).rows)


def writes(disk: Path) -> dict[str, Any]:
    """Replace an artefact by one that does not fit."""
    from resources.artefacts import ArtefactStore

    artefacts = ArtefactStore(root=str(disk / "objects"))
    artefacts.write("a.bin", [b"old"])
    return outcome(
        disk,
        8192,
        lambda: artefacts.write("a.bin", [b"new" * 1000] * 100),
        lambda: artefacts.read("a.bin")[:3].decode(),
    )


def commands(disk: Path, elsewhere: Path) -> dict[str, Any]:
    """Import and export by the command line."""
    from click.testing import CliRunner

    from mimic_assets.cli.main import main

    os.environ |= {"MIMIC_HOME": str(disk / "home"), "DAGSTER_HOME": str(elsewhere / "dagster")}
    pq.write_table(pa.table({"_individual": range(3)}), elsewhere / "old.parquet")
    pq.write_table(pa.table({"_individual": range(200_000)}), elsewhere / "new.parquet")
    export = disk / "out.parquet"

    def run(*words: str) -> list[Any]:
        result = CliRunner().invoke(main, ["tables", *words])
        return [result.exit_code, result.output, "Traceback" in result.output or repr(result.exception)]

    found: dict[str, Any] = {"first": run("import", "haven.features", str(elsewhere / "old.parquet"))}
    fill(disk, 20_000)
    found["import"] = run("import", "haven.features", str(elsewhere / "new.parquet"))
    found["shown"] = run("show", "haven.features")
    (disk / "filler").unlink()
    found["import again"] = run("import", "haven.features", str(elsewhere / "new.parquet"))
    export.write_bytes(b"old")
    files = visible(disk)
    fill(disk, 20_000)
    found["export"] = run("export", "haven.features", str(export))
    found["exported"] = [export.read_bytes().decode(), sorted(visible(disk) - files)]
    (disk / "filler").unlink()
    found["export again"] = run("export", "haven.features", str(export))
    return found


def trainings(disk: Path, elsewhere: Path) -> dict[str, Any]:
    """Train a run again where its export does not fit, and apply the version that is there."""
    from click.testing import CliRunner

    from mimic_assets.cli.main import main

    os.environ |= {"MIMIC_HOME": str(disk / "trainings"), "DAGSTER_HOME": str(elsewhere / "trainings")}
    os.environ |= {"TMPDIR": str(elsewhere)}

    def run(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        return result.exit_code, result.output

    rows = [
        {"_individual": i, "_decision": 0, "_choice": c, "_selected": c == i % 2, "_train": i < 6, "x": float(c * i)}
        for i in range(8)
        for c in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), elsewhere / "rows.parquet")
    shared = {"database": "haven", "space": "s", "dataset": "d", "max_choices": 2, "features": ["x"]}
    models = [{"layers": ["D256", "D256"], "epochs": 2}]
    for name, more in {"d": {"table": "rows"}, "e": {"table": "results", "experiment_name": "e", "models": models}}.items():
        (elsewhere / f"{name}.json").write_text(json.dumps(shared | more))
    first = [
        run("tables", "import", "haven.rows", elsewhere / "rows.parquet"),
        run("log-odds", "build-dataset", elsewhere / "d.json"),
        run("log-odds", "run-experiment", elsewhere / "e.json"),
    ]
    (model,) = (disk / "trainings").rglob("model.keras")
    run_id = model.parents[1].name

    def scored() -> tuple[int, str]:
        return run("predict", run_id, elsewhere / "rows.parquet")

    before, full = scored(), []
    for leaving in (0, 100_000):
        fill(disk, leaving)
        full.append([run("build", run_id), scored() == before])
        (disk / "filler").unlink()
    return {"first": first, "full": full, "before": before, "after": [run("build", run_id), scored() == before]}


def main(disk: Path, elsewhere: Path) -> None:
    for folder in (disk / "tables", disk / "catalog", elsewhere / "catalog"):
        folder.mkdir(parents=True)
    found = {
        "replace": [commits(disk, disk / "tables", disk / "tables", leaving) for leaving in range(0, 65_536, 16_384)],
        "replace with the catalog alone on it": commits(disk, disk / "catalog", elsewhere / "catalog", 0),
        "make a table": makes(disk, elsewhere),
        "stage": [stages(disk, leaving) for leaving in (0, 100_000)],
        "write an artefact": writes(disk),
        "commands": commands(disk, elsewhere),
        "trainings": trainings(disk, elsewhere),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
