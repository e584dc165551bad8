"""Importing a CSV and a Parquet file of 2 million rows: `import_files` beside pyarrow reading and writing it, in one run.

Rows per second of wall clock and of CPU time, each once after the other; both write zstd.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from resources.environments import local_resources

ROWS, FEATURES, CHOICES = 2_000_000, 20, 5


def decisions() -> pa.Table:
    """Make seeded decisions of five choices: ids, flags and features."""
    random, row = np.random.default_rng(0), np.arange(ROWS)
    keys = {"_individual": row // (10 * CHOICES), "_decision": row // CHOICES, "_choice": row % CHOICES}
    flags = {"_selected": row % CHOICES == 0, "_train": row // (10 * CHOICES) % 5 > 0}
    features = {f"x{number:02d}": random.normal(size=ROWS).round(6) for number in range(FEATURES)}
    return pa.table({**keys, **flags, **features})


def by_mimic(home: Path, file: Path) -> None:
    """Import the file into a new table."""
    local_resources(home)["tables"].import_files(f"benchmark.{file.suffix[1:]}", [file])


def by_pyarrow(home: Path, file: Path) -> None:
    """Read the file as a whole and write it as Parquet."""
    table = pq.read_table(file) if file.suffix == ".parquet" else pyarrow.csv.read_csv(file)
    pq.write_table(table, home / f"{file.name}.copy", compression="zstd")


def seconds(work: Callable[[Path, Path], None], home: Path, file: Path) -> tuple[float, float]:
    """Return the wall clock and the CPU time of one call, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(home, file)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        table, csv, parquet = decisions(), home / "rows.csv", home / "rows.parquet"
        pyarrow.csv.write_csv(table, csv)
        pq.write_table(table, parquet)
        small = home / "small.parquet"
        pq.write_table(table.slice(0, 10), small)
        del table
        by_mimic(home, small)  # imports and the catalog
        print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}")
        print(f"{f'{ROWS:,} rows x {FEATURES + 5} columns':<40}{'rows/s':>12}{'rows/s CPU':>12}")
        for file in (csv, parquet):
            usual, ours = (seconds(work, home, file) for work in (by_pyarrow, by_mimic))
            for name, (wall, cpu) in {"pyarrow read + write": usual, "TableStore.import_files": ours}.items():
                print(f"{f'{name}, {file.suffix[1:]}':<40}{ROWS / wall:>12,.0f}{ROWS / cpu:>12,.0f}")
            print(f"ratio {ours[0] / usual[0]:.2f} wall, {ours[1] / usual[1]:.2f} CPU")


if __name__ == "__main__":
    main()
