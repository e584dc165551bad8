"""Plots: a picture that a browser can show has every number that it is made of."""

import json
import subprocess
import sys
from io import BytesIO

import matplotlib.image
import pytest

from mimic_core.effects import Effect
from mimic_core.history import Epoch
from mimic_core.plots import coefficients, elasticities, learning_curve, shard_sizes


def history(losses=(0.9, 0.6, 0.5, 0.4), val_losses=(0.95, 0.7, 0.65, 0.8), exported=3):
    """Epochs with these losses."""
    val_losses = val_losses or [None] * len(losses)
    return [
        Epoch(epoch=number, loss=loss, val_loss=val_loss, exported=number == exported)
        for number, (loss, val_loss) in enumerate(zip(losses, val_losses, strict=True), 1)
    ]


@pytest.fixture
def draw(drawn_figures):
    """Draw a learning curve, or what else is told; returns its axes."""

    def drawn(*arguments, plot=learning_curve):
        plot(*arguments)
        (axes,) = drawn_figures.pop().axes
        return axes

    return drawn


def lines(axes):
    """The lines of a picture: by label, where they go."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def pixels(picture):
    return matplotlib.image.imread(BytesIO(picture), format="png")


def in_a_fresh_interpreter(code):
    """Run code with every warning being an error; returns the JSON that it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_learning_curve_is_a_small_png():
    picture = learning_curve(history())
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert pixels(picture).shape == (360, 640, 4)
    assert len(picture) < 50_000


def test_both_losses_of_every_epoch_are_drawn_and_the_exported_one_is_marked(draw):
    drawn = lines(draw(history()))
    assert drawn["loss (training)"] == ([1, 2, 3, 4], [0.9, 0.6, 0.5, 0.4])
    assert drawn["val_loss"] == ([1, 2, 3, 4], [0.95, 0.7, 0.65, 0.8])
    assert drawn["exported epoch: 3"][0] == [3, 3]
    assert len(drawn) == 3


@pytest.mark.parametrize("shards", [3, 100])
def test_shards_are_drawn_as_a_small_picture_however_many_there_are(shards):
    files = [{"split": "train", "decisions": 40 + shard} for shard in range(shards)] + [{"split": "test", "decisions": 0}]
    picture = shard_sizes(files)
    assert pixels(picture).shape[:2] == (280, 640)
    assert len(picture) < 10_000


def test_axes_and_lines_say_what_they_show(draw):
    axes = draw(history())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "mean negative log-likelihood (nats)")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines(axes))


def test_a_run_without_validation_shows_its_training_loss_only(draw):
    drawn = lines(draw(history(val_losses=None)))
    assert drawn["loss (training)"] == ([1, 2, 3, 4], [0.9, 0.6, 0.5, 0.4])
    assert set(drawn) == {"loss (training)", "exported epoch: 3"}


def test_a_validation_loss_that_begins_late_is_drawn_at_its_epochs(draw):
    drawn = lines(draw(history(val_losses=(None, None, 0.65, 0.8))))
    assert drawn["val_loss"] == ([3, 4], [0.65, 0.8])


def test_the_iterations_of_a_solver_are_called_iterations(draw):
    axes = draw(history(), "iteration")
    assert axes.get_xlabel() == "iteration"
    assert "exported iteration: 3" in lines(axes)


@pytest.mark.parametrize("val_losses", [None, (0.7,)])
def test_a_single_epoch_is_a_picture_too(draw, val_losses):
    epochs = history((0.6,), val_losses, 1)
    assert pixels(learning_curve(epochs)).shape == (360, 640, 4)
    assert lines(draw(epochs))["loss (training)"] == ([1], [0.6])


