"""Sampling of alternatives: weighted draws with the log-probabilities that correct for them, and uniform samples.

Where sets of choices are sampled, the conditional logit on them is consistent if the log-probability of drawing the set, had
this choice been the selected one, is added to the utility of each choice while training. Of a uniform sample it is the same
for all choices and cancels.

Source: D. McFadden, Modelling the choice of residential location, 1978 (positive and uniform conditioning property).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mimic_core.inferences import choice_probabilities
from mimic_core.rows import Bool, Float64, Int64, Rows, hash64

UNITS = 2.0**32  # the largest weight among a decision's rejected choices, as an integer

UInt64 = npt.NDArray[np.uint64]


def hash_below(above: UInt64, values: Int64) -> UInt64:
    """Return (n,) hashes of ids with (n,) the hashes of what stands above them: a choice below its decision."""
    return hash64((above ^ values.view(np.uint64)).view(np.int64))


def hash_decisions(rows: Rows, seed: int) -> UInt64:
    """Return (decisions,) hashes of seed, individual and decision."""
    return hash_below(hash64(rows.individual[rows.starts], seed), rows.decision[rows.starts])


@dataclass(frozen=True, kw_only=True)
class WeightedChoices:
    """The choices of decisions with weights, in proportion to which rejected ones are drawn.

    For the draws weights are integers, so that sums over earlier decisions are exact and a draw depends on its own alone.

    Attributes:
        rejected: (rejected choices,) their rows, in the order of the rows.
        until: (rejected choices,) sum of the integer weights of all that come before, and its own.
        before, total: (decisions,) that sum over all earlier decisions, and over its own rejected choices.
        log_weight: (rows,) ln(w_i).
        log_others: (rows,) ln(W - w_i), with W the sum of the weights over the whole decision.
    """

    rejected: Int64
    until: Int64
    before: Int64
    total: Int64
    log_weight: Float64
    log_others: Float64

    def draw(self, decision: Int64, hashes: UInt64) -> Int64:
        """Return (draws,) rows drawn from (draws,) decisions that have a rejected choice, by uniform hashes."""
        # the remainder of a hash favours some rows by a share of total / 2^64, of 1,000 choices at most 2^-22
        position = (hashes % self.total[decision].view(np.uint64)).view(np.int64)
        return self.rejected[np.searchsorted(self.until, self.before[decision] + position, side="right")]

    def log_probabilities(self, pairs: Int64) -> Float64:
        """Return the log-probability with which each row of a pair would have drawn the other, had it been the selected one.

        It is ln(w_j / (W - w_i)) for row i of the pair {i, j}.

        Args:
            pairs: (2 * pairs,) the two rows of each pair, one after the other.

        Returns:
            (2 * pairs,) in nats, in the order of `pairs`.

        >>> three = Rows(
        ...     individual=np.zeros(3, int), decision=np.zeros(3, int), choice=np.arange(3), selected=np.arange(3) == 0,
        ...     x=np.empty((3, 0), np.float32), starts=np.array([0]),
        ... )
        >>> weighted_choices(three, np.array([0.8, 0.15, 0.05])).log_probabilities(np.array([0, 1])).round(4)
        array([-0.2877, -0.0606])
        """
        other = pairs.reshape(-1, 2)[:, ::-1].ravel()
        return np.asarray(self.log_weight[other] - self.log_others[pairs])


def weighted_choices(rows: Rows, weight: Float64) -> WeightedChoices:
    """Prepare the draws from decisions.

    Args:
        rows: decisions with one selected row each.
        weight: (rows,) positive and finite.
    """
    rejected, rejections = np.flatnonzero(~rows.selected), rows.counts - 1
    largest = np.maximum.reduceat(np.where(rows.selected, 0.0, weight), rows.starts)
    share = weight[rejected] / np.repeat(largest, rejections)
    until = np.cumsum(np.maximum(np.rint(share * UNITS).astype(np.int64), 1))
    ends = np.append(0, until)[np.cumsum(rejections)]  # (decisions,)
    before = np.append(0, ends[:-1])
    log_weight = np.log(weight)
    # a difference W - w_i would lose its digits where w_i is nearly all of W; these log-odds ln(w_i / (W - w_i)) do not
    _, _, log_odds = choice_probabilities(log_weight, rows.starts)
    return WeightedChoices(
        rejected=rejected,
        until=until,
        before=before,
        total=ends - before,
        log_weight=log_weight,
        log_others=log_weight - log_odds,
    )


def within(rows: Rows, most: int, seed: int) -> Bool:
    """Return (rows,) which rows stay where a larger decision keeps its selected choice and a uniform sample of the others.

    The others are those of the lowest hashes of (seed, individual, decision, choice), so what is kept of a decision depends
    on nothing outside it.

    Args:
        most: choices that a decision may keep, the selected one among them.
    """
    decision = np.repeat(np.arange(rows.decisions), rows.counts)  # (rows,)
    large = rows.counts > most
    row = np.flatnonzero(large[decision])
    hashes = hash_below(hash_decisions(rows, seed)[decision[row]], rows.choice[row])
    ordered = row[np.lexsort((hashes, ~rows.selected[row], decision[row]))]
    counts = rows.counts[large]
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.ones(len(rows), np.bool_)
    kept[ordered[rank >= most]] = False
    return kept
