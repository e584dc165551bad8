"""Plots: pictures of numbers that people would rather look at than read."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_core.sources import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimic_core.effects import Effect
    from mimic_core.history import Epoch

MOST_LINES = 40  # of one picture, 1,000 pixels high
LONGEST_NAME = 40
COLOURS = 48
MOST_BARS = 40  # of shards


def learning_curve(history: Sequence["Epoch"], unit: str = "epoch") -> bytes:
    """Draw the loss of every epoch, in nats per decision, and mark the exported one.

    Args:
        history: at least one epoch, exactly one of them exported.
        unit: what an entry is called: an epoch, or a solver's iteration.

    Returns:
        The bytes of a PNG picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, [epoch.loss for epoch in history], ".-", label="loss (training)")
    judged = [(epoch.epoch, epoch.val_loss) for epoch in history if epoch.val_loss is not None]
    if judged:
        axes.plot(*zip(*judged, strict=True), ".-", label="val_loss")
    (exported,) = [epoch.epoch for epoch in history if epoch.exported]
    axes.axvline(exported, color="0.5", linestyle="--", label=f"exported {unit}: {exported}")
    axes.set(xlabel=unit, ylabel="mean negative log-likelihood (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)


def elasticities(effects: Sequence["Effect"]) -> bytes:
    """Draw the mean elasticity of each feature and alternative, half of the rows around it, and all but their tails.

    Args:
        effects: at least one, those of a feature next to each other; beyond `MOST_LINES` without those of alternatives.

    Returns:
        The bytes of a PNG picture.
    """
    shown = effects if len(effects) <= MOST_LINES else [one for one in effects if one.alternative is None][:MOST_LINES]
    names = [one.feature if one.alternative is None else f"{one.feature}, {one.alternative}" for one in shown]
    figure, axes = _named_lines(names, "own elasticity: mean, 25% to 75%, 5% to 95% of the rows")
    for line, one in enumerate(shown):
        colour = "tab:blue" if one.alternative is not None else "black"
        if one.elasticity_quantiles is not None:
            lowest, lower, _, upper, highest = one.elasticity_quantiles
            axes.hlines(line, lowest, highest, colour, linewidth=1)
            axes.hlines(line, lower, upper, colour, linewidth=4, alpha=0.5)
        if one.elasticity_mean is not None:
            axes.plot(one.elasticity_mean, line, "o", color=colour, markersize=5)
    return png(figure)


def coefficients(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw estimates with their 95% intervals; returns the bytes of a PNG picture of `coefficient_figure`."""
    return png(coefficient_figure(rows))


def coefficient_figure(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw estimates with their 95% intervals.

    Args:
        rows: dicts of `mimic_core.coefficients.Coefficient`, at least one; of many the first `MOST_LINES` are drawn.
    """
    shown = rows[:MOST_LINES]
    more = f", the first {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    figure, axes = _named_lines(
        [row["name"] for row in shown], f"coefficient and 95% interval, clustered by individual{more}"
    )
    for line, row in enumerate(shown):
        if row["ci_low"] is not None:
            axes.hlines(line, row["ci_low"], row["ci_high"], "black", linewidth=1.5)
        axes.plot(row["estimate"], line, "o", color="black", markersize=5)
    return figure


def shard_sizes(files: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw how many decisions each shard has, a colour for each split; of many shards, how many have how many.

    Args:
        files: manifest entries of the shards' files, those of a split next to each other.

    Returns:
        The bytes of a PNG picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 2.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    splits = {split: [file["decisions"] for file in files if file["split"] == split] for split in SPLITS}
    if len(files) > MOST_BARS:
        axes.hist(list(splits.values()), bins=30, label=list(splits))
        axes.set(xlabel="decisions of a shard", ylabel="shards")
    else:
        first = 0
        for split, sizes in splits.items():
            axes.bar(range(first, first + len(sizes)), sizes, label=split)
            first += len(sizes)
        axes.set(xlabel="shard of its split", ylabel="decisions")
        axes.set_xticks(range(first), [str(place) for sizes in splits.values() for place in range(len(sizes))], fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return png(figure)


def png(figure: "Figure") -> bytes:
    """Save a figure as PNG of few colours, a third of the bytes; Dagster keeps the pictures of all builds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(100)
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()  # once, and with nothing packed in between: half the time of figure.savefig
    small = BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(COLOURS).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def _named_lines(names: Sequence[str], label: str) -> tuple["Figure", "Axes"]:
    """Return a figure with a line for each name, the first on top, around 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.1 + 0.24 * len(names)), dpi=100, layout="constrained")
    axes = figure.subplots()
    cut = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..." for name in names]
    axes.set_yticks(range(len(names)), cut, fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color="0.5", linestyle="--", linewidth=1)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes
