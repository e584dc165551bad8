"""Calibration: whether choices are selected as often as the probabilities say, beyond what chance explains.

Source: J. Broecker and L. A. Smith, Increasing the reliability of reliability diagrams, 2007 (true probabilities are off the
diagonal too, by chance, and the more so the fewer rows a bin has).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mimic_core.evaluation import Measured, combine

ALLOWED = 0.05  # calibration error beyond what chance explains


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well the probabilities of a split are calibrated.

    Attributes:
        split: the test split, or the training split where that has no decision.
        decisions: how many.
        error: the expected calibration error, as in `mimic_core.evaluation.Evaluation`.
        by_chance: that of true probabilities, in the mean.
    """

    split: str
    decisions: int
    error: float
    by_chance: float

    @property
    def limit(self) -> float:
        """The error above which the probabilities are not calibrated."""
        return ALLOWED + self.by_chance

    @property
    def kept(self) -> bool:
        """Whether the error is within its limit."""
        return self.error <= self.limit


def judge_calibration(measured: Mapping[str, Measured]) -> Calibration | None:
    """Judge the test decisions, or where there are none those for training; None without decisions of positive weight."""
    for split in ("test", "train"):
        evaluation = combine([measured[split]])
        if evaluation is not None:
            return Calibration(
                split=split,
                decisions=evaluation.decisions,
                error=evaluation.calibration_error,
                by_chance=error_by_chance(measured[split]),
            )
    return None


def error_by_chance(measured: Measured) -> float:
    """Return the calibration error that is expected of true probabilities.

    In bin b the difference between the selected rows and their probabilities, sum w (selected - P), then has mean 0 and
    variance V_b = sum w^2 P (1 - P), and its size the mean sqrt(2 V_b / pi), as that of a normal variable. The error is the
    sum of these over the bins, divided by the sum of w. Rows count as independent: where two choices of a decision are in
    one bin the variance is less, so this is rather too large; where decisions of an individual are alike it is too small.

    >>> from mimic_core.rows import Rows
    >>> from mimic_core.evaluation import measure
    >>> rows = Rows(
    ...     individual=np.arange(200) // 2, decision=np.zeros(200, int), choice=np.arange(200) % 2,
    ...     selected=np.arange(200) % 2 == 0, x=np.zeros((200, 0), np.float32), starts=np.arange(100) * 2,
    ... )
    >>> round(error_by_chance(measure(rows, np.zeros(200))), 4)  # sqrt(2 / pi * 200 / 4) / 200
    0.0282
    """
    variance = np.maximum(measured.bin_variance, 0)  # of P = 1 it may be a little below
    return float(np.sqrt(2 / np.pi * variance).sum() / measured.bin_weight.sum())
