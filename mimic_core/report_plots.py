"""Report plots: the pictures of a report on an experiment, each as a figure that is saved as SVG or by `plots.png`."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_core.rows import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimic_core.leaderboard import Interval

MOST_LINES = 40  # of one picture
MOST_PANELS = 12
LONGEST_NAME = 34
FIRST, SECOND, GREY = "#1f6f8b", "#c8553d", "#6b7280"


def forest(names: Sequence[str], nll: Sequence["Interval"], differences: Sequence["Interval | None"]) -> "Figure":
    """Draw the NLL of every run, and beside it what it is above that of the best, each with its interval.

    Args:
        names: of the runs, the best one first; of many the first `MOST_LINES` are drawn.
    """
    names = names[:MOST_LINES]
    figure = _figure(1.0 + 0.27 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for line, (one, difference) in enumerate(zip(nll[: len(names)], differences, strict=False)):
        _interval(left, line, one, FIRST if difference is None else "black")
        if difference is not None:
            _interval(right, line, difference, SECOND if difference.is_clear else GREY)
    left.set_yticks(range(len(names)), [_cut(name) for name in names], fontsize=9, parse_math=False)
    left.set_ylim(len(names) - 0.4, -0.6)
    left.axvline(nll[0].value, color=FIRST, linestyle=":", linewidth=1)
    right.axvline(0, color=FIRST, linestyle=":", linewidth=1)
    left.set_xlabel("NLL (nats per decision)")
    right.set_xlabel("difference to the best run")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="x", labelsize=9)
    return figure


def learning_curves(names: Sequence[str], histories: Sequence[Sequence[Mapping[str, Any]]]) -> "Figure":
    """Draw the loss of every epoch of some runs, a panel for each, all on one scale, and mark the exported epochs.

    Args:
        names: of at most `MOST_PANELS` runs.
        histories: of each, the objects of `history.jsonl`.
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = _figure(0.6 + 2.0 * lines)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, name, history in zip(panels, names, histories, strict=False):
        epochs = [epoch["epoch"] for epoch in history]
        mark = "." if len(epochs) <= 30 else ""
        axes.plot(epochs, [epoch["loss"] for epoch in history], marker=mark, color=FIRST, linewidth=1.2, label="training")
        judged = [(epoch["epoch"], epoch["val_loss"]) for epoch in history if epoch["val_loss"] is not None]
        if judged:
            axes.plot(*zip(*judged, strict=True), marker=mark, color=SECOND, linewidth=1.2, label="validation")
        for epoch in history:
            if epoch["exported"]:
                axes.axvline(epoch["epoch"], color=GREY, linestyle="--", linewidth=1, label="exported")
        axes.set_title(_cut(name), fontsize=9, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    panels[0].set_ylim(*_scale(histories))
    panels[0].legend(fontsize=8)
    figure.supylabel("NLL (nats per decision)", fontsize=9)
    figure.supxlabel("epoch, or iteration of a linear model", fontsize=9)
    return figure


def reliability(names: Sequence[str], bins: Sequence[Sequence[Mapping[str, float | None]]]) -> "Figure":
    """Draw how often rows were selected that were given a probability, and below it how many rows there are.

    Args:
        names: of at most three runs.
        bins: of each, as `mimic_core.evaluation.calibration` returns them.
    """
    figure = _figure(3.4)
    panels = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": [3, 1]})
    for column, (name, found) in enumerate(zip(names, bins, strict=True)):
        curve, counts = panels[:, column]
        full = [each for each in found if each["weight"]]
        curve.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        curve.plot([each["probability"] for each in full], [each["selected"] for each in full], ".-", color=FIRST)
        curve.set_title(_cut(name), fontsize=9, parse_math=False)
        edges = (np.arange(len(found)) + 0.5) / len(found)
        counts.bar(edges, [each["weight"] for each in found], width=0.9 / len(found), color=FIRST, alpha=0.5)
        for axes in (curve, counts):
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=8)
    panels[0, 0].set(xlim=(0, 1), ylim=(0, 1))
    panels[0, 0].set_ylabel("share selected", fontsize=9)
    panels[1, 0].set_ylabel("rows", fontsize=9)
    figure.supxlabel("probability by the model", fontsize=9)
    return figure


def individual_differences(first: str, second: str, differences: Float64) -> "Figure":
    """Draw by how much two runs explain each individual better: how many by how much, and all of them in their order.

    Args:
        first, second: names of the runs.
        differences: (individuals,) ascending, mean log-likelihood per decision of the first run less that of the second.
    """
    from matplotlib.patches import Patch

    figure = _figure(3.3)
    left, right = figure.subplots(1, 2)
    low, high = np.quantile(differences, [0.01, 0.99])
    reach = max(abs(low), abs(high)) or 1.0  # both sides alike; what is beyond goes into the last bar
    edges = np.linspace(-reach, reach, 41)
    counts, _ = np.histogram(np.clip(differences, -reach, reach), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    colours = np.where(middles > 0, FIRST, SECOND)
    left.bar(middles, counts, width=edges[1] - edges[0], color=colours, alpha=0.8)
    left.set_ylabel("individuals", fontsize=9)
    left.set_xlabel("difference (nats per decision)", fontsize=9)
    place = np.arange(1, len(differences) + 1)
    shown = np.unique(np.linspace(0, len(differences) - 1, 400).astype(int))  # more points than a picture has pixels
    right.fill_between(place[shown], differences[shown], 0, where=list(differences[shown] >= 0), color=FIRST, alpha=0.5)
    right.fill_between(place[shown], differences[shown], 0, where=list(differences[shown] <= 0), color=SECOND, alpha=0.5)
    right.plot(place[shown], differences[shown], color="black", linewidth=1)
    right.set_xlabel("individuals in this order", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    left.axvline(0, color="black", linewidth=0.8)
    right.axhline(0, color="black", linewidth=0.8)
    sides = [(differences < 0, SECOND, second), (differences > 0, FIRST, first)]
    better = [Patch(color=colour, label=f"{_cut(name)}: {place.sum():,}") for place, colour, name in sides]
    figure.legend(
        handles=better, title="better explained by", loc="outside upper center", ncols=2, fontsize=9, title_fontsize=9
    )
    return figure


def svg(figure: "Figure") -> str:
    """Save a figure as SVG; the same figure gives the same text."""
    from matplotlib import rc_context

    text = StringIO()
    with rc_context({"svg.hashsalt": "mimic"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, height), dpi=100, layout="constrained")


def _scale(histories: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[float, float]:
    """Return limits that show how every training ended; the first epochs of a network may be far above all others."""
    losses = [[[each[name] for name in ("loss", "val_loss") if each[name] is not None] for each in run] for run in histories]
    found = [loss for run in losses for epoch in run for loss in epoch]
    low, high = min(found), max(float(np.quantile(found, 0.95)), *(max(run[-1]) for run in losses))
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


def _interval(axes: "Axes", line: int, shown: "Interval", colour: str) -> None:
    if shown.low is not None and shown.high is not None:
        axes.hlines(line, shown.low, shown.high, colour, linewidth=2)
    axes.plot(shown.value, line, "o", color=colour, markersize=5)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
