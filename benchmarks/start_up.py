"""Starting: CPU seconds of `mimic --help`, and of what the steps of a build import."""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

from reporting import REPETITIONS, Row, at_most, show

MIMIC = Path(sys.executable).with_name("mimic")
STEPS = "import mimic_assets.contrasts, mimic_assets.datasets, mimic_assets.inferences"
TENSORFLOW = "import tensorflow"


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
    """Measure the starts."""
    helped = cpu_seconds(str(MIMIC), "--help")
    steps, tensorflow = (cpu_seconds(sys.executable, "-c", code) for code in (STEPS, TENSORFLOW))
    return [
        at_most("mimic --help, CPU seconds", "none", helped, 0.5),
        at_most("import of the steps of builds, CPU seconds", f"import tensorflow: {tensorflow:.1f}", steps, tensorflow),
    ]


if __name__ == "__main__":
    show(measure())
