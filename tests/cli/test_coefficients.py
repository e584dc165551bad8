"""`mimic runs coefficients`: the table that a linear run stored, ratios of it, and the runs that have none."""

import json
from pathlib import Path

import numpy as np
import pytest

SWISSMETRO = Path(__file__).parents[2] / ".." / "shared" / "data" / "swissmetro.parquet"
KEYS = ["name", "estimate", "std_error", "std_error_clustered", "z", "p_value", "ci_low", "ci_high"]
MODELS = [{"layers": []}, {"layers": [], "l2": 0.1}, {"layers": ["D4"], "epochs": 1}]


@pytest.fixture
def trained(shared, decision_table):
    """A home that the tests share, and what run-experiment said of a linear run, a penalised one and a network."""
    said = shared.home / "said.json"
    if not said.exists():
        shared.imported(decision_table())
        shared.done("log-odds", "build-dataset", shared.dataset())
        said.write_text(shared.done("log-odds", "run-experiment", shared.experiment(models=MODELS), "--json").stdout)
    return shared, json.loads(said.read_text())["partitions"]


def shown(mimic, run, *options):
    return json.loads(mimic.done("runs", "coefficients", run["run_id"], *options, "--json").stdout)


def test_run_experiment_prints_the_coefficients_and_the_metrics_of_a_linear_run(trained):
    mimic, (linear, penalised, network) = trained
    assert [list(row) for row in linear["coefficients"]] == [KEYS, KEYS]
    assert [row["name"] for row in linear["coefficients"]] == ["size", "age"]
    assert linear["coefficients"] == shown(mimic, linear)["coefficients"]
    metrics = linear["metrics"]
    assert metrics["log_likelihood"] == pytest.approx(-15 * metrics["train_nll"], abs=1e-9)  # 5 people, 3 decisions each
    assert metrics["rho_squared"] == pytest.approx(1 - metrics["log_likelihood"] / metrics["null_log_likelihood"], abs=1e-12)
    assert metrics["test_nll"] > 0
    assert metrics.items() >= shown(mimic, linear)["statistics"].items()
    assert (network["coefficients"], network["metrics"]["train_nll"] > 0) == ([], True)
    assert "log_likelihood" not in network["metrics"]
    assert penalised["metrics"]["train_nll"] > metrics["train_nll"]


def test_the_table_is_shown_as_text_with_what_is_said_of_the_estimate_as_a_whole(trained):
    mimic, (linear, *_) = trained
    lines = mimic.done("runs", "coefficients", linear["run_id"][:8]).stdout.splitlines()
    assert lines[0].split() == ["coefficient", "estimate", "std.", "error", "clustered", "z", "p", "95%", "interval"]
    assert len({len(line) for line in lines[:3]}) == 1
    for line, row in zip(lines[1:3], linear["coefficients"], strict=True):
        cells = line.split()
        numbers = (row["estimate"], row["std_error"], row["std_error_clustered"])
        assert cells[:4] == [row["name"], *(f"{number:.4f}" for number in numbers)]
        assert cells[4] == f"{row['z']:.2f}"
        assert cells[-3:] == [f"{row['ci_low']:.4f}", "to", f"{row['ci_high']:.4f}"]
    assert lines[3].startswith(f"log-likelihood {linear['metrics']['log_likelihood']:.4f}, of uniform choice -")
    assert lines[3].endswith("parameters 2, decisions 15, individuals 5")
    assert len(lines) == 4


def test_what_is_withheld_is_left_empty_and_noted(trained):
    mimic, (_, penalised, _) = trained
    lines = mimic.done("runs", "coefficients", penalised["key"]).stdout.splitlines()
    assert [line.split() for line in lines[1:3]] == [
        [row["name"], f"{row['estimate']:.4f}"] for row in penalised["coefficients"]
    ]
    assert lines[4:] == ["note: the estimate is penalised (l2), so it has no standard errors, AIC and BIC"]
    assert "AIC" not in lines[3]
    assert penalised["withheld"] == [lines[4].removeprefix("note: ")]


