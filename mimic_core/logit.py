"""The conditional logit: its maximum-likelihood estimate by Newton's method on exact derivatives in float64, with errors.

The decisions are gone through once for every evaluation, block by block, so they need not be in memory.

Source: D. McFadden, Conditional logit analysis of qualitative choice behavior, 1974; K. Train, Discrete Choice Methods with
Simulation, 2009, chapters 3 and 8. The log-likelihood is concave, so Newton steps that are shortened until it does not fall
lead to the one optimum.
Errors clustered by individual: K.-Y. Liang and S. Zeger, Longitudinal data analysis using generalized linear models, 1986.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mimic_core.design import Design, sum_decisions
from mimic_core.errors import TrainingError
from mimic_core.interactions import Columns
from mimic_core.rows import Bool, Float64
from mimic_core.separation import is_flat, separated_columns
from mimic_core.streams import Stream

TOLERANCE = 1e-8  # largest |gradient| per decision on standardised columns at which an estimate has converged
SETTLED = 1e-6  # by how much the next step may move a utility at an optimum
FLAT_STEPS = 5  # with a gradient below the tolerance, after which the likelihood is taken for flat
LEAST_DAMPING, MOST_DAMPING = 1e-8, 1e8  # of a Newton step
SMALLEST = 1e-300  # that a curvature is taken for
MOST_ITERATIONS = 200


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A maximum-likelihood estimate; or a penalised one, which has no errors.

    Attributes:
        names: of the columns, in the order of the model.
        coefficients: (columns,) in the units of the columns; 0 for a column that is not identified.
        identified: (columns,) which columns are neither constant within every decision nor exact combinations of others.
        separated: names of columns that separate selected from rejected choices, whose estimates grow without bound.
        covariance: (k, k) of the identified columns in the order of the model, from the Hessian.
        clustered: (k, k) the same robust to dependence within individuals; None for a single individual.
        log_likelihood, null_log_likelihood: of the training decisions at the estimate, without the penalty, and of the
            uniform choice, in nats; sums over decisions, weights with mean 1.
        decisions, individuals: how many the estimate is made from.
        l2: the penalty, or None.
        iterations: Newton steps taken.
        gradient: largest |gradient| per decision at the estimate, on standardised columns.
        settled: whether another step would move no utility; never where columns separate.
    """

    names: tuple[str, ...]
    coefficients: Float64
    identified: Bool
    separated: tuple[str, ...]
    covariance: Float64 | None
    clustered: Float64 | None
    log_likelihood: float
    null_log_likelihood: float
    decisions: int
    individuals: int
    l2: float | None
    iterations: int
    gradient: float
    settled: bool

    @property
    def not_identified(self) -> tuple[str, ...]:
        """Names of the columns without a coefficient of their own."""
        return tuple(name for name, known in zip(self.names, self.identified.tolist(), strict=True) if not known)


def estimate(
    stream: Stream,
    columns: Columns,
    *,
    l2: float | None = None,
    on_iteration: Callable[[int, float, Float64], None] | None = None,
) -> Estimate:
    """Estimate the conditional logit on decisions.

    Minimises the weighted mean over decisions of the negative log-likelihood, plus l2 / 2 times the sum of squared
    coefficients. An offset is added to the utility of its row.

    Args:
        stream: training decisions, one selected row each, the columns of `x` those of `columns.inputs`, finite.
        columns: of the utility.
        l2: penalty on all coefficients, on the columns as given; None for none.
        on_iteration: called with the iteration (from 1), the mean negative log-likelihood and the coefficients (columns,).

    Raises:
        TrainingError: no decision has a weight above 0, or the gradient did not come below the tolerance.
    """
    design = Design(stream, columns, keep_dependent=l2 is not None)

    def coefficients(beta: Float64) -> Float64:
        full = np.zeros(len(columns.names))
        full[design.kept] = beta / design.scale
        return full

    def say(iteration: int, at: _Point) -> None:
        if on_iteration:
            on_iteration(iteration, at.nll, coefficients(at.beta))

    null, found, iterations = _minimise(design, l2 or 0.0, say)
    names = columns.names
    identified = np.zeros(len(names), np.bool_)
    identified[design.kept] = True
    separated: tuple[str, ...] = ()
    covariance = clustered = None
    if l2 is None:
        if not found.settled or is_flat(found.at.hessian, null.hessian):
            separated = design.names(separated_columns(design, found.at.beta, found.step))
        covariance, clustered = _covariances(design, found.at)
    if found.at.steepness > TOLERANCE and not separated:
        raise TrainingError(
            f"the conditional logit did not converge: after {iterations} Newton iterations the largest gradient per "
            f"decision is {found.at.steepness:.2e}, expected {TOLERANCE:.0e} or less; look for features of extreme scale "
            'or that nearly separate selected from rejected choices, or give "l2"'
        )
    return Estimate(
        names=names,
        coefficients=coefficients(found.at.beta),
        identified=identified,
        separated=separated,
        covariance=covariance,
        clustered=clustered,
        log_likelihood=-found.at.nll * design.decisions,
        null_log_likelihood=-design.moments.null_nll * design.decisions / design.moments.weight,
        decisions=design.decisions,
        individuals=design.moments.individuals,
        l2=l2,
        iterations=iterations,
        gradient=found.at.steepness,
        settled=found.settled,
    )


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Standardised coefficients (k,), and there the mean NLL, what is minimised, its gradient and its Hessian."""

    beta: Float64
    nll: float
    objective: float
    gradient: Float64
    hessian: Float64

    @property
    def steepness(self) -> float:
        return float(np.abs(self.gradient).max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Where the search ended, the next Newton step (k,) from there, and whether it would move no utility."""

    at: _Point
    step: Float64
    settled: bool


