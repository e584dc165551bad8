"""The conditional logit: its maximum-likelihood estimate by Newton's method on exact derivatives in float64, with errors.

The decisions are gone through once for every evaluation, block by block, so they need not be in memory.

Source: D. McFadden, Conditional logit analysis of qualitative choice behavior, 1974; K. Train, Discrete Choice Methods with
Simulation, 2009, chapters 3 and 8. The log-likelihood is concave, so a damped Newton step always leads to the one optimum.
Errors clustered by individual: K.-Y. Liang and S. Zeger, Longitudinal data analysis using generalized linear models, 1986.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mimic_core.design import Design, sum_decisions
from mimic_core.errors import TrainingError
from mimic_core.interactions import Columns
from mimic_core.rows import Bool, Float64
from mimic_core.separation import separated_columns
from mimic_core.streams import Stream

TOLERANCE = 1e-8  # largest |gradient| per decision on standardised columns at which an estimate has converged
MOST_ITERATIONS = 100


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
        separated = design.names(separated_columns(design, found.beta, found.hessian, null.hessian))
        covariance, clustered = _covariances(design, found)
    return Estimate(
        names=names,
        coefficients=coefficients(found.beta),
        identified=identified,
        separated=separated,
        covariance=covariance,
        clustered=clustered,
        log_likelihood=-found.nll * design.decisions,
        null_log_likelihood=-design.moments.null_nll * design.decisions / design.moments.weight,
        decisions=design.decisions,
        individuals=design.moments.individuals,
        l2=l2,
        iterations=iterations,
        gradient=found.steepness,
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


def _minimise(design: Design, l2: float, say: Callable[[int, _Point], None]) -> tuple[_Point, _Point, int]:
    """Return the point where all coefficients are 0, the optimum, and the number of steps between them."""
    null = at = _evaluate(design, np.zeros(len(design.kept)), l2)
    iteration = 0
    while True:
        iteration += 1
        step, shrink = _solve(at.hessian, at.gradient), 1.0
        while True:
            new = _evaluate(design, at.beta - shrink * step, l2)
            # the objective itself is only good to about 1e-16, so the last steps are judged by the gradient
            if new.objective <= at.objective + 1e-12 or shrink < 1e-6:
                break
            shrink /= 2
        at = new
        say(iteration, at)
        if at.steepness <= TOLERANCE:
            return null, at, iteration
        if iteration == MOST_ITERATIONS:
            raise TrainingError(
                f"the conditional logit did not converge: after {iteration} Newton iterations the largest gradient per "
                f"decision is {at.steepness:.2e}, expected {TOLERANCE:.0e} or less; look for features of extreme scale"
            )


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
        objective=nll + 0.5 * float(ridge @ beta**2),
        gradient=gradient + ridge * beta,
        hessian=hessian + np.diag(ridge),
    )


def _solve(hessian: Float64, gradient: Float64) -> Float64:
    from scipy.linalg import solve

    if not len(gradient):
        return gradient
    try:
        return np.asarray(solve(hessian, gradient, assume_a="pos"))
    except np.linalg.LinAlgError:
        # far out on a flat likelihood the Hessian is singular in float64; a little ridge keeps the direction
        ridge = 1e-10 * np.trace(hessian) / len(gradient) + 1e-300
        return np.asarray(np.linalg.lstsq(hessian + ridge * np.eye(len(gradient)), gradient, rcond=None)[0])


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

    clustered = given(inverse @ meat @ inverse * (groups / (groups - 1))) if groups > 1 else None
    return given(inverse), clustered


def _inverse(hessian: Float64) -> Float64:
    """Invert a Hessian whose diagonal may span many orders of magnitude, as where a column separates."""
    size = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    correlation = hessian / np.outer(size, size)
    return np.asarray(np.linalg.pinv(correlation, rcond=1e-15, hermitian=True) / np.outer(size, size))