@pytest.mark.parametrize("count", [2, 3, 25])
def test_epochs_are_counted_in_whole_numbers(draw, count):
    axes = draw(history([0.5] * count, None, 1))
    assert all(tick == int(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize("losses", [(1e-12, 0.0), (3e38, 1.0), (0.5, 0.5), (-0.1, -0.2)])
def test_extreme_losses_are_drawn(losses):
    assert pixels(learning_curve(history(losses, losses[::-1], 2))).shape == (360, 640, 4)


def test_a_long_history_stays_a_small_picture():
    losses = [1 / number for number in range(1, 5001)]
    assert len(learning_curve(history(losses, losses, 5000))) < 100_000


def test_different_histories_are_different_pictures_and_the_same_history_is_the_same():
    pictures = [
        learning_curve(history()),
        learning_curve(history(val_losses=None)),
        learning_curve(history(exported=2)),
        learning_curve(history(losses=(0.9, 0.6, 0.5, 0.45))),
        learning_curve(history(), "iteration"),
    ]
    assert len({pixels(picture).tobytes() for picture in pictures}) == 5
    assert learning_curve(history()) == pictures[0]


def test_importing_plots_does_not_import_matplotlib():
    code = "import json, sys, mimic_core.plots; print(json.dumps([name for name in sys.modules if name == 'matplotlib']))"
    assert in_a_fresh_interpreter(code) == []


def test_drawing_needs_no_screen_and_keeps_no_figure():
    code = """
import json, sys
from types import SimpleNamespace
from mimic_core.effects import Effect
from mimic_core.plots import coefficients, elasticities, learning_curve
learning_curve([SimpleNamespace(epoch=1, loss=0.5, val_loss=None, exported=True)])
print(json.dumps([name for name in ("matplotlib.pyplot", "tkinter", "tensorflow") if name in sys.modules]))
"""
    assert in_a_fresh_interpreter(code) == []


def test_a_single_epoch_has_whole_ticks(draw):
    axes = draw(history(losses=(0.5,), val_losses=None, exported=1))
    assert all(tick == int(tick) for tick in axes.get_xticks())


def effect(feature="tt", alternative=None, mean=-0.5, quantiles=(-1.0, -0.7, -0.5, -0.4, 0.1)):
    """An effect, of whose numbers the picture shows the elasticities."""
    return Effect(
        feature=feature,
        alternative=alternative,
        rows=9,
        marginal_effect_mean=None,
        marginal_effect_quantiles=None,
        elasticity_mean=mean,
        elasticity_aggregate=None,
        elasticity_quantiles=quantiles,
    )


def test_elasticities_are_drawn_with_their_quantiles_from_top_to_bottom(draw):
    axes = draw([effect(), effect(alternative="car", mean=-0.2)], plot=elasticities)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tt", "tt, car"]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [(-0.5, 0), (-0.2, 1)]
    spans = [segment[:, 0].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert spans == [[-1.0, 0.1], [-0.7, -0.4]] * 2
    assert axes.yaxis_inverted()


def test_of_very_many_elasticities_only_those_of_the_features_are_drawn(draw):
    many = [effect(name, label) for name in ("tt", "co") for label in (None, *map(str, range(50)))]
    assert [label.get_text() for label in draw(many, plot=elasticities).get_yticklabels()] == ["tt", "co"]


@pytest.mark.parametrize("missing", [effect(mean=None), effect(quantiles=None), effect("a $name" * 30, "of _any_ length")])
def test_elasticities_without_numbers_or_with_long_names_are_a_picture_too(missing):
    assert pixels(elasticities([missing])).shape == (134, 640, 4)


def test_coefficients_are_dots_with_their_intervals_in_the_order_of_the_table(draw):
    rows = [{"name": "cost", "estimate": -1.0, "ci_low": -1.5, "ci_high": -0.5}]
    rows += [{"name": f"x{j}", "estimate": float(j), "ci_low": None, "ci_high": None} for j in range(60)]
    axes = draw(rows, plot=coefficients)
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["cost", "x0"]
    (interval,) = [path.vertices.tolist() for collection in axes.collections for path in collection.get_paths()]
    assert interval == [[-1.5, 0], [-0.5, 0]]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots[:2] == [(-1.0, 0), (0.0, 1)]
    assert len(dots) == 40
    assert axes.get_xlabel().endswith("the first 40 of 61")
