"""What tests of pictures share: the figures of which they are made."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def drawn_figures(monkeypatch: pytest.MonkeyPatch) -> "list[Figure]":
    """The figures that are drawn, the newest last."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figures, draw = [], FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: figures.append(canvas.figure) or draw(canvas))
    return figures
