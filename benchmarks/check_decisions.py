"""Checking the decision-table contract beside reading the same columns, in one run.

200,000 decisions of 20,000 individuals, 2 to 10 choices and 20 features each. CPU time: medians of alternating repetitions.
"""

import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.contract import Rules, check_decisions
from resources.environments import local_resources
from resources.tables import SOURCE

DECISIONS, INDIVIDUALS, MAX_CHOICES, FEATURES, REPETITIONS = 200_000, 20_000, 10, 20, 5
NAMES = tuple(f"x{number:02d}" for number in range(FEATURES))


def table(missing: float) -> pa.Table:
    """Make seeded decisions, clustered; a share of the feature values is null."""
    random = np.random.default_rng(0)
    counts = random.integers(2, MAX_CHOICES + 1, DECISIONS)
    decision = np.repeat(np.arange(DECISIONS), counts)
    rows, starts = len(decision), np.cumsum(counts) - counts
    selected = np.zeros(rows, np.bool_)
    selected[starts + random.integers(0, counts)] = True
    individual = decision // (DECISIONS // INDIVIDUALS)
    keys = {"_individual": individual, "_decision": decision, "_choice": np.arange(rows) - starts[decision]}
    flags = {"_selected": selected, "_train": individual % 5 > 0}
    features = {name: pa.array(random.normal(size=rows), mask=random.random(rows) < missing) for name in NAMES}
    return pa.table({**keys, **flags, **features})


def spelt(source: pa.Table) -> pa.Table:
    """Make the individuals' ids texts."""
    ids = pc.binary_join_element_wise("person", pc.cast(source["_individual"], pa.string()), " ")
    return source.set_column(0, "_individual", ids)


def cpu_seconds(source: pa.Table, rules: Rules, home: Path) -> tuple[float, float]:
    """Return the median CPU times of reading a table and of checking what was read, in seconds."""
    store = local_resources(home)["tables"]
    store.ensure("benchmark.decisions", source.schema, kind=SOURCE)
    pin = store.replace("benchmark.decisions", [store.stage("benchmark.decisions", [source])], None)
    times = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        batches = list(store.batches(pin))
        read = time.process_time()
        outcome = check_decisions(batches, rules).outcome
        assert (outcome.violations, outcome.decisions) == ((), DECISIONS)  # noqa: S101
        times.append((read - began, time.process_time() - read))
    return statistics.median(read for read, _ in times), statistics.median(check for _, check in times)


def main() -> None:
    """Print the table."""
    plain, missing = Rules(features=NAMES), Rules(features=NAMES, missing_values_map=dict.fromkeys(NAMES, 0.0))
    clustered = table(0.0)
    order = pa.array(np.random.default_rng(1).permutation(len(clustered)))
    cases = {
        "clustered": (clustered, plain),
        "clustered, 1% missing values": (table(0.01), missing),
        "clustered, individuals as text": (spelt(clustered), plain),
        "shuffled": (clustered.take(order), plain),
    }
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}")
    print(f"{f'{len(clustered):,} rows x {FEATURES + 5} columns':<40}{'read, s CPU':>14}{'check, s CPU':>14}{'ratio':>8}")
    for name, (source, rules) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            read, check = cpu_seconds(source, rules, Path(folder))
        print(f"{name:<40}{read:>14.3f}{check:>14.3f}{check / read:>8.2f}")
    print("the goal for the clustered table is at most 0.40")


if __name__ == "__main__":
    main()
