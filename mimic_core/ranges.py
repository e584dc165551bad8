"""Ranges: between which values the features of a split lie, which are constant, and which are no numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mimic_core.errors import TrainingError
from mimic_core.rows import Float32, Rows

WIDEST = 3  # named in messages


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The lowest and the highest value (features,) of each feature; not finite where one of its values is not."""

    names: tuple[str, ...]
    lowest: Float32
    highest: Float32

    @property
    def constant(self) -> tuple[str, ...]:
        """Names of the features with one value in all rows."""
        return tuple(np.array(self.names)[self.lowest == self.highest].tolist())

    @property
    def widest(self) -> str:
        """The features of the largest values, in words."""
        order = np.argsort(-np.maximum(np.abs(self.lowest), np.abs(self.highest)), kind="stable")[:WIDEST]
        return ", ".join(f"{self.names[j]} {self.lowest[j]:g} to {self.highest[j]:g}" for j in order)

    def require_finite(self, split: str) -> None:
        """Refuse features that are not numbers.

        Raises:
            TrainingError: names them.
        """
        wrong = np.array(self.names)[~(np.isfinite(self.lowest) & np.isfinite(self.highest))].tolist()
        if wrong:
            raise TrainingError(
                f"the {split} decisions hold values that are not finite in {', '.join(wrong)}; expected numbers. "
                "Mend the table and build the dataset again"
            )


def ranges(blocks: Iterable[Rows], names: Sequence[str]) -> Ranges:
    """Find the ranges of features.

    Args:
        blocks: at least one row in all.
        names: of the columns of their `x`.
    """
    lowest, highest = np.full(len(names), np.inf, np.float32), np.full(len(names), -np.inf, np.float32)
    for rows in blocks:
        lowest = np.minimum(lowest, rows.x.min(axis=0, initial=np.inf))
        highest = np.maximum(highest, rows.x.max(axis=0, initial=-np.inf))
    return Ranges(names=tuple(names), lowest=lowest, highest=highest)
