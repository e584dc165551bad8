"""What the benchmarks share: medians of alternating repetitions, peaks of separate processes, and the table of results."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

REPETITIONS = 5


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        path: what was measured.
        baseline: what it was measured beside.
        ratio: of the two, as the goal counts it.
        goal: what the ratio should reach.
        met: whether it does.
    """

    path: str
    baseline: str
    ratio: str
    goal: str
    met: bool


def at_most(path: str, baseline: str, ratio: float, limit: float, note: str = "") -> Row:
    """Make a line whose ratio should not exceed a limit."""
    return Row(path, baseline, f"{ratio:.2f}{note}", f"at most {limit:g}", ratio <= limit)


def at_least(path: str, baseline: str, ratio: float, limit: float, note: str = "") -> Row:
    """Make a line whose ratio should reach a limit."""
    return Row(path, baseline, f"{ratio:.3g}{note}", f"at least {limit:g}", ratio >= limit)


def cpu_seconds(work: Mapping[str, Callable[[], object]], repetitions: int = REPETITIONS) -> dict[str, float]:
    """Return the median CPU time of each piece of work, in seconds; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions + 1):
        for name, run in work.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def in_a_process(script: str, *arguments: object) -> dict[str, float]:
    """Return what `report_process` says in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def report_process(work: Callable[[], object], warm_up: Callable[[], object] = lambda: None) -> None:
    """Print as JSON the CPU seconds of some work, the most memory of this process meanwhile, and that before it, in MB."""
    warm_up()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    resting = _megabytes("VmRSS")
    began = time.process_time()
    work()
    print(json.dumps({"cpu": time.process_time() - began, "peak": _megabytes("VmHWM"), "resting": resting}))


def show(rows: Sequence[Row]) -> None:
    """Print lines of the table."""
    for row in rows:
        met = "" if row.met else "   NOT MET"
        print(f"{row.path:<52}{row.baseline:<58}{row.ratio:>16}   {row.goal}{met}", flush=True)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table for a page."""
    lines = ["| path | baseline | ratio | goal | met |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.path} | {row.baseline} | {row.ratio} | {row.goal} | {'yes' if row.met else '**no**'} |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Describe what the numbers were measured on."""
    import numpy as np
    import psutil
    import pyarrow as pa

    described = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = {line.partition(":")[2].strip() for line in described.splitlines() if line.startswith("model name")}
    memory = psutil.virtual_memory().total / 2**30
    processor = ", ".join(sorted(models)) or platform.machine()
    return (
        f"{processor}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, pyarrow {pa.__version__}"
    )


def _megabytes(name: str) -> float:
    # not ru_maxrss, which begins with the memory of the process that started this one
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024