def _minimise(design: Design, l2: float, say: Callable[[int, _Point], None]) -> tuple[_Point, _Found, int]:
    """Search for the optimum from where all coefficients are 0; return that point, the optimum, and the number of steps.

    Where the gradient vanishes and steps still move utilities, the likelihood is flat and rises without end: columns
    separate, or nearly. A few more steps tell that from an optimum that is about to be reached.
    """
    null = at = _evaluate(design, np.zeros(len(design.kept)), l2)
    damping, iteration, flat = 0.0, 0, 0
    while True:
        iteration += 1
        at, damping = _descend(design, at, damping, l2)
        say(iteration, at)
        if at.steepness <= TOLERANCE:
            step = _step(at, 0.0)
            settled, flat = _reach(design, step) <= SETTLED, flat + 1
            if settled or flat == FLAT_STEPS:
                return null, _Found(at=at, step=step, settled=settled), iteration
        if iteration == MOST_ITERATIONS:
            return null, _Found(at=at, step=_step(at, 0.0), settled=False), iteration


def _descend(design: Design, at: _Point, damping: float, l2: float) -> tuple[_Point, float]:
    """Take a Newton step, damped as far as it must be so that the objective falls; return the damping for the next one.

    Source: K. Levenberg, A method for the solution of certain non-linear problems in least squares, 1944.
    """
    while damping <= MOST_DAMPING:
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far is refused
            new = _evaluate(design, at.beta - _step(at, damping), l2)
        # the objective itself is only good to about 1e-16, so the last steps are judged by the gradient
        even = new.objective <= at.objective + 1e-13 * (1 + abs(at.objective)) and new.steepness < at.steepness
        if new.objective < at.objective or even:
            return new, damping / 10 if damping > LEAST_DAMPING else 0.0
        damping = max(10 * damping, LEAST_DAMPING)
    return at, damping


def _reach(design: Design, step: Float64) -> float:
    """Return by how much a step moves a utility at most."""
    return max((float(np.abs(part.x @ step).max(initial=0.0)) for part in design), default=0.0)


def _evaluate(design: Design, beta: Float64, l2: float) -> _Point:
    k = len(beta)
    nll, gradient, hessian = 0.0, np.zeros(k), np.zeros((k, k))
    for part in design:
        utility, total, p = part.softmax(beta)
        mean = sum_decisions(part.x, part.starts, p)  # (decisions, k)
        nll += float(part.weight @ (total - utility[part.selected]))
        gradient += part.weight @ (mean - part.x[part.selected])
        p *= np.repeat(part.weight, part.counts)
        hessian += (p[:, None] * part.x).T @ part.x - (part.weight[:, None] * mean).T @ mean
    nll, gradient, hessian = nll / design.decisions, gradient / design.decisions, hessian / design.decisions
    # of the penalty, on the columns as given
    ridge = l2 / design.scale**2
    return _Point(
        beta=beta,
        nll=nll,
        objective=nll + (0.5 * float(ridge @ beta**2) if l2 else 0.0),
        gradient=gradient + ridge * beta,
        hessian=hessian + np.diag(ridge),
    )


def _step(at: _Point, damping: float) -> Float64:
    """Return the Newton step (k,); damping adds to the curvature along every column, of which that at zero is below 1."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    hessian, slope = at.hessian + damping * np.eye(len(at.beta)), at.gradient
    size = np.sqrt(np.maximum(np.diag(hessian), SMALLEST))
    if not len(slope):
        return slope
    try:
        return np.asarray(cho_solve(cho_factor(hessian / size[:, None] / size), slope / size) / size)
    except LinAlgError:  # singular in float64
        curvatures, directions = eigh(hessian)
        least = max(1e-14 * float(curvatures[-1]), SMALLEST)
        return np.asarray(directions @ ((directions.T @ slope) / np.maximum(curvatures, least)))


def _covariances(design: Design, at: _Point) -> tuple[Float64, Float64 | None]:
    """Return the covariances of the coefficients, in the units of the columns and in the order of the model."""
    inverse = _inverse(at.hessian * design.decisions)
    meat, groups = np.zeros_like(inverse), 0
    for part in design:
        _, _, p = part.softmax(at.beta)
        scores = part.x[part.selected] - sum_decisions(part.x, part.starts, p)  # (decisions, k)
        of_individuals = np.add.reduceat(part.weight[:, None] * scores, part.firsts)  # (individuals, k)
        meat += of_individuals.T @ of_individuals
        groups += len(part.firsts)
    order = np.argsort(design.kept)
    units = np.outer(design.scale, design.scale)

    def given(covariance: Float64) -> Float64:
        return np.asarray((covariance / units)[np.ix_(order, order)])

    with np.errstate(over="ignore", invalid="ignore"):  # of columns that separate, which have no errors
        clustered = given(inverse @ meat @ inverse * (groups / (groups - 1))) if groups > 1 else None
    return given(inverse), clustered


def _inverse(hessian: Float64) -> Float64:
    """Invert a Hessian whose diagonal may span many orders of magnitude, as where a column separates."""
    size = np.sqrt(np.maximum(np.diag(hessian), SMALLEST))
    return np.asarray(np.linalg.pinv(hessian / size[:, None] / size, rcond=1e-15, hermitian=True) / size[:, None] / size)
