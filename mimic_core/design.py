"""Design: the columns of a conditional logit, centred within decisions and scaled, made block by block from a stream.

Centring takes away from each column what is the same for all choices of a decision, which no probability depends on. What is
left of a column tells whether it is identified.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mimic_core.errors import TrainingError
from mimic_core.evaluation import log_sum_exp
from mimic_core.interactions import Columns
from mimic_core.rows import Bool, Float32, Float64, Int64, Rows, take_decisions
from mimic_core.streams import Stream, in_memory

CACHED_BYTES = 2**29  # of the columns of a design; larger ones are made anew in every pass
BLOCK_VALUES = 2**18  # that are made at once, 2 MB: in the cache of a processor it takes a third less time than 32 MB
DEPENDENT = 1e-6  # residual norm of a standardised column below which it is exactly dependent
NO_WEIGHT = "_weight is 0 in all training decisions; give some of them a weight above 0"
ROUNDING = 4 * 2.0**-24  # float32 features leave a residual of their own, larger for a column far from zero


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some decisions as the likelihood needs them; those of weight 0 are left out.

    Attributes:
        x: (rows, k) columns that are kept, centred within decisions and divided by their scales.
        starts, counts: (decisions,) first row of each decision, and number of rows.
        selected: (decisions,) row of the selected choice.
        weight: (decisions,) with mean 1 over all decisions of the stream that have one above 0.
        offset: (rows,) what is added to the utility; None for nothing.
        firsts: (individuals,) first decision of each individual.
    """

    x: Float64
    starts: Int64
    counts: Int64
    selected: Int64
    weight: Float64
    offset: Float32 | None
    firsts: Int64

    def softmax(self, beta: Float64) -> tuple[Float64, Float64, Float64]:
        """Return utility (rows,), its log-sum-exp (decisions,) and probability (rows,) at coefficients (k,)."""
        utility = self.x @ beta if self.offset is None else self.x @ beta + self.offset
        total = log_sum_exp(utility, self.starts)
        return utility, total, np.exp(utility - np.repeat(total, self.counts))


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What one pass over the decisions tells about the columns, in the order of the columns.

    Attributes:
        triangle: (at most k, k) factor R of a QR decomposition of the centred columns.
        largest: (k,) largest absolute value before centring.
        rows, decisions, individuals: how many are used; those of weight 0 are not.
        weight: sum of the weights; the number of decisions where there are none.
        null_nll: weighted sum of the logarithms of the sizes of choice sets, in nats.
    """

    triangle: Float64
    largest: Float64
    rows: int
    decisions: int
    individuals: int
    weight: float
    null_nll: float


class Design:
    """The identified columns of a conditional logit over a stream, to be gone through any number of times.

    Args:
        stream: training decisions.
        columns: of the model.
        keep_dependent: whether exact combinations of other columns are kept, as a penalty allows.

    Attributes:
        moments: of all columns.
        kept: (k,) which columns of the model are identified.
        scale: (k,) root mean square of each of them after centring.

    Raises:
        TrainingError: no decision has a weight above 0.
    """

    def __init__(self, stream: Stream, columns: Columns, *, keep_dependent: bool = False) -> None:
        self._stream, self._columns = stream, columns
        # in an order of their own, so that the estimate does not depend on the order of the features
        self._order = np.argsort(np.array(columns.names), kind="stable")
        self.moments = _moments(stream, columns, self._order)
        scale, kept = _identified(self.moments, np.flatnonzero(self._order < columns.features), keep_dependent)
        self.kept, self.scale = self._order[kept], scale[kept]
        self._mean_weight = self.moments.weight / self.moments.decisions
        cached = stream.rows is not None and self.moments.rows * len(kept) * 8 <= CACHED_BYTES
        self._parts = list(self._made()) if cached else None

    @property
    def decisions(self) -> int:
        """Number of decisions with a weight above 0."""
        return self.moments.decisions

    def names(self, which: Int64 | Bool | slice = slice(None)) -> tuple[str, ...]:
        """Return the names of some of the identified columns, in the order of the model."""
        return tuple(self._columns.names[at] for at in np.sort(self.kept[which]))

    def __iter__(self) -> Iterator[Part]:
        return self._made() if self._parts is None else iter(self._parts)

    def _made(self) -> Iterator[Part]:
        for rows in _used(self._stream, self._columns):
            yield Part(
                x=_centred(self._columns.values(rows.x)[:, self.kept], rows) / self.scale,
                starts=rows.starts,
                counts=rows.counts,
                selected=np.flatnonzero(rows.selected),
                weight=rows.weights / self._mean_weight,
                offset=rows.offset,
                firsts=rows.first_decisions,
            )


def sum_decisions(x: Float64, starts: Int64, weight: Float64 | None = None) -> Float64:
    """Sum the rows (rows, k) of each decision, each times its weight (rows,); returns (decisions, k).

    As a product with a sparse matrix it takes a sixth of the time of `numpy.add.reduceat` (20 columns).

    >>> sum_decisions(np.array([[1.0], [2.0], [4.0]]), np.array([0, 2]), np.array([1.0, 0.5, 1.0])).tolist()
    [[2.0], [4.0]]
    """
    from scipy.sparse import csr_array  # here, since `mimic status` imports this module too

    n = len(x)
    each = np.ones(n) if weight is None else weight
    return np.asarray(csr_array((each, np.arange(n), np.append(starts, n)), shape=(len(starts), n)) @ x)


def triangular(rows: Float64) -> Float64:
    """Return the factor R, (at most k, k), of the QR decomposition of (n, k) rows."""
    return np.asarray(np.linalg.qr(rows, mode="r"))


def _used(stream: Stream, columns: Columns) -> Iterator[Rows]:
    """Leave out decisions of weight 0, which tell nothing; the more columns, the smaller the blocks."""
    for rows in stream:
        used = rows if rows.weight is None else take_decisions(rows, np.flatnonzero(rows.weight > 0))
        yield from in_memory(used, max(BLOCK_VALUES // len(columns.names), 1))


def _moments(stream: Stream, columns: Columns, order: Int64) -> Moments:
    triangle, largest = np.empty((0, len(order))), np.zeros(len(order))
    rows_, decisions, individuals, weight, null_nll = 0, 0, 0, 0.0, 0.0
    for rows in _used(stream, columns):
        x = columns.values(rows.x)[:, order]
        largest = np.maximum(largest, np.abs(x).max(axis=0))
        # of the block below what is left of the others: the R of all of them, without all of them in memory
        triangle = triangular(np.concatenate([triangle, _centred(x, rows)]))
        each = rows.weights
        rows_, decisions = rows_ + len(rows), decisions + rows.decisions
        individuals += len(rows.individuals)
        weight, null_nll = weight + float(each.sum()), null_nll + float(each @ np.log(rows.counts))
    if not decisions:
        raise TrainingError(NO_WEIGHT)
    return Moments(
        triangle=triangle,
        largest=largest,
        rows=rows_,
        decisions=decisions,
        individuals=individuals,
        weight=weight,
        null_nll=null_nll,
    )


def _centred(x: Float64, rows: Rows) -> Float64:
    return np.asarray(x - np.repeat(sum_decisions(x, rows.starts) / rows.counts[:, None], rows.counts, axis=0))


def _identified(moments: Moments, features: Int64, keep_dependent: bool) -> tuple[Float64, Int64]:
    """Return (columns,) scales of the centred columns, and the sorted positions of the identified ones.

    Args:
        features: positions of the features; an interaction is given up before them.
    """
    norms = np.linalg.norm(moments.triangle, axis=0)
    scale = norms / np.sqrt(moments.rows)
    varies = scale > moments.largest * 1e-15  # what is left of a constant by rounding is not variation
    if keep_dependent or not varies.any():
        return scale, np.flatnonzero(varies)
    first = np.intersect1d(features, np.flatnonzero(varies))
    pivots = _pivots(moments.triangle / np.where(varies, norms, 1.0), first, np.setdiff1d(np.flatnonzero(varies), first))
    r = triangular(moments.triangle[:, pivots] / norms[pivots])
    rounding = ROUNDING * moments.largest[pivots] / scale[pivots]
    kept: list[int] = []
    for k in range(len(pivots)):
        column, basis = r[: k + 1, k], r[: k + 1, kept]
        weights = np.linalg.lstsq(basis, column, rcond=None)[0]
        residual = float(np.linalg.norm(column - basis @ weights))
        if residual > max(DEPENDENT, float(rounding[k] + np.abs(weights) @ rounding[kept])):
            kept.append(k)
    return scale, np.sort(pivots[kept])


def _pivots(triangle: Float64, first: Int64, second: Int64) -> Int64:
    """Order columns by what each adds to those before it: some of them first, the others by what they add to these."""
    from scipy.linalg import qr  # here, since `mimic status` imports this module too: 0.3 CPU seconds

    r = triangular(triangle[:, [*first, *second]])
    orders = []
    for columns, factor in ((first, r[:, : len(first)]), (second, r[len(first) :, len(first) :])):
        order = qr(factor, mode="r", pivoting=True, check_finite=False)[-1] if factor.size else np.arange(len(columns))
        orders.append(columns[order])
    return np.concatenate(orders)
