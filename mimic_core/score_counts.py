"""Score counts: how many rows of an inference have which probability and log-odds, and whether probabilities sum to one."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mimic_core.errors import TrainingError
from mimic_core.rows import Bool, Float64, Int64

KINDS = ("selected", "rejected", "not known")  # the last where a decision has not exactly one selected row
BINS = 40
REACH = 10.0  # log-odds beyond are counted in the outermost bins
TOLERANCE = 1e-6  # of the sum of a decision's probabilities


def _none() -> Int64:
    return np.zeros((len(KINDS), BINS), np.int64)


@dataclass(frozen=True, kw_only=True)
class ScoreCounts:
    """What was counted of some rows; counts of disjoint decisions are added by `add_counts`.

    Attributes:
        probability: (kinds, bins) rows by kind, in bins of equal width from 0 to 1.
        log_odds: (kinds, bins) the same from -`REACH` to `REACH`, of those that are finite.
        infinite: (kinds,) rows without alternatives, whose log-odds are infinite.
        decisions: how many.
        off: of how many of them the probabilities do not sum to one.
        largest_difference: between such a sum and one, over all decisions.
    """

    probability: Int64 = field(default_factory=_none)
    log_odds: Int64 = field(default_factory=_none)
    infinite: Int64 = field(default_factory=lambda: np.zeros(len(KINDS), np.int64))
    decisions: int = 0
    off: int = 0
    largest_difference: float = 0.0


def count_scores(rows: pa.Table, starts: Int64, selected: Bool) -> ScoreCounts:
    """Count the rows of an inference.

    Args:
        rows: whole decisions, with their `probability` and `log_odds`.
        starts: (decisions,) the first row of each.
        selected: (rows,).
    """
    if not len(rows):
        return ScoreCounts()
    probability, log_odds = (rows[name].to_numpy() for name in ("probability", "log_odds"))
    difference = np.abs(np.add.reduceat(probability, starts) - 1)
    off = int((~(difference <= TOLERANCE)).sum())  # so those that are NaN are too
    if off:
        probability = np.nan_to_num(probability)
    finite = np.isfinite(log_odds)
    kind = _kinds(starts, selected)
    shifted = np.clip(log_odds if finite.all() else log_odds[finite], -REACH, REACH) + REACH
    return ScoreCounts(
        probability=_by_kind(kind, probability * BINS),
        log_odds=_by_kind(kind if finite.all() else kind[finite], shifted * (BINS / (2 * REACH))),
        infinite=np.bincount(kind[~finite], minlength=len(KINDS)),
        decisions=len(starts),
        off=off,
        largest_difference=float(difference.max()),
    )


def add_counts(parts: Iterable[ScoreCounts]) -> ScoreCounts:
    """Add the counts of disjoint decisions."""
    every = [ScoreCounts(), *parts]
    return ScoreCounts(
        probability=np.sum([part.probability for part in every], axis=0),
        log_odds=np.sum([part.log_odds for part in every], axis=0),
        infinite=np.sum([part.infinite for part in every], axis=0),
        decisions=sum(part.decisions for part in every),
        off=sum(part.off for part in every),
        largest_difference=float(np.max([part.largest_difference for part in every])),  # NaN if one of them is
    )


def require_sums_of_one(found: ScoreCounts, run_id: str) -> None:
    """Refuse probabilities that are none.

    Raises:
        TrainingError: those of a decision do not sum to one.
    """
    if found.off:
        raise TrainingError(
            f"run {run_id} gives {found.off:,} of {found.decisions:,} decisions probabilities that do not sum to 1, but are "
            f"up to {found.largest_difference:.3g} off, expected at most {TOLERANCE:g}; nothing was published. Look for "
            "features far outside the training data, or train the run again"
        )


def _kinds(starts: Int64, selected: Bool) -> Int64:
    """Return (rows,) places in `KINDS`."""
    kind = 1 - selected.astype(np.int64)
    unlabelled = np.add.reduceat(selected, starts, dtype=np.int64) != 1  # (decisions,)
    if unlabelled.any():
        kind[np.repeat(unlabelled, np.diff(np.append(starts, len(selected))))] = KINDS.index("not known")
    return kind


def _by_kind(kind: Int64, places: Float64) -> Int64:
    """Count (rows,) rows by kind and bin; `places` are from 0 to the number of bins."""
    bins = np.minimum(places.astype(np.int64), BINS - 1)
    return np.bincount(kind * BINS + bins, minlength=len(KINDS) * BINS).reshape(len(KINDS), BINS)
