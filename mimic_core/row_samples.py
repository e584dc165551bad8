"""Row samples: the rows with the lowest hashes of their ids, the same however a table is divided over blocks and steps.

The lowest of all rows are the lowest of those that parts kept, so samples are joined by keeping the lowest again. See
docs/decisions/0025-quantiles-of-effects.md.
"""

import numpy as np
import numpy.typing as npt

from mimic_core.rows import Bool, Int64, Rows, hash64

UInt64 = npt.NDArray[np.uint64]

SPARE = 1.2  # times as many are kept by all steps together: of 60,000 expected ones 50,000 are there, 40 deviations away


def sample_rows(rows: Rows, most: int, table_rows: int | None = None, among: Bool | None = None) -> tuple[UInt64, Int64]:
    """Sample the rows of some decisions by a hash that has nothing to do with that of the shards.

    Args:
        most: how many rows a sample has, or fewer where there are no more.
        table_rows: how many rows all parts have together, or more; with it their samples together are bounded, not only
            each. Of fewer rows than that the sample is smaller in proportion.
        among: (decisions,) from which decisions; all of them unless told.

    Returns:
        (sampled,) hashes, ascending, and (sampled,) which rows.
    """
    starts, counts = rows.starts, rows.counts
    if among is not None:
        starts, counts = starts[among], counts[among]
    of_decision = hash64(rows.individual[starts], seed=1)
    of_decision = hash64(of_decision.view(np.int64) ^ rows.decision[starts], seed=1)  # (decisions,)
    choice, places = rows.choice, None
    if among is not None:
        places = np.flatnonzero(np.repeat(among, rows.counts))
        choice = choice[places]
    hashes = hash64(np.repeat(of_decision.view(np.int64), counts) ^ choice, seed=1)
    share = SPARE * most / max(table_rows or 0, 1)
    low = np.flatnonzero(hashes <= np.uint64(share * 2**64)) if table_rows and share < 1 else np.arange(len(hashes))
    kept = low[lowest(hashes[low], most)]
    return hashes[kept], kept if places is None else places[kept]


def lowest(hashes: UInt64, most: int) -> Int64:
    """Return (sampled,) where the lowest hashes are, ascending."""
    if len(hashes) <= most:
        return np.argsort(hashes, kind="stable")
    found = np.argpartition(hashes, most)[:most]
    return found[np.argsort(hashes[found])]
