"""Coefficient text: the table of coefficients as people read it, cell by cell."""

from collections.abc import Mapping
from typing import Any

HEADINGS = ("coefficient", "estimate", "std. error", "clustered", "z", "p", "95% interval")
RATIO_HEADINGS = ("ratio", "estimate", "clustered", "95% interval")
STATISTICS = {
    "log_likelihood": "log-likelihood",
    "null_log_likelihood": "of uniform choice",
    "rho_squared": "McFadden rho-squared",
    "adjusted_rho_squared": "adjusted",
    "aic": "AIC",
    "bic": "BIC",
    "parameters": "parameters",
    "estimated_decisions": "decisions",
    "estimated_individuals": "individuals",
}


def estimated(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the coefficients of a table that there are estimates of."""
    without = {*table["not_identified"], *table["separated"]}
    return [row for row in table["coefficients"] if row["name"] not in without]


def rows_of_text(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table as texts, headings first.

    Args:
        table: as `mimic_core.coefficients.coefficient_table` returns it.
    """
    rows: list[tuple[str, ...]] = [HEADINGS]
    for row in table["coefficients"]:
        if row["name"] in table["not_identified"]:
            rows.append((row["name"], "not identified", "", "", "", "", ""))
            continue
        separated = row["name"] in table["separated"]
        interval = "separated" if separated else _interval(row["ci_low"], row["ci_high"])
        errors = (_number(row["std_error"]), _number(row["std_error_clustered"]))
        z = "" if row["z"] is None else f"{row['z']:.2f}"
        rows.append((row["name"], _number(row["estimate"]), *errors, z, _probability(row["p_value"]), interval))
    return rows


def statistics_of_text(table: Mapping[str, Any]) -> str:
    """Return what is said of the estimate as a whole, in one line."""
    values = table["statistics"]
    return ", ".join(
        f"{shown} {values[name]:,}" if isinstance(values[name], int) else f"{shown} {values[name]:,.4f}"
        for name, shown in STATISTICS.items()
        if values[name] is not None
    )


def ratio_of_text(ratio: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a ratio, as a dict of `mimic_core.coefficients.Ratio`, as texts: name, value, error, interval."""
    values = (_number(ratio["estimate"]), _number(ratio["std_error"]), _interval(ratio["ci_low"], ratio["ci_high"]))
    return (ratio["name"], *values)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"


def _probability(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"
