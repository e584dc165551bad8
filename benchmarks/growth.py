"""Ten times the decisions: CPU time per decision and peak memory of each stage, in processes of their own.

Both tables are built with one shard of each split, so nothing but the table grows. Before the clock starts, a process runs
the stage on a small table, so that imports do not count.
"""

import statistics
import sys
import tempfile
from itertools import islice
from pathlib import Path

import workload
from reporting import Row, at_most, in_a_process, report_process, show
from stages import Home, contrast, dataset, inference

SCALES, REPETITIONS, SMALL = (1, 10), 3, "bench.small"
STAGES = {"dataset": "build-dataset", "inference": "run-batch-infer", "contrast": "build-contrast"}
TABLES = {"clustered": workload.clustered, "shuffled": workload.shuffled}


def hold(home: Home, order: str) -> None:
    """Make the tables of an order, and a small one that loads what a stage needs."""
    home.hold(SMALL, islice(workload.clustered(), 1))
    for scale in SCALES:
        home.hold(f"bench.{order}{scale}", TABLES[order](scale))


def once(home: Home, stage: str, table: str) -> None:
    """Run a stage over a table."""
    if stage == "dataset":
        home.build_dataset(dataset(table))
    elif stage == "contrast":
        home.build_contrast(contrast(table))
    else:
        home.infer(inference(table), home.run(inference(table)))


def measure() -> list[Row]:
    """Measure all stages on a clustered table, and two of them on a shuffled one."""
    lines = []
    for order, stages in {"clustered": list(STAGES), "shuffled": ["dataset", "inference"]}.items():
        with tempfile.TemporaryDirectory() as folder:
            in_a_process(__file__, folder, "hold", order)
            for stage in stages:
                lines += grown(Path(folder), stage, order)
    return lines


def grown(folder: Path, stage: str, order: str) -> list[Row]:
    """Measure a stage on a table and on its tenfold."""
    found: dict[int, list[dict[str, float]]] = {scale: [] for scale in SCALES}
    for _ in range(REPETITIONS):  # the scales take turns
        for scale in SCALES:
            found[scale].append(in_a_process(__file__, folder, stage, f"bench.{order}{scale}"))
    one, ten = (
        {name: statistics.median(run[name] for run in found[scale]) for name in ("cpu", "peak", "resting")}
        for scale in SCALES
    )
    path = f"{STAGES[stage]}, {order}"
    memory = f" ({one['peak']:.0f} -> {ten['peak']:.0f} MB, at rest {ten['resting']:.0f})"
    cpu = f" ({one['cpu']:.2f} -> {ten['cpu']:.2f} s)"
    return [
        at_most(f"{path}: CPU per decision at 10x", "1x", ten["cpu"] / SCALES[-1] / one["cpu"], 1.15, cpu),
        at_most(f"{path}: peak memory at 10x", "1x", ten["peak"] / one["peak"], 1.25, memory),
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        home, (what, name) = Home(Path(sys.argv[1])), sys.argv[2:]
        if what == "hold":
            report_process(lambda: hold(home, name))
        else:
            report_process(lambda: once(home, what, name), warm_up=lambda: once(home, what, SMALL))
    else:
        show(measure())
