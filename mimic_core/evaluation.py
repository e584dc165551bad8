"""Evaluation: log-likelihood and probabilities of decisions from utilities, used by training, reports and inference alike.

Everything works on flat rows in float64: no padding, one `numpy.ufunc.reduceat` per quantity.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from mimic_core.rows import Bool, Float64, Int64


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well utilities explain the selected choices of some decisions.

    Attributes:
        decisions: number of decisions.
        nll: mean negative log-likelihood per decision, in nats.
        null_nll: the same for the uniform choice over the offered alternatives.
        rho_squared: McFadden's 1 - nll / null_nll; None where every decision offers one choice.
        accuracy: share of decisions whose selected choice has the highest utility; ties share the credit.
    """

    decisions: int
    nll: float
    null_nll: float
    rho_squared: float | None
    accuracy: float


def evaluate(utility: Float64, selected: Bool, starts: Int64) -> Evaluation | None:
    """Evaluate utilities on decisions.

    Args:
        utility: (rows,) finite.
        selected: (rows,) exactly one true per decision.
        starts: (decisions,) first row of each decision.

    Returns:
        None when there are no decisions.

    Source: D. McFadden, Conditional logit analysis of qualitative choice behavior, 1974.

    >>> evaluate(np.zeros(4), np.array([True, False, False, True]), np.array([0, 2])).rho_squared
    0.0
    """
    if not len(starts):
        return None
    counts = np.diff(np.append(starts, len(utility)))
    nll = float(np.mean(log_sum_exp(utility, starts) - utility[selected]))
    null_nll = float(np.mean(np.log(counts)))
    best = np.repeat(np.maximum.reduceat(utility, starts), counts) == utility
    credit = best[selected] / np.add.reduceat(best.astype(np.float64), starts)
    return Evaluation(
        decisions=len(starts),
        nll=nll,
        null_nll=null_nll,
        rho_squared=1 - nll / null_nll if null_nll > 0 else None,
        accuracy=float(credit.mean()),
    )


def log_sum_exp(utility: Float64, starts: Int64) -> Float64:
    """Return (decisions,) log of the sum of exp(utility) over each decision's rows, without overflow."""
    highest = np.maximum.reduceat(utility, starts)
    counts = np.diff(np.append(starts, len(utility)))
    return np.asarray(highest + np.log(np.add.reduceat(np.exp(utility - np.repeat(highest, counts)), starts)))


def combine(evaluations: Iterable[Evaluation]) -> Evaluation | None:
    """Combine evaluations of disjoint decisions; None when there are none."""
    parts = list(evaluations)
    decisions = sum(part.decisions for part in parts)
    if not decisions:
        return None
    nll, null_nll, accuracy = (
        sum(getattr(part, name) * part.decisions for part in parts) / decisions for name in ("nll", "null_nll", "accuracy")
    )
    rho_squared = 1 - nll / null_nll if null_nll > 0 else None
    return Evaluation(decisions=decisions, nll=nll, null_nll=null_nll, rho_squared=rho_squared, accuracy=accuracy)


def named(evaluation: Evaluation | None, split: str) -> dict[str, float | int | None]:
    """Return an evaluation as numbers named after its split, such as `test_nll`; empty for None."""
    if evaluation is None:
        return {}
    return {f"{split}_{name}": value for name, value in asdict(evaluation).items()}
