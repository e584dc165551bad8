"""Starting: CPU seconds of `mimic --help`."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

from reporting import REPETITIONS, Row, at_most, show

MIMIC = Path(sys.executable).with_name("mimic")


def cpu_seconds(*command: str) -> float:
    """Return the median CPU time of a command, in seconds."""
    times = []
    for _ in range(REPETITIONS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times[1:])


def measure() -> list[Row]:
    """Measure the start."""
    return [at_most("mimic --help, CPU seconds", "none", cpu_seconds(str(MIMIC), "--help"), 0.5)]


if __name__ == "__main__":
    show(measure())
