"""Evaluation: how well utilities explain the selected choices, the one place that says so for training, reports, inference.

A block of whole individuals is measured as sums, the sums of blocks add up, and the numbers that people read are made of the
sums at the end; so a split of any size is evaluated in the memory of one block. Everything works on flat rows in float64: no
padding, one `numpy.ufunc.reduceat` per quantity.

Sources: D. McFadden, Conditional logit analysis of qualitative choice behavior, 1974 (NLL, rho-squared); M. P. Naeini,
G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, 2015 (calibration error).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from mimic_core.alternatives import AlternativeSums, add_alternatives, shares_of_rows, sum_alternatives
from mimic_core.rows import Float64, Int64, Rows

BINS = 15  # of equal width, between probability 0 and 1


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well utilities explain the selected choices of some decisions.

    Means over decisions are weighted by the decisions' weights, which are 1 without `_weight`. A decision of weight 0 has no
    influence on any mean.

    Attributes:
        decisions: number of decisions, whatever their weight.
        individuals: number of individuals, likewise.
        nll: mean negative log-likelihood per decision, in nats.
        null_nll: the same for the uniform choice over the offered alternatives.
        rho_squared: McFadden's 1 - nll / null_nll; None where every decision offers one choice.
        accuracy: share of decisions whose selected choice has the highest utility; ties share the credit.
        top_3_accuracy, top_5_accuracy: the same for the three and five highest; None where no decision offers more choices.
        d_nlp: mean over individuals of the mean log-probability of their selected choices, in nats; 0 or less, higher is
            better. An individual counts by the mean weight of its decisions, those of weight 0 left out.
        contrast_d_nlp: the same with, for a decision, the mean over its rejected choices of the log-probability of the
            selected one of the two; None where every decision offers one choice.
        calibration_error: expected calibration error over rows, in 15 bins of equal width.
        shares_nll: mean negative log-likelihood of choosing by given shares of the alternatives; None without shares or
            labels, or where an alternative without a share is selected.
    """

    decisions: int
    individuals: int
    nll: float
    null_nll: float
    rho_squared: float | None
    accuracy: float
    top_3_accuracy: float | None
    top_5_accuracy: float | None
    d_nlp: float
    contrast_d_nlp: float | None
    calibration_error: float
    shares_nll: float | None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured of whole individuals, as sums; those of disjoint individuals are added by `add_measured`.

    Attributes:
        decisions, individuals: how many.
        most_choices: most choices that a decision of positive weight offers.
        weight: of the decisions.
        loss, null_loss: weighted negative log-likelihood, of the utilities and of the uniform choice.
        top_1, top_3, top_5: weighted credit for a selected choice among so many highest.
        individual_weight: sum over individuals of the mean weight of their decisions.
        individual_log_likelihood: sum over individuals of that weight times their mean log-probability.
        contrast_weight, contrast_log_likelihood: the same over contrasts.
        bin_weight: (15,) of the rows of each bin of probability; a row has the weight of its decision.
        bin_probability, bin_selected: (15,) the same times their probability, and of those selected.
        bin_variance: (15,) sum over rows of w^2 P (1 - P), the variance of the difference of these two if all P are true.
        shares_loss: weighted negative log-likelihood of given shares, infinite where they exclude a selected choice; None
            without shares or labels.
        alternatives: sums by alternative; None without labels.
    """

    decisions: int = 0
    individuals: int = 0
    most_choices: int = 0
    weight: float = 0.0
    loss: float = 0.0
    null_loss: float = 0.0
    top_1: float = 0.0
    top_3: float = 0.0
    top_5: float = 0.0
    individual_weight: float = 0.0
    individual_log_likelihood: float = 0.0
    contrast_weight: float = 0.0
    contrast_log_likelihood: float = 0.0
    bin_weight: Float64 = field(default_factory=lambda: np.zeros(BINS))
    bin_probability: Float64 = field(default_factory=lambda: np.zeros(BINS))
    bin_selected: Float64 = field(default_factory=lambda: np.zeros(BINS))
    bin_variance: Float64 = field(default_factory=lambda: np.zeros(BINS))
    shares_loss: float | None = None
    alternatives: AlternativeSums | None = None


def evaluate(rows: Rows, utility: Float64, shares: Mapping[int, float] | None = None) -> Evaluation | None:
    """Evaluate utilities on decisions; arguments and result as `measure` and `combine` have them.

    >>> rows = Rows(
    ...     individual=np.array([1, 1, 2, 2]), decision=np.zeros(4, int), choice=np.array([0, 1, 0, 1]),
    ...     selected=np.array([True, False, False, True]), x=np.zeros((4, 0), np.float32), starts=np.array([0, 2]),
    ... )
    >>> found = evaluate(rows, np.zeros(4))
    >>> found.rho_squared, found.accuracy
    (0.0, 0.5)
    """
    return combine([measure(rows, utility, shares)])


def measure(rows: Rows, utility: Float64, shares: Mapping[int, float] | None = None) -> Measured:
    """Measure how well utilities explain the selected choices of whole individuals.

    Args:
        rows: exactly one selected in each decision.
        utility: (rows,) finite; anything that is to be added to it is added already.
        shares: of each alternative, by its code, such as `mimic_core.alternatives.shares_of` the training split.
    """
    if not rows.decisions:
        return Measured()
    starts, counts, selected = rows.starts, rows.counts, rows.selected
    weight = rows.weights  # (decisions,)
    row_weight = np.repeat(weight, counts)
    first = rows.first_decisions  # (individuals,)
    chosen, highest = utility[selected], np.maximum.reduceat(utility, starts)
    share = np.exp(utility - np.repeat(highest, counts))
    total = np.add.reduceat(share, starts)
    probability = share / np.repeat(total, counts)
    log_probability = chosen - highest - np.log(total)
    gap = utility - np.repeat(chosen, counts)
    above = np.add.reduceat(gap > 0, starts, dtype=np.int64)
    tied = np.maximum(np.add.reduceat(gap == 0, starts, dtype=np.int64), 1)  # 0 where a utility is not finite
    top_1, top_3, top_5 = (_total(weight * np.clip((k - above) / tied, 0, 1)) for k in (1, 3, 5))
    individual_weight, individual_log_likelihood = _over_individuals(log_probability, weight, first)
    contrast_weight, contrast_log_likelihood = _over_individuals(_over_contrasts(gap, rows), weight * (counts > 1), first)
    bins = np.fmin(BINS * probability, BINS - 1).astype(np.int64)
    weighted = row_weight * probability
    return Measured(
        decisions=rows.decisions,
        individuals=len(first),
        most_choices=int(counts[weight > 0].max(initial=0)),
        weight=_total(weight),
        loss=0.0 - _total(weight * log_probability),  # not -0.0, which would be shown
        null_loss=_total(weight * np.log(counts)),
        top_1=top_1,
        top_3=top_3,
        top_5=top_5,
        individual_weight=individual_weight,
        individual_log_likelihood=individual_log_likelihood,
        contrast_weight=contrast_weight,
        contrast_log_likelihood=contrast_log_likelihood,
        bin_weight=_by_bin(bins, row_weight),
        bin_probability=_by_bin(bins, weighted),
        bin_selected=_by_bin(bins[selected], weight),
        bin_variance=_by_bin(bins, row_weight * (weighted - weighted * probability)),
        shares_loss=_shares_loss(rows, weight, shares),
        alternatives=sum_alternatives(rows, weight, probability),
    )


def add_measured(parts: Iterable[Measured]) -> Measured:
    """Add what was measured of disjoint individuals."""
    found = [part for part in parts if part.decisions]
    if not found:
        return Measured()
    summed = {each.name: [getattr(part, each.name) for part in found] for each in fields(Measured)}
    most_choices, shares_loss, alternatives = (summed.pop(name) for name in ("most_choices", "shares_loss", "alternatives"))
    return Measured(
        **{name: sum(values) for name, values in summed.items()},
        most_choices=max(most_choices),
        shares_loss=None if None in shares_loss else sum(shares_loss),
        alternatives=add_alternatives(alternatives),
    )


def combine(parts: Iterable[Measured]) -> Evaluation | None:
    """Evaluate disjoint individuals from what was measured of them; None without decisions, or where all weights are 0."""
    found = add_measured(parts)
    if not found.weight:
        return None
    nll, null_nll = found.loss / found.weight, found.null_loss / found.weight
    shares_loss = found.shares_loss
    return Evaluation(
        decisions=found.decisions,
        individuals=found.individuals,
        nll=nll,
        null_nll=null_nll,
        rho_squared=1 - nll / null_nll if null_nll > 0 else None,
        accuracy=found.top_1 / found.weight,
        top_3_accuracy=found.top_3 / found.weight if found.most_choices > 3 else None,
        top_5_accuracy=found.top_5 / found.weight if found.most_choices > 5 else None,
        d_nlp=found.individual_log_likelihood / found.individual_weight,
        contrast_d_nlp=found.contrast_log_likelihood / found.contrast_weight if found.contrast_weight else None,
        calibration_error=_total(np.abs(found.bin_probability - found.bin_selected)) / _total(found.bin_weight),
        shares_nll=None if shares_loss is None or np.isinf(shares_loss) else shares_loss / found.weight,
    )


def calibration(measured: Measured) -> list[dict[str, float | None]]:
    """Return, for each of the 15 bins of probability, what a reliability diagram shows.

    Returns:
        Per bin the `weight` of its rows, the mean `probability` that they were given, and the share of them that was
        `selected`; both weighted, None where the bin is empty.
    """
    bins = zip(measured.bin_weight, measured.bin_probability, measured.bin_selected, strict=True)
    return [
        {
            "weight": float(weight),
            "probability": float(probability / weight) if weight else None,
            "selected": float(selected / weight) if weight else None,
        }
        for weight, probability, selected in bins
    ]


def log_sum_exp(utility: Float64, starts: Int64) -> Float64:
    """Return (decisions,) log of the sum of exp(utility) over each decision's rows, without overflow."""
    highest = np.maximum.reduceat(utility, starts)
    counts = np.diff(np.append(starts, len(utility)))
    return np.asarray(highest + np.log(np.add.reduceat(np.exp(utility - np.repeat(highest, counts)), starts)))


