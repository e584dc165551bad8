"""Distribution plots: how the scores of an inference are spread, and how well probabilities are calibrated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mimic_core import score_counts
from mimic_core.plots import png
from mimic_core.report_plots import FIRST, GREY, SECOND, reliability
from mimic_core.rows import Float64, Int64

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = dict(zip(score_counts.KINDS, (FIRST, SECOND, GREY), strict=True))


def calibration(bins: Mapping[str, Sequence[Mapping[str, float | None]]]) -> bytes:
    """Draw how often choices were selected that were given a probability; returns the bytes of a PNG picture.

    Args:
        bins: split -> as `mimic_core.evaluation.calibration` returns them, of at most three splits.
    """
    figure = reliability(list(bins), list(bins.values()))
    figure.set_layout_engine(None)  # which takes as long as the drawing itself
    figure.set_figwidth(min(1.8 + 2.6 * len(bins), 7.2))
    figure.subplots_adjust(left=0.8 / figure.get_figwidth(), right=0.96, bottom=0.14, top=0.92, hspace=0.12, wspace=0.2)
    return png(figure)


def scores(found: score_counts.ScoreCounts) -> bytes:
    """Draw how the probabilities and the log-odds of at least one row are spread; returns the bytes of a PNG picture.

    Each line is a share of the rows of its kind.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), dpi=100)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.24, top=0.86, wspace=0.22)
    reach, infinite = score_counts.REACH, int(found.infinite.sum())
    _lines(left, found.probability, np.linspace(0, 1, score_counts.BINS + 1))
    _lines(right, found.log_odds, np.linspace(-reach, reach, score_counts.BINS + 1))
    left.set_xlabel("probability", fontsize=9)
    left.set_ylabel("share of these rows", fontsize=9)
    right.set_xlabel("log-odds (nats)", fontsize=9)
    left_out = f"; {infinite:,} infinite ones, of choices without alternatives, are left out" if infinite else ""
    figure.text(0.5, 0.03, f"Log-odds beyond {reach:g} are in the outermost bars{left_out}.", fontsize=8, ha="center")
    figure.legend(*left.get_legend_handles_labels(), loc="upper center", ncols=len(score_counts.KINDS), fontsize=9)
    return png(figure)


def _lines(axes: "Axes", counts: Int64, edges: Float64) -> None:
    """Draw the share of the rows of each kind that are in each bin; `counts` are (kinds, bins)."""
    for kind, rows in zip(score_counts.KINDS, counts, strict=True):
        if rows.any():
            label = f"{int(rows.sum()):,} rows" + ("" if kind == "not known" else f" of {kind} choices")
            axes.stairs(rows / rows.sum(), edges, color=COLOURS[kind], fill=True, alpha=0.3)
            axes.stairs(rows / rows.sum(), edges, color=COLOURS[kind], linewidth=1.5, label=label)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
