"""Reading 2 million rows of 25 columns: mimic's stream beside pyarrow.dataset over the same files, in one run.

CPU time: medians of alternating repetitions. Memory: the peak of a process of its own, above what it holds after importing.
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds

from resources.environments import local_resources
from resources.tables import SOURCE, TableStore

ROWS, FEATURES, CHOICES, REPETITIONS, ROWS_AT_ONCE = 2_000_000, 20, 5, 7, 100_000
NAME = "benchmark.decisions"


def decisions() -> Iterator[pa.Table]:
    """Make seeded decisions of five choices: ids, flags and features."""
    random = np.random.default_rng(0)
    for start in range(0, ROWS, ROWS_AT_ONCE):
        row = np.arange(start, start + ROWS_AT_ONCE)
        keys = {"_individual": row // (10 * CHOICES), "_decision": row // CHOICES, "_choice": row % CHOICES}
        flags = {"_selected": row % CHOICES == 0, "_train": row // (10 * CHOICES) % 5 > 0}
        features = {f"x{number:02d}": random.normal(size=ROWS_AT_ONCE) for number in range(FEATURES)}
        yield pa.table({**keys, **flags, **features})


def write_table(home: Path) -> TableStore:
    """Make the table in an empty home."""
    tables: TableStore = local_resources(home)["tables"]
    schema = next(decisions()).schema
    tables.ensure(NAME, schema, kind=SOURCE)
    tables.replace(NAME, [tables.stage(NAME, decisions())], None)
    return tables


def by_mimic(home: Path) -> int:
    """Stream the table and count its rows."""
    tables = local_resources(home)["tables"]
    return sum(batch.num_rows for batch in tables.batches(tables.pin(NAME)))


def by_pyarrow(home: Path) -> int:
    """Stream the same files as a dataset and count their rows."""
    files = sorted(map(str, (home / "warehouse").rglob("*.parquet")))
    return sum(batch.num_rows for batch in ds.dataset(files).to_batches())


READERS: dict[str, Callable[[Path], int]] = {"pyarrow.dataset": by_pyarrow, "TableStore.batches": by_mimic}


def cpu_seconds(home: Path) -> dict[str, float]:
    """Return the median CPU time of each reader, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(REPETITIONS):
        for name, reader in READERS.items():
            began = time.process_time()
            assert reader(home) == ROWS  # noqa: S101
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_megabytes(home: Path, reader: str) -> float:
    """Return how far the memory of a process rises while it reads, in MB."""
    command = [sys.executable, __file__, str(home), reader]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603
        assert child.stdin is not None  # noqa: S101
        assert child.stdout is not None  # noqa: S101
        resting, process = int(json.loads(child.stdout.readline())), psutil.Process(child.pid)
        peak = resting
        child.stdin.close()
        while child.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.002)
        rows = child.stdout.read()
    assert int(rows) == ROWS  # noqa: S101
    return (peak - resting) / 1e6


def read_once(home: Path, reader: str) -> None:
    """Say how much memory the imports took, wait for the word, and read."""
    tables = local_resources(home)["tables"]
    tables.schema_of(tables.pin(NAME))
    print(psutil.Process().memory_info().rss, flush=True)
    sys.stdin.read()
    print(READERS[reader](home))


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_table(home)
        seconds = cpu_seconds(home)
        memory = {name: peak_megabytes(home, name) for name in READERS}
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}")
    print(f"{f'{ROWS:,} rows x {FEATURES + 5} columns':<40}{'s CPU':>10}{'peak MB':>10}")
    for name in READERS:
        print(f"{name:<40}{seconds[name]:>10.2f}{memory[name]:>10.0f}")
    baseline, ours = (seconds[name] for name in READERS)
    print(f"ratio {ours / baseline:.2f} (at most 1.5), peak {memory['TableStore.batches']:.0f} MB (at most 400)")


if __name__ == "__main__":
    read_once(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else main()
