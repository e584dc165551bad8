"""Run names: short, different where runs differ, and without what all of them share."""

import pytest

from mimic_core.run_names import differences_of, label_runs, name_run, same_but_seed
from mimic_core.specs import RunSpec

SHARED = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "database": "haven", "table": "results"}


def run(layers=(), features=("a", "b"), interactions=None, **model):
    """Return a run with these layers, and what else of the model is set."""
    made = {"interactions": interactions} if interactions else {}
    return RunSpec.model_validate(SHARED | {"features": features, "model": {"layers": layers, **model}} | made)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (run(), "linear"),
        (run(["D32", "D16"]), "D32, D16"),
        (run(interactions=[["a", "*"]]), "linear + 2 interactions"),
    ],
)
def test_a_run_is_named_by_its_model(spec, name):
    assert name_run(spec) == name


def test_only_what_differs_is_told_and_an_unset_key_is_empty():
    specs = [run(["D4"], seed=1, epochs=3), run(["D8"], epochs=3, optimizer_kwargs={"learning_rate": 0.1})]
    assert differences_of(specs, ["x", "y"]) == [
        {"seed": "1", "optimizer_kwargs": ""},
        {"seed": "", "optimizer_kwargs": "learning_rate=0.1"},
    ]


def test_long_values_are_cut_but_differ_by_what_is_cut():
    features = [f"feature_{number}" for number in range(20)]
    found = differences_of([run(features=features), run(features=features[:-1])], ["", ""])
    assert [each["features"] for each in found] == ["feature_0, feature_1, ... (20)", "feature_0, feature_1, ... (19)"]


def test_the_layers_file_is_told_of_runs_of_the_same_layers_only():
    assert differences_of([run(["D4"]), run(["D8"])], ["x", "y"]) == [{}, {}]
    first, second = differences_of([run(["D4"], seed=1), run(["D4"], seed=2)], ["x", "y"])
    assert first["layers file"] != second["layers file"]


def test_runs_of_one_name_are_told_apart():
    specs = [run(), run(l2=0.5), run(["D4"], seed=1), run(["D4"], seed=2), run(["D8"])]
    assert label_runs(specs, [""] * 5) == ["linear", "linear, l2 0.5", "D4, seed 1", "D4, seed 2", "D8"]


def test_runs_that_cannot_be_told_apart_in_short_have_their_ids():
    specs = [run(["D4"], optimizer="Adam", epochs=100, batch_size=50), run(["D4"], optimizer="SGD", epochs=200, seed=1)]
    assert label_runs(specs, ["", ""]) == [f"D4 {spec.run_id[:8]}" for spec in specs]


def test_runs_that_differ_by_their_seed_only_are_grouped():
    specs = [run(["D4"], seed=1), run(), run(["D4"]), run(["D4"], seed=3, epochs=2), run(["D4"], seed=2)]
    assert same_but_seed(specs, ["x"] * 5) == [[0, 2, 4]]
    assert same_but_seed(specs, ["x", "", "y", "x", "x"]) == [[0, 4]]
