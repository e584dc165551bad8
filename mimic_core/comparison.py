"""Comparison: whether one run explains the same decisions better than another, by a paired bootstrap over individuals.

The decisions of an individual are not independent, and both runs are judged on the same ones; so individuals are drawn with
replacement, each with what both runs say of it, and the differences of the runs in such resamples give the interval.

Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13 (percentile intervals).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import SpecError
from mimic_core.evaluation import log_sum_exp
from mimic_core.rows import Float64, Rows

SCHEMA = pa.schema(
    [("individual", pa.int64()), ("decisions", pa.int64()), ("weight", pa.float64()), ("log_likelihood", pa.float64())]
)
INTERVAL = (0.025, 0.975)
ROUNDING = 1e-6  # of weights in float32 that are scaled
DRAWS_AT_ONCE = 2**20  # individuals in the resamples that are made together: 24 MB


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number of two runs, and what is known of its difference.

    Attributes:
        first, second: of the runs.
        difference: first - second.
        low, high: ends of the 95% percentile interval of the difference.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two runs differ on the same decisions; those of weight 0 are left out.

    Attributes:
        individuals, decisions, resamples: how many.
        nll: mean negative log-likelihood per decision, weighted; lower is better.
        d_nlp: mean over individuals of their mean log-probability; higher is better.
        first_better: share of the resamples in which the first run has the lower NLL.
    """

    individuals: int
    decisions: int
    resamples: int
    nll: Difference
    d_nlp: Difference
    first_better: float


def individual_sums(rows: Rows, utility: Float64) -> pa.Table:
    """Return what a comparison needs of each individual of a block; blocks of disjoint individuals are concatenated.

    Args:
        rows: whole individuals, exactly one row selected in each decision.
        utility: (rows,) finite.

    Returns:
        Columns of `SCHEMA`, sorted by `individual`: the number of its `decisions` of positive weight, the sum of their
        `weight`, 1 each without weights, and of weight times log-probability of the selected choice, `log_likelihood`.
    """
    if not rows.decisions:
        return SCHEMA.empty_table()
    weight = rows.weights
    log_likelihood = weight * (utility[rows.selected] - log_sum_exp(utility, rows.starts))
    individuals = rows.individual[rows.starts]
    first = rows.first_decisions
    counted = np.add.reduceat(weight > 0, first, dtype=np.int64)
    sums = [np.add.reduceat(values, first) for values in (weight, log_likelihood)]
    return pa.table([individuals[first], counted, *sums], schema=SCHEMA)


def compare(first: pa.Table, second: pa.Table, *, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compare two runs on the same decisions.

    Args:
        first, second: columns as `individual_sums` makes them, of each run; an individual stands in one row.
        resamples: 1 or more.
        seed: of the resamples; the same one and the same individuals give the same interval.

    Raises:
        SpecError: the runs were not evaluated on the same decisions, or on those of one individual only.
    """
    first, second = comparable(first), comparable(second)
    if not same_decisions(first, second):
        raise SpecError(
            f"the runs were not evaluated on the same decisions: {_described(first)}, and {_described(second)}, and not all "
            "of the same number and weight; a comparison needs runs of one dataset and, for the splits that are made of its "
            "training individuals, of one validation share and seed"
        )
    individuals = len(first)
    if individuals < 2:
        raise SpecError(
            f"the runs were evaluated on {individuals} individuals of positive weight, expected at least 2: resamples of "
            "fewer are all the same; compare them on another split"
        )
    counted, weight = (column(first, name) for name in ("decisions", "weight"))
    # NLL and D-NLP as pairs of sums over individuals, numerator and denominator
    weights = np.column_stack([weight, weight / counted])  # (individuals, 2)
    values = [column(each, "log_likelihood") for each in (first, second)]
    both = [np.column_stack([-value, value / counted]) for value in values]
    differences = both[0] - both[1]
    sums = resampled_sums(np.hstack([differences, weights]), resamples, seed)
    drawn = sums[:, :2] / sums[:, 2:]
    low, high = np.quantile(drawn, INTERVAL, axis=0)
    total = weights.sum(axis=0)
    whole = [each.sum(axis=0) / total for each in (*both, differences)]
    nll, d_nlp = (
        Difference(**dict(zip(("first", "second", "difference", "low", "high"), map(float, numbers), strict=True)))
        for numbers in zip(*whole, low, high, strict=True)
    )
    return Comparison(
        individuals=individuals,
        decisions=int(counted.sum()),
        resamples=resamples,
        nll=nll,
        d_nlp=d_nlp,
        first_better=float((drawn[:, 0] < 0).mean()),
    )


def comparable(table: pa.Table) -> pa.Table:
    """Return what a run says of its individuals in their order, without those of weight 0, the weights of mean 1."""
    return _scaled(table.filter(pc.greater(table["decisions"], 0)).sort_by("individual"))


def same_decisions(first: pa.Table, second: pa.Table) -> bool:
    """Tell whether two runs were evaluated on the same decisions; both tables as `comparable` returns them."""
    same = len(first) == len(second) and all(first[name].equals(second[name]) for name in ("individual", "decisions"))
    return same and np.allclose(first["weight"], second["weight"], rtol=ROUNDING, atol=0)


def column(table: pa.Table, name: str) -> Float64:
    """Return (individuals,) a column of such a table."""
    return np.asarray(table[name]).astype(np.float64)


def resampled_sums(values: Float64, resamples: int, seed: int) -> Float64:
    """Sum over individuals that are drawn with replacement, as many as there are.

    Args:
        values: (individuals, columns).

    Returns:
        (resamples, columns), all columns of a row from the same individuals.
    """
    random = np.random.default_rng(seed)
    return np.concatenate([counts @ values for counts in _resampled(len(values), resamples, random)])


def _scaled(table: pa.Table) -> pa.Table:
    """Scale the weights to mean 1 per individual, as two runs may have them in different units."""
    if not len(table):
        return table
    mean = pc.mean(table["weight"])
    for name in ("weight", "log_likelihood"):
        table = table.set_column(table.column_names.index(name), name, pc.divide(table[name], mean))
    return table


def _described(table: pa.Table) -> str:
    return f"{int(column(table, 'decisions').sum()):,} decisions of {len(table):,} individuals"


def _resampled(individuals: int, resamples: int, random: np.random.Generator) -> Iterator[Float64]:
    """Yield (resamples of a chunk, individuals) how often each is drawn; multinomial counts, made in a sixth of the time."""
    size = max(1, DRAWS_AT_ONCE // individuals)
    for start in range(0, resamples, size):
        chunk = min(size, resamples - start)
        draws = random.integers(0, individuals, (chunk, individuals))
        draws += individuals * np.arange(chunk)[:, None]
        counts = np.bincount(draws.ravel(), minlength=chunk * individuals)
        yield counts.reshape(chunk, individuals).astype(np.float64)
