"""Separation: columns along which the likelihood grows without end, so that no maximum exists.

A direction separates if no decision's selected choice has less utility along it than a rejected one, and some have more. The
likelihood then rises for ever along it, and estimates stop where it has become too flat to see.

Source: A. Albert and J. A. Anderson, On the existence of maximum likelihood estimates in logistic regression models, 1984;
found by a linear program as in K. Konis, Linear programming algorithms for detecting separated data, 2007, here only over
the directions along which nothing but rows that still move, or have vanished, differ.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mimic_core.design import Design, triangular
from mimic_core.rows import Bool, Float64

FLAT = 1e-3  # curvature at the estimate, relative to that at zero, below which a direction is looked at
VANISHING = 1e-3  # probability of a rejected choice below which it may be separated from the selected one
MOVING = 1e-5  # change of the utility in the next Newton step above which it may be, too
ZERO = 1e-7  # of a standardised column
MOST_ROWS = 5_000  # that the linear program begins with, in a second; others are added where it errs
MOST_ROUNDS = 20


def is_flat(hessian: Float64, null_hessian: Float64) -> bool:
    """Tell whether the likelihood has little curvature in some direction, as it has along one that separates.

    Args:
        hessian, null_hessian: (k, k) at the estimate, and at zero.
    """
    from scipy.linalg import LinAlgError, eigh

    if not len(hessian):
        return False
    try:
        curvatures = eigh(hessian, null_hessian, eigvals_only=True)
    except LinAlgError:
        return True
    return bool(curvatures[0] < FLAT)


def separated_columns(design: Design, beta: Float64, step: Float64) -> Bool:
    """Return (k,) which identified columns take part in a separation.

    Args:
        beta: (k,) standardised coefficients at which the gradient vanishes.
        step: (k,) the Newton step from there, which still moves utilities.
    """
    held = np.empty((0, len(beta)))
    for fixed, _ in _differences(design, beta, step):
        held = triangular(np.concatenate([held, fixed]))
    free = _null_space(held)  # (k, m) directions along which no fixed row changes
    if not free.shape[1]:
        return np.zeros(len(beta), np.bool_)

    def along() -> Iterator[Float64]:
        for _, rows in _differences(design, beta, step):
            yield _distinct(rows @ free)

    separating = free @ _separating(along)
    return np.asarray(np.abs(separating).max(axis=1, initial=0.0) > ZERO)


def _differences(design: Design, beta: Float64, step: Float64) -> Iterator[tuple[Float64, Float64]]:
    """Yield what selected choices have more than rejected ones, (rows, k): that which stays, and that which may separate."""
    for part in design:
        _, _, p = part.softmax(beta)
        rejected = np.ones(len(p), np.bool_)
        rejected[part.selected] = False
        difference = (np.repeat(part.x[part.selected], part.counts, axis=0) - part.x)[rejected]
        loose = (p[rejected] < VANISHING) | (np.abs(difference @ step) > MOVING)
        yield difference[~loose], difference[loose]


def _separating(along: Callable[[], Iterable[Float64]]) -> Float64:
    """Return (m, q) an orthonormal basis of the directions that separate; q is 0 if none does.

    Args:
        along: begins a pass over (rows, m) differences, of length 1.
    """
    rows = _sample(along())
    for _ in range(MOST_ROUNDS if len(rows) else 0):
        direction = _widest(rows)
        wrong, still = np.empty((0, rows.shape[1])), np.empty((0, rows.shape[1]))
        tolerance = 1e-6 + 1e-12 * float(np.linalg.norm(direction))
        for part in along():
            gain = part @ direction
            wrong = np.concatenate([wrong, part[gain < -tolerance]])[:MOST_ROWS]
            still = triangular(np.concatenate([still, part[np.abs(gain) <= tolerance]]))
        if not len(wrong):
            return _null_space(still)
        rows = _distinct(np.concatenate([rows, wrong]))
    return np.empty((rows.shape[1], 0))


def _widest(rows: Float64) -> Float64:
    """Return (m,) a direction that makes no row negative, and as many as possible positive; zeros if none does.

    Maximises the sum of t subject to 0 <= t <= 1 and rows @ direction >= t. The sum of two such directions is one too, so at
    the optimum t is 1 for each row that can be positive and 0 for the others.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack, identity

    n, m = rows.shape
    found = linprog(
        np.concatenate([np.zeros(m), -np.ones(n)]),
        A_ub=hstack([csr_array(-rows), identity(n)]).tocsr(),
        b_ub=np.zeros(n),
        bounds=[(None, None)] * m + [(0.0, 1.0)] * n,
        method="highs",
    )
    return np.asarray(found.x[:m]) if found.status == 0 and found.x[m:].max(initial=0.0) > 0.5 else np.zeros(m)


def _sample(parts: Iterable[Float64]) -> Float64:
    """Return some rows of all parts, evenly spread over their order."""
    rows: Float64 | None = None
    for part in parts:
        rows = part if rows is None else _distinct(np.concatenate([rows, part]))
        if len(rows) > MOST_ROWS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
    return np.empty((0, 0)) if rows is None else rows


def _distinct(rows: Float64) -> Float64:
    """Return the different directions of rows (n, m), without those of length 0: only signs count."""
    length = np.linalg.norm(rows, axis=1)
    rows = rows[length > ZERO] / length[length > ZERO][:, None]
    return np.asarray(np.unique(np.round(rows, 12), axis=0))


def _null_space(rows: Float64) -> Float64:
    """Return (k, m) orthonormal directions along which rows (n, k) are all zero."""
    if not len(rows):
        return np.eye(rows.shape[1])
    _, sizes, directions = np.linalg.svd(triangular(rows))
    rank = int((sizes > ZERO * max(sizes[0], 1.0)).sum())
    return np.asarray(directions[rank:].T)
