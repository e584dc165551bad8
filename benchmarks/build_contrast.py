"""Sampling contrasts beside the same selection in DuckDB's SQL, and the whole stage beside reading and writing.

DuckDB runs in the environment of the tests of other engines, on ids that it holds in memory, with one thread; ours selects
from ids in memory too. The limit reads the source's columns to Arrow batches and writes the pairs with the writer of tables.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import workload
from reporting import REPETITIONS, Row, at_most, cpu_seconds, show
from stages import Home, contrast

from mimic_core.contract import check_block
from mimic_core.contrasts import rules, sampled_rows

TABLE = "bench.clustered"
ENGINES = Path(__file__).resolve().parents[1] / ".venv-engines" / "bin" / "python"
# draws of a decision take its rejected choices in turn, as ours do; the hashes differ
SELECTION = """
import statistics, sys, time, duckdb
connection = duckdb.connect()
connection.execute("SET threads = 1")
connection.execute(f"CREATE TABLE ids AS SELECT *, row_number() OVER () AS row FROM read_parquet('{sys.argv[1]}')")
times = []
for _ in range(int(sys.argv[2]) + 1):
    began = time.process_time()
    connection.execute('''
        CREATE OR REPLACE TABLE pairs AS
        WITH counted AS (
            SELECT _individual, _decision, max(row) FILTER (WHERE _selected) AS selected, count(*) - 1 AS rejections
            FROM ids GROUP BY ALL
        ), decisions AS (
            SELECT *, row_number() OVER (PARTITION BY _individual ORDER BY hash(_individual, _decision, 0)) - 1 AS turn,
                count(*) OVER (PARTITION BY _individual) AS usable
            FROM counted WHERE rejections > 0
        ), rejected AS (
            SELECT _individual, _decision, row,
                row_number() OVER (
                    PARTITION BY _individual, _decision ORDER BY hash(_individual, _decision, _choice)
                ) - 1 AS turn
            FROM ids WHERE NOT _selected
        ), drawn AS (
            SELECT d._individual, d._decision, d.selected, r.rank,
                ((r.draw // d.usable) * 3 + r.rank % 3) % d.rejections AS turn
            FROM (SELECT range AS rank, range // 3 AS draw FROM range(30)) r
            JOIN decisions d ON d.turn = r.draw % d.usable
        )
        SELECT drawn._individual, drawn.rank, drawn.selected, rejected.row AS rejected
        FROM drawn JOIN rejected USING (_individual, _decision, turn)
        ORDER BY drawn._individual, drawn.rank
    ''')
    times.append(time.process_time() - began)
print(statistics.median(times[1:]), connection.execute("SELECT count(*) FROM pairs").fetchone()[0])
"""


def in_duckdb(ids: pa.Table, folder: Path) -> tuple[float, int]:
    """Return the median CPU time of DuckDB's selection, in seconds, and how many pairs it finds."""
    pq.write_table(ids, folder / "ids.parquet")
    command = [str(ENGINES), "-c", SELECTION, str(folder / "ids.parquet"), str(REPETITIONS)]
    seconds, pairs = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()  # noqa: S603
    return float(seconds), int(pairs)


def measure() -> list[Row]:
    """Measure a contrast set."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        pin = home.hold(TABLE, workload.clustered())
        spec = contrast(TABLE)
        columns = home.tables.schema_of(pin)
        ids = pa.concat_tables(workload.clustered()).select(["_individual", "_decision", "_choice", "_selected", "_train"])
        block = check_block(ids, rules(spec))
        files = home.build_contrast(spec)
        rows = pa.concat_tables([pq.read_table(file) for file in files])

        def limit() -> None:
            for _ in home.tables.batches(pin, columns.names):
                pass
            home.tables.discard(home.tables.stage(spec.key, [rows], columns=rows.schema))

        def stage() -> None:
            for file in home.build_contrast(spec):
                file.unlink()

        selected = sum(len(ranks) for _, ranks, _ in sampled_rows(block.rows, spec))
        seconds = cpu_seconds(
            {
                "select": lambda: list(sampled_rows(block.rows, spec)),
                "limit": limit,
                "stage": stage,
            }
        )
        lines = [at_most("build-contrast, whole stage", "read + write", seconds["stage"] / seconds["limit"], 3.0)]
        if not ENGINES.exists():
            print("DuckDB is not there (`make .venv-engines/installed`): its selection is left out", file=sys.stderr)
            return lines
        duckdb, pairs = in_duckdb(ids, Path(folder))
        assert pairs == selected  # noqa: S101
    return [at_most("build-contrast, selection of rows", "DuckDB SQL", seconds["select"] / duckdb, 1.0), *lines]


if __name__ == "__main__":
    show(measure())
