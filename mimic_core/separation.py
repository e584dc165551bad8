"""Separation: columns along which the likelihood grows without end, so that no maximum exists.

A direction separates if no decision's selected choice has less utility along it than a rejected one, and some have more. The
likelihood then rises for ever along it, and estimates stop where it has become too flat to see.

Source: A. Albert and J. A. Anderson, On the existence of maximum likelihood estimates in logistic regression models, 1984;
found by a linear program as in K. Konis, Linear programming algorithms for detecting separated data, 2007, here only over
the directions that rows of vanishing probability leave open.
"""

import numpy as np

from mimic_core.design import Design, Part, triangular
from mimic_core.rows import Bool, Float64

FLAT = 1e-3  # curvature at the estimate, relative to that at zero, below which a direction is looked at
VANISHING = 1e-3  # probability of a rejected choice below which it may be separated from the selected one
ZERO = 1e-7  # of a standardised column
MOST_ROWS = 20_000  # that the linear program takes, in seconds; further ones count as not separated


def separated_columns(design: Design, beta: Float64, hessian: Float64, null_hessian: Float64) -> Bool:
    """Return (k,) which identified columns take part in a separation.

    Args:
        beta: (k,) standardised coefficients at which the gradient vanishes.
        hessian, null_hessian: (k, k) of the mean negative log-likelihood there, and at zero.
    """
    nothing = np.zeros(len(beta), np.bool_)
    if not _flat_somewhere(hessian, null_hessian):
        return nothing
    held, open_rows = _differences(design, beta)
    free = _null_space(held)  # (k, m) directions along which no other row changes
    if not free.shape[1] or not len(open_rows):
        return nothing
    along = np.unique(np.round(open_rows @ free, 9), axis=0)  # (rows, m)
    separating = free @ _null_space(along[~_separable(along)])
    return np.asarray(np.abs(separating).max(axis=1, initial=0.0) > ZERO)


def _flat_somewhere(hessian: Float64, null_hessian: Float64) -> bool:
    from scipy.linalg import LinAlgError, eigh

    if not len(hessian):
        return False
    try:
        curvatures = eigh(hessian, null_hessian, eigvals_only=True)
    except LinAlgError:
        return True
    return bool(curvatures[0] < FLAT)


def _differences(design: Design, beta: Float64) -> tuple[Float64, Float64]:
    """Return what the selected choices have more than the rejected ones.

    Returns:
        (at most k, k) factor R of all differences to rejected choices whose probability does not vanish, and (rows, k) the
        different ones to those whose probability does.
    """
    triangle, vanishing = np.empty((0, len(beta))), np.empty((0, len(beta)))
    for part in design:
        difference, probability = _part_differences(part, beta)
        small = probability < VANISHING
        vanishing = np.unique(np.concatenate([vanishing, difference[small]]), axis=0)
        vanishing, further = vanishing[:MOST_ROWS], vanishing[MOST_ROWS:]
        triangle = triangular(np.concatenate([triangle, difference[~small], further]))
    return triangle, vanishing


def _part_differences(part: Part, beta: Float64) -> tuple[Float64, Float64]:
    _, _, p = part.softmax(beta)
    rejected = np.ones(len(p), np.bool_)
    rejected[part.selected] = False
    difference = np.repeat(part.x[part.selected], part.counts, axis=0) - part.x
    return difference[rejected], p[rejected]


def _null_space(rows: Float64) -> Float64:
    """Return (k, m) orthonormal directions along which rows (n, k) are all zero."""
    if not len(rows):
        return np.eye(rows.shape[1])
    _, sizes, directions = np.linalg.svd(rows)
    rank = int((sizes > ZERO * max(sizes[0], 1.0)).sum())
    return np.asarray(directions[rank:].T)


def _separable(along: Float64) -> Bool:
    """Return (rows,) which rows some direction makes positive while it makes none negative.

    All of them at once: maximise the sum of t subject to 0 <= t <= 1 and rows @ direction >= t. The sum of two such
    directions is one too, so at the optimum t is 1 for each such row and 0 for the others.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, hstack, identity

    n, m = along.shape
    size = np.abs(along).max(axis=1, initial=0.0)
    scaled = along / np.where(size > 0, size, 1.0)[:, None]
    found = linprog(
        np.concatenate([np.zeros(m), -np.ones(n)]),
        A_ub=hstack([csr_matrix(-scaled), identity(n)]).tocsr(),
        b_ub=np.zeros(n),
        bounds=[(None, None)] * m + [(0.0, 1.0)] * n,
        method="highs",
    )
    return np.asarray(found.x[m:] > 0.5) if found.status == 0 else np.zeros(n, np.bool_)