def test_ratios_are_shown_below_the_table_and_in_the_json_with_their_errors(trained):
    mimic, (linear, penalised, _) = trained
    options = ["--ratio", "size", "age", "--ratio", "age", "size"]
    size, age = (row["estimate"] for row in linear["coefficients"])
    found = shown(mimic, linear, *options)
    first, second = found["ratios"]
    assert [first["name"], first["estimate"]] == ["size / age", pytest.approx(size / age)]
    assert second["estimate"] == pytest.approx(1 / first["estimate"])
    slope, covariance = np.array([1 / age, -size / age**2]), np.array(found["covariance"]["clustered"])
    assert first["std_error"] == pytest.approx(np.sqrt(slope @ covariance @ slope))
    # of the inverse of a ratio, to first order
    assert second["std_error"] == pytest.approx(first["std_error"] / first["estimate"] ** 2)
    assert (first["ci_low"] + first["ci_high"]) / 2 == pytest.approx(first["estimate"])
    lines = mimic.done("runs", "coefficients", linear["run_id"], *options).stdout.splitlines()
    assert lines[-4] == ""
    assert lines[-3].split() == ["ratio", "estimate", "clustered", "95%", "interval"]
    assert lines[-2].split()[:4] == ["size", "/", "age", f"{size / age:.4f}"]
    (without,) = shown(mimic, penalised, *options[:3])["ratios"]
    assert (without["estimate"] is not None, without["std_error"], without["ci_low"]) == (True, None, None)


def test_a_run_without_coefficients_is_refused_with_what_to_do(trained):
    mimic, (_, _, network) = trained
    said = mimic.refused("runs", "coefficients", network["run_id"])
    assert f"run {network['key']} is a network, which has no coefficients; effects of its features are computed by " in said
    assert 'run-batch-infer with "explain"' in said
    assert "no run '00000000' is registered" in mimic.refused("runs", "coefficients", "0" * 8)
    config = mimic.experiment(experiment_name="later", models=[{"layers": []}])
    (later,) = mimic.partitions("log-odds", "run-experiment", config, "--register-only")
    said = mimic.refused("runs", "coefficients", later["key"])
    assert f"run {later['key']} is not trained; run `mimic log-odds run-experiment CONFIG` for it first" in said


def test_a_ratio_that_cannot_be_made_is_refused(trained):
    mimic, (linear, *_) = trained
    said = mimic.refused("runs", "coefficients", linear["run_id"], "--ratio", "siez", "age")
    assert "no coefficient 'siez' (did you mean 'size'?); there are size, age" in said
    said = mimic.refused("runs", "coefficients", linear["run_id"], "--ratio", "age", "age")
    assert "expected two different coefficients, found 'age' twice" in said


def test_a_damaged_table_is_refused_by_name(trained):
    """Nothing but what was stored is shown, though the change keeps the length of the file."""
    mimic, (_, penalised, _) = trained
    path = Path(penalised["location"]) / "coefficients.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"estimate", b"estimite"))
    try:
        said = mimic.refused("runs", "coefficients", penalised["run_id"])
    finally:
        path.write_bytes(data)
    assert "coefficients.json: damaged" in said


@pytest.mark.skipif(not SWISSMETRO.exists(), reason="there is no swissmetro.parquet in ../shared/data")
def test_swissmetro_gives_the_reference_numbers_through_the_commands(mimic):
    features = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
    mimic.done("tables", "import", "haven.features", SWISSMETRO)
    mimic.done("log-odds", "build-dataset", mimic.dataset(features=features, missing_values_map=...))
    config = mimic.experiment(features=features, models=[{"layers": []}])
    (run,) = mimic.partitions("log-odds", "run-experiment", config)
    assert run["metrics"]["train_nll"] == pytest.approx(0.806235, abs=1e-5)
    assert run["metrics"]["test_nll"] == pytest.approx(0.807659, abs=1e-5)
    table = json.loads((Path(run["location"]) / "coefficients.json").read_bytes())
    assert [row["name"] for row in table["coefficients"]] == features
    errors = {name: [round(row[name], 4) for row in table["coefficients"]] for name in KEYS[2:4]}
    assert errors["std_error"] == [0.0377, 0.0266, 0.0328, 0.0774, 0.0626, 0.0695]
    assert errors["std_error_clustered"] == [0.1361, 0.0935, 0.0359, 0.1387, 0.1390, 0.1007]
    assert shown(mimic, run)["coefficients"] == table["coefficients"] == run["coefficients"]
