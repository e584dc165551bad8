"""The standard workload of the benchmarks: seeded decision tables, clustered or shuffled, where some values are missing."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

DECISIONS, DECISIONS_PER_INDIVIDUAL, MAX_CHOICES, FEATURES, MISSING = 200_000, 10, 10, 20, 0.01
INDIVIDUALS_AT_ONCE = 1_000
NAMES = tuple(f"x{number:02d}" for number in range(FEATURES))


def clustered(scale: int = 1, missing: float = MISSING) -> Iterator[pa.Table]:
    """Make 200,000 decisions of 20,000 individuals with 2 to 10 choices each, or a multiple; in the order of their ids.

    A fifth of the individuals is for testing. The selected choices follow a conditional logit.
    """
    for first in range(0, scale * DECISIONS // DECISIONS_PER_INDIVIDUAL, INDIVIDUALS_AT_ONCE):
        random = np.random.default_rng([first, FEATURES])
        number = INDIVIDUALS_AT_ONCE * DECISIONS_PER_INDIVIDUAL
        counts = random.integers(2, MAX_CHOICES + 1, number)
        starts = np.cumsum(counts) - counts
        decision = np.repeat(np.arange(number), counts)
        x = random.normal(size=(FEATURES, len(decision)))
        utility = np.linspace(-1, 1, FEATURES) @ x + random.gumbel(size=len(decision))
        selected = utility == np.maximum.reduceat(utility, starts)[decision]
        individual = first + decision // DECISIONS_PER_INDIVIDUAL
        keys = {
            "_individual": individual,
            "_decision": decision % DECISIONS_PER_INDIVIDUAL,
            "_choice": np.arange(len(decision)) - starts[decision],
        }
        flags = {"_selected": selected, "_train": individual % 5 > 0}
        features = {
            name: pa.array(values, mask=random.random(len(decision)) < missing)
            for name, values in zip(NAMES, x, strict=True)
        }
        yield pa.table({**keys, **flags, **features})


def shuffled(scale: int = 1) -> Iterator[pa.Table]:
    """Make the rows of `clustered` in a seeded random order."""
    whole = pa.concat_tables(clustered(scale)).combine_chunks()
    order = np.random.default_rng(0).permutation(len(whole))
    for start in range(0, len(whole), 65_536):
        yield whole.take(pa.array(order[start : start + 65_536]))
