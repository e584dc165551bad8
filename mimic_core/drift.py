"""Drift: how far the features that a run is applied to are from those that it was trained on.

The population stability index of a feature is the sum over bins of (a - e) ln(a / e), with e the share of the training rows
in the bin and a that of the rows scored. An empty bin counts as half a row, so that the logarithm is finite.

Sources: N. Siddiqi, Credit risk scorecards, 2006 (the index and its bins); B. Yurdakul and J. Naranjo, Statistical
properties of the population stability index, Journal of Risk Model Validation, 2020 (how large it is by chance); J. B. S.
Haldane, The estimation and significance of the logarithm of a ratio of frequencies, 1956 (the half).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mimic_core.distributions import FeatureSample, counts_within

LIMIT = 0.2
BY_CHANCE = 0.001  # share of the features without drift whose index is above what chance is said to explain


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far one feature is from its training distribution.

    Attributes:
        index: its population stability index, 0 where nothing changed.
        limit: above which it is said to drift: 0.2, or more where so few rows would often have that by chance.
    """

    feature: str
    index: float
    limit: float

    @property
    def drifts(self) -> bool:
        """Whether the index is above its limit."""
        return self.index > self.limit


def stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Return the population stability index of two distributions over the same bins; bins empty in both say nothing.

    Args:
        expected, actual: (bins,) numbers of rows, not all 0.

    >>> round(stability_index([50, 50], [25, 75]), 4)  # .25 ln 2 + .25 ln 1.5
    0.2747
    """
    rows = np.array([expected, actual], np.float64)
    e, a = np.maximum(rows, 0.5)[:, rows.sum(axis=0) > 0] / rows.sum(axis=1, keepdims=True)
    return float(((a - e) * np.log(a / e)).sum())


def explained_by_chance(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Return what the index of independent rows of one distribution exceeds in 1 of 1,000 cases, by its limit for many rows.

    It is then distributed as (1/n + 1/m) times a chi-squared variable with one degree of freedom less than there are bins.
    """
    from scipy.special import chdtri  # a third of a second to import

    rows: npt.NDArray[np.int64] = np.array([expected, actual])
    freedom = int((rows.sum(axis=0) > 0).sum()) - 1
    return float((1 / rows.sum(axis=1)).sum() * chdtri(freedom, BY_CHANCE)) if freedom > 0 else 0.0


def measure_drift(
    described: Mapping[str, Any] | None, sample: FeatureSample | None, features: Sequence[str]
) -> list[Drift] | None:
    """Compare the features of a sample with their training distributions, those that changed most first.

    Args:
        described: of the training rows, see `mimic_core.distributions.describe`.
        features: their names along the last axis of the sample.

    Returns:
        None where the training distributions are not known; empty without rows.
    """
    if described is None or not set(features) <= set(described["features"]):
        return None
    found = (
        []
        if sample is None
        else [_drift(name, described["features"][name], sample.x[:, place]) for place, name in enumerate(features)]
    )
    return sorted((drift for drift in found if drift), key=lambda drift: -drift.index)


def _drift(feature: str, trained: Mapping[str, Any], values: npt.NDArray[np.float32]) -> Drift | None:
    expected, actual = trained["counts"], counts_within(trained["edges"], values)
    if not sum(expected) or not sum(actual):
        return None
    limit = max(LIMIT, explained_by_chance(expected, actual))
    return Drift(feature=feature, index=stability_index(expected, actual), limit=limit)
