"""Coefficients: the table that a statistician reads of an estimated conditional logit, and ratios of two coefficients.

z, p and intervals are made with errors clustered by individual, since the decisions of an individual are no independent
observations.

Source: K. Train, Discrete Choice Methods with Simulation, 2009, chapters 3 and 8; the delta method as in W. Greene,
Econometric Analysis, 2012, section 4.4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import erfc, sqrt
from typing import Any

import numpy as np

from mimic_core.errors import SpecError, did_you_mean
from mimic_core.logit import Estimate
from mimic_core.rows import Float64

Z95 = 1.959963984540054  # the 97.5% point of the standard normal distribution
COMPOSITE = "classical errors, AIC, BIC and rho-squared are withheld: {}, so this is a composite likelihood"
NO_RHO_SQUARED = "rho-squared is withheld: {}, so this is a composite likelihood"  # where there is no table
OF_CONTRASTS = "the dataset was built from a contrast set, whose pairs are no independent decisions"
WITH_WEIGHTS = "decisions are weighted"
WITH_OFFSETS = "choices were sampled with unequal probabilities"
PENALISED = "the estimate is penalised (l2), so it has no standard errors, AIC and BIC"
ONE_INDIVIDUAL = "there is a single individual, so errors clustered by individual do not exist"


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One row of the table; what does not exist, or is withheld, is None.

    Attributes:
        name: of the feature, or `a:b` of an interaction.
        estimate: in nats per unit of the column; 0 where it is not identified.
        std_error: classical, from the Hessian.
        std_error_clustered: robust to dependence within individuals.
        z, p_value: of the hypothesis that it is 0, two-sided, with the clustered error.
        ci_low, ci_high: 95% interval, with the clustered error.
    """

    name: str
    estimate: float
    std_error: float | None
    std_error_clustered: float | None
    z: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of two coefficients, such as a willingness to pay; errors by the delta method, clustered by individual."""

    name: str
    estimate: float
    std_error: float | None
    ci_low: float | None
    ci_high: float | None


def coefficient_table(found: Estimate, composite: Sequence[str] = ()) -> dict[str, Any]:
    """Describe an estimate as `coefficients.json` holds it.

    Args:
        found: the estimate.
        composite: why its likelihood is a composite one; then classical errors, AIC, BIC and rho-squared are withheld.

    Returns:
        `coefficients` as dicts of `Coefficient`; `statistics`; `withheld`, sentences that say what is missing and why;
        `not_identified` and `separated`, names; `covariance`, that of the clustered errors, with the names of its rows.
    """
    withheld = [COMPOSITE.format(", ".join(composite))] if composite else []
    withheld += [PENALISED] * (found.l2 is not None)
    withheld += [ONE_INDIVIDUAL] * (found.l2 is None and found.clustered is None)
    names = [name for name, known in zip(found.names, found.identified.tolist(), strict=True) if known]
    covariance = None if found.clustered is None else {"names": names, "clustered": found.clustered.tolist()}
    return {
        "coefficients": [asdict(row) for row in _rows(found, names, bool(composite))],
        "statistics": statistics(found, bool(composite)),
        "withheld": withheld,
        "not_identified": list(found.not_identified),
        "separated": list(found.separated),
        "l2": found.l2,
        "covariance": covariance,
    }


def statistics(found: Estimate, composite: bool) -> dict[str, float | int | None]:
    """Return what is said of an estimate as a whole; None is withheld.

    rho_squared is McFadden's 1 - log_likelihood / null_log_likelihood; adjusted_rho_squared takes the number of parameters
    from log_likelihood; AIC = 2 k - 2 LL, BIC = k log(decisions) - 2 LL.
    """
    k = int(found.identified.sum())
    likelihood, null = (value + 0.0 for value in (found.log_likelihood, found.null_log_likelihood))  # no -0.0 is shown
    known = not composite and null < 0
    proper = not composite and found.l2 is None
    return {
        "log_likelihood": likelihood,
        "null_log_likelihood": null,
        "rho_squared": 1 - likelihood / null if known else None,
        "adjusted_rho_squared": 1 - (likelihood - k) / null if known and proper else None,
        "aic": 2 * k - 2 * likelihood if proper else None,
        "bic": k * float(np.log(found.decisions)) - 2 * likelihood if proper else None,
        "parameters": k,
        "estimated_decisions": found.decisions,
        "estimated_individuals": found.individuals,
    }


def ratio(table: Mapping[str, Any], numerator: str, denominator: str) -> Ratio:
    """Divide one coefficient of a table by another.

    Args:
        table: as `coefficient_table` returns it.
        numerator, denominator: names of coefficients, such as those of travel time and cost.

    Raises:
        SpecError: the table has no such coefficient, or it has no estimate.
    """
    estimates = {row["name"]: row["estimate"] for row in table["coefficients"]}
    for name in (numerator, denominator):
        if name not in estimates:
            raise SpecError(f"no coefficient {name!r}{did_you_mean(name, estimates)}; there are {', '.join(estimates)}")
        if name in table["not_identified"]:
            raise SpecError(f"{name!r} is not identified, so it has no coefficient of its own to make a ratio of")
        if name in table["separated"]:
            raise SpecError(f"{name!r} separates, so its coefficient has no finite estimate; train the model without it")
    if numerator == denominator:
        raise SpecError(f"expected two different coefficients, found {numerator!r} twice")
    over, under = estimates[numerator], estimates[denominator]
    if under == 0:
        raise SpecError(f"the coefficient of {denominator!r} is 0, so nothing can be divided by it")
    value, error = over / under, None
    if table["covariance"]:
        at = [table["covariance"]["names"].index(name) for name in (numerator, denominator)]
        slope = np.array([1 / under, -value / under])
        covariance = np.array(table["covariance"]["clustered"])[np.ix_(at, at)]
        error = float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
    low, high = _interval(value, error)
    return Ratio(name=f"{numerator} / {denominator}", estimate=value, std_error=error, ci_low=low, ci_high=high)


def _rows(found: Estimate, names: Sequence[str], composite: bool) -> list[Coefficient]:
    classical, clustered = (_errors(matrix, names) for matrix in (found.covariance, found.clustered))
    rows = []
    for name, value in zip(found.names, found.coefficients.tolist(), strict=True):
        endless = name in found.separated
        error = None if endless else clustered.get(name)
        z = value / error if error else None
        low, high = _interval(value, error)
        rows.append(
            Coefficient(
                name=name,
                estimate=value,
                std_error=None if composite or endless else classical.get(name),
                std_error_clustered=error,
                z=z,
                p_value=None if z is None else two_sided(z),
                ci_low=low,
                ci_high=high,
            )
        )
    return rows


def two_sided(z: float) -> float:
    """Return the probability that a standard normal number is at least as far from 0 as z.

    >>> round(two_sided(-1.96), 3)
    0.05
    """
    return erfc(abs(z) / sqrt(2))


def _errors(covariance: Float64 | None, names: Sequence[str]) -> dict[str, float]:
    if covariance is None:
        return {}
    return dict(zip(names, np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist(), strict=True))


def _interval(value: float, error: float | None) -> tuple[float | None, float | None]:
    if error is None:
        return None, None
    return value - Z95 * error, value + Z95 * error
