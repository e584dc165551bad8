"""Plots: pictures of numbers that people would rather look at than read."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimic_core.effects import Effect
    from mimic_core.history import Epoch

MOST_LINES = 40  # of one picture, 1,000 pixels high
LONGEST_NAME = 40


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
    return _png(figure)


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
    return _png(figure)


def coefficients(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw estimates with their 95% intervals; returns the bytes of a PNG picture of `coefficient_figure`."""
    return _png(coefficient_figure(rows))


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


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
