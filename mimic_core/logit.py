"""The conditional logit: its maximum-likelihood estimate by Newton's method on exact derivatives, in float64.

Source: D. McFadden, Conditional logit analysis of qualitative choice behavior, 1974; K. Train, Discrete Choice Methods with
Simulation, 2009, chapters 3 and 8. The log-likelihood is concave, so a damped Newton step always leads to the one optimum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mimic_core.errors import TrainingError
from mimic_core.evaluation import log_sum_exp
from mimic_core.rows import Float64, Int64, Rows

TOLERANCE = 1e-8  # largest |gradient| per decision on standardised columns at which an estimate has converged
DEPENDENT = 1e-6  # residual norm of a standardised column below which it is exactly dependent
ROUNDING = 4 * 2.0**-24  # float32 features leave a residual of their own, larger for a column far from zero
MOST_ITERATIONS = 100


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A maximum-likelihood estimate.

    Attributes:
        coefficients: (features,) in the units of the features; 0 for a feature that is not identified.
        not_identified: names of features that are constant within every decision, or exact linear combinations of others.
        iterations: Newton steps taken.
        gradient: largest |gradient| per decision at the estimate, on standardised columns.
    """

    coefficients: Float64
    not_identified: tuple[str, ...]
    iterations: int
    gradient: float


def estimate(rows: Rows, features: list[str], on_iteration: Callable[[int, float, Float64], None] | None = None) -> Estimate:
    """Estimate the conditional logit on decisions.

    Args:
        rows: training decisions, one selected row each.
        features: names of the columns of `rows.x`.
        on_iteration: called with the iteration (from 1), the mean negative log-likelihood and the coefficients (features,).

    Raises:
        TrainingError: the gradient did not come below the tolerance.
    """
    order = np.argsort(np.array(features))  # so that the estimate does not depend on the order of the features
    x, counts = rows.x[:, order].astype(np.float64), rows.counts
    size = np.abs(x).max(axis=0, initial=0.0)
    x -= np.repeat(np.add.reduceat(x, rows.starts) / counts[:, None], counts, axis=0)
    scale, kept = _identified(x, size)
    x = x[:, kept] / scale[kept]
    beta = np.zeros(len(kept))
    nll, gradient, hessian = _derivatives(x, rows, beta)
    iteration = 0

    def coefficients() -> Float64:
        full = np.zeros(len(features))
        full[order[kept]] = beta / scale[kept]
        return full

    while True:
        iteration += 1
        # mean NLL itself is only good to about 1e-16, so the last steps are judged by the gradient
        step = _solve(hessian, gradient)
        shrink = 1.0
        while True:
            new_nll, new_gradient, new_hessian = _derivatives(x, rows, beta - shrink * step)
            if new_nll <= nll + 1e-12 or shrink < 1e-6:
                break
            shrink /= 2
        beta, nll, gradient, hessian = beta - shrink * step, new_nll, new_gradient, new_hessian
        if on_iteration:
            on_iteration(iteration, nll, coefficients())
        largest = float(np.abs(gradient).max(initial=0.0))
        if largest <= TOLERANCE:
            break
        if iteration == MOST_ITERATIONS:
            raise TrainingError(
                f"the conditional logit did not converge: after {iteration} Newton iterations the largest gradient per "
                f"decision is {largest:.2e}, expected {TOLERANCE:.0e} or less; look for features of extreme scale"
            )
    dropped = sorted(set(range(len(features))) - set(kept.tolist()))
    return Estimate(
        coefficients=coefficients(),
        not_identified=tuple(features[order[i]] for i in dropped),
        iterations=iteration,
        gradient=largest,
    )


def _derivatives(x: Float64, rows: Rows, beta: Float64) -> tuple[float, Float64, Float64]:
    """Return mean NLL, its gradient (k,) and its Hessian (k, k) at standardised coefficients (k,)."""
    utility = x @ beta  # (rows,)
    total = log_sum_exp(utility, rows.starts)
    p = np.exp(utility - np.repeat(total, rows.counts))
    n = rows.decisions
    mean = np.add.reduceat(p[:, None] * x, rows.starts)  # (decisions, k)
    gradient = (mean.sum(axis=0) - x[rows.selected].sum(axis=0)) / n
    hessian = ((p[:, None] * x).T @ x - mean.T @ mean) / n
    return float(np.mean(total - utility[rows.selected])), gradient, hessian


def _identified(x: Float64, size: Float64) -> tuple[Float64, Int64]:
    """Return (features,) scales of within-decision-centred columns and the sorted positions of the identified ones.

    Args:
        x: (rows, features) centred.
        size: (features,) largest absolute value before centring.
    """
    from scipy.linalg import qr  # here, since `mimic status` imports this module too: 0.3 CPU seconds

    scale = np.sqrt(np.mean(x**2, axis=0))
    varies = np.flatnonzero(scale > size * 1e-15)  # what is left of a constant by rounding is not variation
    if not len(varies):
        return scale, varies
    norms = np.sqrt(len(x)) * scale[varies]
    r, pivots = qr(x[:, varies] / norms, mode="r", pivoting=True, check_finite=False)
    r = r[: len(pivots)]
    rounding = ROUNDING * (size[varies] / scale[varies])[pivots]  # of each column, in the order of the pivots
    kept: list[int] = []
    for k in range(len(pivots)):
        column, basis = r[: k + 1, k], r[: k + 1, kept]
        weights = np.linalg.lstsq(basis, column, rcond=None)[0]
        residual = float(np.linalg.norm(column - basis @ weights))
        if residual > max(DEPENDENT, float(rounding[k] + np.abs(weights) @ rounding[kept])):
            kept.append(k)
    return scale, np.sort(varies[pivots[kept]])


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
