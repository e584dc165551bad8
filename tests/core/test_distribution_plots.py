"""Distribution plots: what is drawn of counts, and what is said of those that cannot be drawn."""

import matplotlib.image
import numpy as np

from mimic_core.distribution_plots import calibration, scores
from mimic_core.score_counts import BINS, KINDS, ScoreCounts

BIN = {"weight": 4.0, "probability": 0.5, "selected": 0.25}
EMPTY = {"weight": 0.0, "probability": None, "selected": None}


def test_scores_of_each_kind_are_shares_of_its_rows_and_infinite_ones_are_named(drawn_figures, tmp_path):
    counts = np.zeros((len(KINDS), BINS), np.int64)
    counts[0, 10], counts[1, 10], counts[1, 20] = 5, 1, 3
    picture = scores(ScoreCounts(probability=counts, log_odds=counts, infinite=np.array([2, 0, 0]), decisions=5))
    (tmp_path / "scores.png").write_bytes(picture)
    assert matplotlib.image.imread(tmp_path / "scores.png").shape[:2] == (340, 720)
    (figure,) = drawn_figures
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["5 rows of selected choices", "4 rows of rejected choices"]
    lines = {patch.get_label(): patch.get_data().values for patch in figure.axes[0].patches}
    assert (lines[labels[0]][10], lines[labels[1]][10], lines[labels[1]][20]) == (1.0, 0.25, 0.75)
    assert "; 2 infinite ones, of choices without alternatives, are left out" in figure.texts[0].get_text()


def test_each_split_has_a_reliability_diagram_of_the_bins_that_are_not_empty(drawn_figures):
    assert calibration({"train": [BIN, EMPTY], "test": [EMPTY, BIN]}).startswith(b"\x89PNG\r\n\x1a\n")
    (figure,) = drawn_figures
    assert [axes.get_title() for axes in figure.axes[:2]] == ["train", "test"]
    assert [list(axes.lines[1].get_ydata()) for axes in figure.axes[:2]] == [[0.25], [0.25]]