def named(evaluation: Evaluation | None, split: str, *, composite: bool = False) -> dict[str, float | int | None]:
    """Return an evaluation as numbers named after its split, such as `test_nll`; empty for None.

    Args:
        composite: whether the decisions make a composite likelihood, of which rho-squared is withheld.
    """
    if evaluation is None:
        return {}
    withheld = {"rho_squared": None} if composite else {}
    return {f"{split}_{name}": value for name, value in (asdict(evaluation) | withheld).items()}


def _over_individuals(values: Float64, weight: Float64, first: Int64) -> tuple[float, float]:
    """Sum over individuals their mean weight, and that times their weighted mean value.

    Args:
        values, weight: (decisions,); those of weight 0 are left out.
        first: (individuals,) the first decision of each.
    """
    counted = np.maximum(np.add.reduceat(weight > 0, first, dtype=np.int64), 1)  # where none is, the sums are 0
    # mean weight times weighted mean is sum(w) / n * sum(w v) / sum(w)
    mean_weight, weighted = (_total(np.add.reduceat(each, first) / counted) for each in (weight, weight * values))
    return mean_weight, weighted


def _over_contrasts(gap: Float64, rows: Rows) -> Float64:
    """Return (decisions,) the mean log-probability of the selected choice in the pairs that it makes with rejected ones.

    Args:
        gap: (rows,) utility less that of the selected choice.
    """
    loss = np.maximum(gap, 0) + np.log1p(np.exp(-np.abs(gap)))  # -log sigmoid(-gap); logaddexp takes three times as long
    loss[rows.selected] = 0.0
    return -np.add.reduceat(loss, rows.starts) / np.maximum(rows.counts - 1, 1)


def _shares_loss(rows: Rows, weight: Float64, shares: Mapping[int, float] | None) -> float | None:
    if shares is None or rows.alternative is None:
        return None
    share = shares_of_rows(rows.alternative, shares)
    chosen, offered = share[rows.selected], np.add.reduceat(share, rows.starts)
    if (weight[chosen <= 0] > 0).any():
        return float("inf")
    used = chosen > 0
    return _total(weight[used] * np.log(offered[used] / chosen[used]))


def _by_bin(bins: Int64, weights: Float64) -> Float64:
    return np.asarray(np.bincount(bins, weights=weights, minlength=BINS), np.float64)


def _total(values: Float64) -> float:
    """Sum values; a dot product of such lengths would start threads, and take four times as long where cores are shared."""
    return float(values.sum())
