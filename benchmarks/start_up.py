"""Starting and ending: CPU seconds of `mimic --help`, and of a whole command that builds the dataset of the first example.

That one beside itself with Python's own way of looking for garbage: while it imports, and through all of it at its end.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reporting import REPETITIONS, Row, at_most, show

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/first_table"
MIMIC = [str(Path(sys.executable).with_name("mimic"))]
AS_PYTHON_COLLECTS = """
import mimic_core.collecting
mimic_core.collecting.collect_seldom = lambda: None
from mimic_assets.cli.main import main
main(prog_name="mimic")
"""


def cpu_seconds(commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> dict[str, float]:
    """Return the median CPU time of each command, in seconds; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPETITIONS + 1):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def measure() -> list[Row]:
    """Measure the start and the end."""
    helped = cpu_seconds({"help": [*MIMIC, "--help"]}, os.environ)["help"]
    build = ["log-odds", "build-dataset", str(EXAMPLE / "dataset.json")]
    with tempfile.TemporaryDirectory() as folder:
        homes = {"MIMIC_HOME": f"{folder}/mimic", "DAGSTER_HOME": f"{folder}/dagster"}
        environment = os.environ | homes
        table = f"{folder}/table.parquet"
        importing = [*MIMIC, "tables", "import", "haven.example_log_odds_features", table]
        for command in ([sys.executable, str(EXAMPLE / "generate.py"), table], importing):
            subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
        commands = {"seldom": [*MIMIC, *build], "python": [sys.executable, "-c", AS_PYTHON_COLLECTS, *build]}
        found = cpu_seconds(commands, environment)
    baseline = f"as Python collects garbage ({found['python']:.2f} CPU seconds)"
    return [
        at_most("mimic --help, CPU seconds", "none", helped, 0.5),
        at_most("mimic log-odds build-dataset", baseline, found["seldom"] / found["python"], 0.85),
    ]


if __name__ == "__main__":
    show(measure())
