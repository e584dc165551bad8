"""Plots: pictures of numbers that people would rather look at than read."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimic_core.training import Epoch


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
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
