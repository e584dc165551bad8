"""Leaderboard: several runs ranked on the same decisions, with intervals from one bootstrap over individuals.

All runs are judged on the same resamples, so that a difference of two of them has an interval of its own, which is often
much narrower than those of the runs. `mimic_core.comparison` has the method and its source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mimic_core.comparison import INTERVAL, column, comparable, resampled_sums
from mimic_core.rows import Float64, Int64

RESAMPLES = 2000
MOST_EXTREME = 10  # individuals on either side that are named


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with the ends of its 95% percentile interval, None where there are not two individuals to draw from."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one run does.

    Attributes:
        run: its place among the runs that were given.
        nll: mean negative log-likelihood per decision, weighted; lower is better.
        difference: its NLL less that of the best run; None for the best one.
        d_nlp: mean over individuals of their mean log-probability; higher is better.
    """

    run: int
    nll: Interval
    difference: Interval | None
    d_nlp: Interval


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Runs on the same decisions, that of the lowest NLL first; decisions of weight 0 are left out."""

    individuals: int
    decisions: int
    resamples: int
    seed: int
    standings: tuple[Standing, ...]


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """An individual that one of two runs explains much better."""

    individual: int
    decisions: int
    difference: float


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Two runs, individual by individual; the difference is of their mean log-likelihood per decision, first less second.

    Attributes:
        first_better, second_better, equal: numbers of individuals.
        share: of the individuals that the first run explains better; those that both explain equally count half.
        differences: (individuals,) ascending, in nats per decision.
        first_most, second_most: those that a run explains better by most, the first of them most.
    """

    first_better: int
    second_better: int
    equal: int
    share: Interval
    differences: Float64
    first_most: tuple[Extreme, ...]
    second_most: tuple[Extreme, ...]


def rank(tables: Sequence[pa.Table], *, resamples: int = RESAMPLES, seed: int = 0) -> Leaderboard:
    """Rank runs by their NLL; those that have the same stay in the order that is given.

    Args:
        tables: of each run, as `mimic_core.comparison.individual_sums` makes them, of the same decisions.
    """
    tables = [comparable(table) for table in tables]
    counted, weight = (column(tables[0], name) for name in ("decisions", "weight"))
    values = np.column_stack([column(table, "log_likelihood") for table in tables])  # (individuals, runs)
    runs = values.shape[1]
    sums = np.column_stack([-values, values / counted[:, None], weight, weight / counted])
    whole = _means(sums.sum(axis=0)[None], runs)[0]  # (2, runs): NLL, D-NLP
    drawn = _means(resampled_sums(sums, resamples, seed), runs) if len(counted) > 1 else None
    order = np.argsort(whole[0], kind="stable")
    best = order[0]

    def interval(number: int, run: int, less: int | None = None) -> Interval:
        value = whole[number, run] - (0 if less is None else whole[number, less])
        spread = None if drawn is None else drawn[:, number, run] - (0 if less is None else drawn[:, number, less])
        return _interval(float(value), spread)

    return Leaderboard(
        individuals=len(counted),
        decisions=int(counted.sum()),
        resamples=resamples,
        seed=seed,
        standings=tuple(
            Standing(
                run=int(run),
                nll=interval(0, run),
                difference=None if run == best else interval(0, run, best),
                d_nlp=interval(1, run),
            )
            for run in order
        ),
    )


def contest(first: pa.Table, second: pa.Table, *, resamples: int = RESAMPLES, seed: int = 0) -> Contest:
    """Say which individuals each of two runs explains better; arguments as those of `rank`."""
    first, second = comparable(first), comparable(second)
    individual: Int64 = np.asarray(first["individual"])
    counted, weight = (column(first, name) for name in ("decisions", "weight"))
    difference = (column(first, "log_likelihood") - column(second, "log_likelihood")) / weight
    credit = (1 + np.sign(difference)) / 2
    drawn = resampled_sums(credit[:, None], resamples, seed)[:, 0] / len(credit) if len(credit) > 1 else None
    order = np.lexsort((individual, difference))

    def extremes(places: Int64) -> tuple[Extreme, ...]:
        return tuple(
            Extreme(individual=int(individual[at]), decisions=int(counted[at]), difference=float(difference[at]))
            for at in places
        )

    best, worst = order[::-1][:MOST_EXTREME], order[:MOST_EXTREME]
    return Contest(
        first_better=int((difference > 0).sum()),
        second_better=int((difference < 0).sum()),
        equal=int((difference == 0).sum()),
        share=_interval(float(credit.mean()), drawn),
        differences=difference[order],
        first_most=extremes(best[difference[best] > 0]),
        second_most=extremes(worst[difference[worst] < 0]),
    )


def _means(sums: Float64, runs: int) -> Float64:
    """Return (resamples, 2, runs) NLL and D-NLP from their sums and those of the weights."""
    nll, d_nlp = sums[:, :runs] / sums[:, -2:-1], sums[:, runs:-2] / sums[:, -1:]
    return np.stack([nll, d_nlp], axis=1)


def _interval(value: float, drawn: Float64 | None) -> Interval:
    if drawn is None:
        return Interval(value=value, low=None, high=None)
    low, high = np.quantile(drawn, INTERVAL)
    return Interval(value=value, low=float(low), high=float(high))
