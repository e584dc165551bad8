"""Encoding decisions as TFRecords: mimic's template encoder beside one tf.train.Example per decision, in one run.

CPU time, median of five; the baseline is timed on a sample of the same decisions and both are given per decision.
"""

import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mimic_core import records
from mimic_core.rows import Rows

DECISIONS, SAMPLE, MAX_CHOICES, FEATURES, REPETITIONS = 100_000, 2_000, 10, 20, 5


def decisions(count: int) -> Rows:
    """Make seeded decisions with 2 to 10 choices."""
    random = np.random.default_rng(0)
    counts = random.integers(2, MAX_CHOICES + 1, count)
    starts = np.cumsum(counts) - counts
    rows = int(counts.sum())
    selected = np.zeros(rows, np.bool_)
    selected[starts + random.integers(0, counts)] = True
    return Rows(
        individual=np.repeat(np.arange(count) // 10, counts),
        decision=np.repeat(np.arange(count), counts),
        choice=np.arange(rows) - np.repeat(starts, counts),
        selected=selected,
        x=random.normal(size=(rows, FEATURES)).astype(np.float32),
        starts=starts,
    )


def one_example_each(rows: Rows) -> None:
    """The usual way: pad, make a message, serialise."""
    for start, count in zip(rows.starts, rows.counts, strict=True):
        x = np.zeros((MAX_CHOICES, FEATURES), np.float32)
        x[:count] = rows.x[start : start + count]
        choices = np.zeros(MAX_CHOICES, np.int64)
        choices[:count] = rows.choice[start : start + count]
        integers = {
            "n_choices": [count],
            "selected": [int(np.argmax(rows.selected[start : start + count]))],
            "individual": [rows.individual[start]],
            "decision": [rows.decision[start]],
            "choices": choices,
        }
        feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for name, v in integers.items()}
        feature["x"] = tf.train.Feature(float_list=tf.train.FloatList(value=x.ravel()))
        tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def cpu_per_decision(work: Callable[[], object], count: int) -> float:
    """Return the median CPU time per decision, in microseconds."""
    times = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) / count * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    rows, sample = decisions(DECISIONS), decisions(SAMPLE)
    ours = cpu_per_decision(lambda: sum(map(len, records.encode(rows, MAX_CHOICES))), DECISIONS)
    usual = cpu_per_decision(lambda: one_example_each(sample), SAMPLE)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"{'encoder':<40}{'us CPU per decision':>20}")
    print(f"{'tf.train.Example per decision':<40}{usual:>20.2f}")
    print(f"{'mimic_core.records.encode, framed':<40}{ours:>20.2f}")
    print(f"ratio {usual / ours:.1f}x")


if __name__ == "__main__":
    main()
