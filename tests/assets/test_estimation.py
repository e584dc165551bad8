"""Estimates through Dagster: weights, labels and interactions from the source table to what people see of a run."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_assets.planning import make_plan
from mimic_core import splits
from mimic_core.configs import parse_spec
from mimic_core.manifests import unseal
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec

LABELS = ("bus", "car", "train")
FEATURES = ["cost", "asc_car", "asc_bus"]
INTERACTIONS = [["asc_*", "income"]]
NAMES = [*FEATURES, "asc_car:income", "asc_bus:income"]
TRUTH = {"cost": -1.0, "asc_car": 0.5, "asc_bus": -0.5, "asc_car:income": 0.6, "asc_bus:income": -0.6}
KEYS = ["name", "estimate", "std_error", "std_error_clustered", "z", "p_value", "ci_low", "ci_high"]


def trips(individuals=60, seed=0):
    """Return weighted trips by bus, car or train, buses not always offered; every fifth person is a test one."""
    random, rows = np.random.default_rng(seed), []
    for individual in range(individuals):
        for decision in range(3):
            income, weight = round(random.normal(), 2), random.integers(0, 4)
            offered = [choice for choice in range(3) if choice or (individual + decision) % 4]
            cost = random.normal(size=3).round(2)
            values = [(cost[i], float(i == 1), float(i == 0)) for i in offered]
            inputs = [dict(zip([*FEATURES, "income"], (*each, income), strict=True)) for each in values]
            drawn = [sum(TRUTH[name] * value(row, name) for name in NAMES) + random.gumbel() for row in inputs]
            for choice, row, utility in zip(offered, inputs, drawn, strict=True):
                keys = {"_individual": individual, "_decision": decision, "_choice": choice}
                flags = {"_selected": utility == max(drawn), "_train": individual % 5 != 0}
                rows.append({**keys, **flags, "_weight": float(weight), "_alternative": LABELS[choice], **row})
    return pa.Table.from_pylist(rows)


def value(row, name):
    """Return a column of the model for a row of a table."""
    return math.prod(row[factor] for factor in name.split(":"))


def dataset(**changes):
    document = {"database": "haven", "table": "weighted", "max_choices": 3, "space": "s", "dataset": "weighted"}
    document |= {"features": [*FEATURES, "income"], "train_partitions": 2}
    return parse_spec(DatasetSpec, document | changes)


def run(model=None, **changes):
    document = {"experiment_name": "e", "space": "s", "dataset": "weighted", "max_choices": 3, "features": FEATURES}
    document |= {
        "interactions": INTERACTIONS,
        "database": "haven",
        "table": "results",
        "model": {"layers": [], **(model or {})},
    }
    return parse_spec(RunSpec, document | changes)


def contrast(**changes):
    document = {"database": "haven", "source_table": "plain", "destination_table": "pairs"}
    return parse_spec(ContrastSpec, document | {"decisions_per_individual": 2, "alternatives_per_decision": 1} | changes)


def coefficients(platform, spec):
    """Return the table that a run stored."""
    data = (platform.folder(spec) / "coefficients.json").read_bytes()
    return unseal(data, "coefficients.json")


def estimates(table):
    return {row["name"]: row["estimate"] for row in table["coefficients"]}


def by_decision(table):
    found = {}
    for row in table.to_pylist():
        found.setdefault((row["_individual"], row["_decision"]), []).append(row)
    return found.values()


def look(rows, beta):
    """Return the log-likelihood of a decision and its gradient by the coefficients."""
    x = np.array([[value(row, name) for name in NAMES] for row in rows])
    chosen = [row["_selected"] for row in rows].index(True)
    p = np.exp(x @ beta) / np.exp(x @ beta).sum()
    return np.log(p[chosen]), x[chosen] - p @ x, p


@pytest.fixture(scope="module")
def finished(shared_platform):
    """A home with the same trips with weights and without, and a run on each."""
    shared_platform.imported(trips(), "haven.weighted")
    shared_platform.imported(trips().drop_columns(["_weight"]), "haven.plain")
    shared_platform.built(dataset(), dataset(table="plain", dataset="plain"), run(), run(dataset="plain"))
    return shared_platform


def test_the_stored_estimate_is_where_the_weighted_likelihood_of_the_source_table_is_highest(finished):
    table = coefficients(finished, run())
    beta = np.array([estimates(table)[name] for name in NAMES])
    slope, likelihood, uniform, weight, people = np.zeros(len(NAMES)), 0.0, 0.0, 0.0, []
    for rows in by_decision(trips().filter(pc.field("_train"))):
        log_probability, surprise, _ = look(rows, beta)
        slope += rows[0]["_weight"] * surprise
        likelihood, weight = likelihood + rows[0]["_weight"] * log_probability, weight + rows[0]["_weight"]
        uniform -= rows[0]["_weight"] * np.log(len(rows))
        people += [rows[0]["_individual"]] if rows[0]["_weight"] else []
    assert np.abs(slope / weight).max() < 1e-6
    assert np.abs(beta - list(TRUTH.values())).max() < 0.8
    assert finished.manifest(run())["metrics"]["train_nll"] == pytest.approx(-likelihood / weight, abs=1e-9)
    whole = table["statistics"]
    assert whole["log_likelihood"] / whole["null_log_likelihood"] == pytest.approx(likelihood / uniform, abs=1e-9)
    assert (whole["estimated_decisions"], whole["estimated_individuals"]) == (len(people), len(set(people)))


def test_the_table_of_coefficients_has_all_of_its_keys_in_the_order_of_the_columns(finished):
    table = coefficients(finished, run())
    assert list(table["coefficients"][0]) == KEYS
    assert list(estimates(table)) == table["covariance"]["names"] == NAMES
    errors = np.sqrt(np.diag(np.array(table["covariance"]["clustered"])))
    assert [row["std_error_clustered"] for row in table["coefficients"]] == pytest.approx(errors.tolist(), rel=1e-12)
    for row in table["coefficients"]:
        assert row["z"] == pytest.approx(row["estimate"] / row["std_error_clustered"])
        assert (row["ci_low"] + row["ci_high"]) / 2 == pytest.approx(row["estimate"])
    listed = {file["path"] for file in finished.manifest(run())["files"]}
    assert {"coefficients.json", "individuals.parquet", "model.keras"} <= listed


def test_weights_withhold_what_only_unweighted_decisions_have_and_the_table_says_why(finished):
    weighted, plain = coefficients(finished, run()), coefficients(finished, run(dataset="plain"))
    assert weighted["withheld"] == [
        "classical errors, AIC, BIC and rho-squared are withheld: decisions are weighted, so this is a composite likelihood"
    ]
    assert plain["withheld"] == []
    for name in ("rho_squared", "adjusted_rho_squared", "aic", "bic"):
        assert weighted["statistics"][name] is None
        assert plain["statistics"][name] is not None
        assert finished.manifest(run())["metrics"].get(f"test_{name}") is None
    assert finished.manifest(run(dataset="plain"))["metrics"]["test_rho_squared"] > 0
    assert {row["std_error"] for row in weighted["coefficients"]} == {None}
    assert all(row["std_error"] > 0 for row in plain["coefficients"])
    assert all(row["std_error_clustered"] > 0 for row in weighted["coefficients"])


def test_the_stored_individuals_add_up_to_the_likelihood(finished):
    stored = pq.read_table(finished.folder(run()) / "individuals.parquet")
    train = stored.filter(pc.field("split") == "train")
    assert train["individual"].to_pylist() == [individual for individual in range(60) if individual % 5]
    weight = pc.sum(train["weight"]).as_py()
    assert weight == sum(rows[0]["_weight"] for rows in by_decision(trips().filter(pc.field("_train"))))
    metrics = finished.manifest(run())["metrics"]
    assert -pc.sum(train["log_likelihood"]).as_py() / weight == pytest.approx(metrics["train_nll"], abs=1e-12)
    weighed = [rows for rows in by_decision(trips()) if rows[0]["_weight"]]
    assert pc.sum(stored["decisions"]).as_py() == len(weighed)


def test_the_manifest_says_how_often_each_alternative_is_selected_and_how_often_the_run_says_so(finished):
    manifest, table = finished.manifest(run()), coefficients(finished, run())
    beta = np.array([estimates(table)[name] for name in NAMES])
    for split, keep in (("train", pc.field("_train")), ("test", ~pc.field("_train"))):
        seen, said, weight = dict.fromkeys(LABELS, 0.0), dict.fromkeys(LABELS, 0.0), 0.0
        for rows in by_decision(trips().filter(keep)):
            weight += rows[0]["_weight"]
            for row, p in zip(rows, look(rows, beta)[2], strict=True):
                seen[row["_alternative"]] += row["_weight"] * row["_selected"]
                said[row["_alternative"]] += row["_weight"] * p
        found = {row["alternative"]: row for row in manifest["alternatives"][split]}
        assert list(found) == list(LABELS)
        for label in LABELS:
            assert found[label]["observed_share"] == pytest.approx(seen[label] / weight, abs=1e-12)
            assert found[label]["predicted_share"] == pytest.approx(said[label] / weight, abs=1e-6)
        if split == "train":
            assert manifest["alternative_shares"] == pytest.approx({name: seen[name] / weight for name in LABELS})
            assert manifest["metrics"]["train_shares_nll"] < manifest["metrics"]["train_null_nll"]


def test_dagster_shows_the_table_of_coefficients_and_why_something_is_missing(finished):
    shown = finished.shown(run())["coefficients"].splitlines()
    assert shown[0] == "| coefficient | estimate | std. error | clustered | z | p | 95% interval |"
    assert [line.split("|")[1].strip() for line in shown[2:7]] == NAMES
    assert "decisions are weighted" in shown[-1]
    assert "McFadden rho-squared" in finished.shown(run(dataset="plain"))["coefficients"]


def test_a_run_on_a_contrast_set_withholds_and_says_why(finished):
    pairs = dataset(table="pairs", dataset="pairs", max_choices=2)
    spec = run(dataset="pairs", max_choices=2)
    finished.built(contrast(), pairs, spec)
    table = coefficients(finished, spec)
    (reason,) = table["withheld"]
    assert "the dataset was built from a contrast set, whose pairs are no independent decisions" in reason
    assert {row["std_error"] for row in table["coefficients"]} == {None}
    assert "whose pairs are no independent decisions" in finished.shown(spec)["coefficients"]
    assert set(finished.manifest(spec)["alternative_shares"]) == set(LABELS)


def test_a_split_larger_than_what_is_kept_in_memory_gives_the_same_run(finished, monkeypatch):
    model = {"validation": 0.3}
    finished.built(run(model))
    expected, kept = coefficients(finished, run(model)), finished.manifest(run(model))
    monkeypatch.setattr(splits, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(splits, "BLOCK_BYTES", 4096)
    monkeypatch.delattr(splits, "in_memory")  # so that nothing is
    streamed = run(model, experiment_name="streamed")
    finished.built(streamed)
    found = coefficients(finished, streamed)
    assert estimates(found) == pytest.approx(estimates(expected), abs=1e-9)
    for name in ("std_error_clustered", "ci_low", "p_value"):
        values = ([row[name] for row in table["coefficients"]] for table in (found, expected))
        assert next(values) == pytest.approx(next(values), abs=1e-9)
    metrics = finished.manifest(streamed)["metrics"]
    assert metrics == pytest.approx(kept["metrics"], abs=1e-9)
    assert "validation_nll" in metrics


def test_columns_without_an_estimate_are_notes_and_no_failure(finished):
    table = trips().drop_columns(["_weight"])
    # of the people who own a pass all go by train
    owner = np.asarray(table["_individual"]) % 6 == 1
    train = np.asarray(table["_choice"]) == 2
    table = table.set_column(3, "_selected", pa.array(np.where(owner, train, np.asarray(table["_selected"]))))
    table = table.append_column("pass_train", pa.array((owner & train).astype(float)))
    table = table.append_column("ones", pa.array(np.ones(len(table))))
    finished.imported(table, "haven.odd")
    features = [*FEATURES, "pass_train", "ones"]
    spec = run(dataset="odd", features=features, interactions=[])
    finished.built(dataset(table="odd", dataset="odd", features=features), spec)
    notes, found = finished.manifest(spec)["notes"], coefficients(finished, spec)
    assert notes[0] == "constant in all training rows: ones"
    assert notes[1].startswith("not identified, and without effect on the utilities: ones (constant within every decision")
    assert notes[2].startswith("separated: pass_train: together they tell selected from rejected choices")
    assert (found["not_identified"], found["separated"]) == (["ones"], ["pass_train"])
    errors = {row["name"]: row["std_error_clustered"] for row in found["coefficients"]}
    assert [name for name, error in errors.items() if error is None] == ["pass_train", "ones"]
    assert "- separated: pass_train" in finished.shown(spec)["notes"]


def test_probabilities_of_a_run_with_interactions_are_those_of_its_table_whatever_was_sampled(finished):
    """What corrects the sampling of choice sets is for training: here it would turn every decision round."""
    offset = pa.array(np.asarray(trips()["_choice"]) * 5.0)
    finished.imported(trips().append_column("_sampling_log_probability", offset), "haven.offered")
    document = {"database": "haven", "table": "offered", "features": ["income", *FEATURES], "space": "s"}
    document |= {"experiment_name": "e", "run_id": run().run_id, "upload_table": "scored"}
    spec = parse_spec(InferenceSpec, document)
    finished.built(spec)
    beta = np.array([estimates(coefficients(finished, run()))[name] for name in NAMES])
    expected = np.concatenate([look(rows, beta)[2] for rows in by_decision(trips())])
    found = finished.rows("haven.scored")
    assert found["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert found["_alternative"].to_pylist() == trips()["_alternative"].to_pylist()
    assert finished.manifest(spec)["metrics"]["test_rho_squared"] is None
    assert finished.manifest(spec)["notes"] == [
        "rho-squared is withheld: decisions are weighted, so this is a composite likelihood"
    ]
    metrics = [finished.manifest(one)["metrics"]["test_nll"] for one in (spec, run())]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
    scored, trained = (finished.manifest(one)["alternatives"]["test"] for one in (spec, run()))
    assert [row["predicted_share"] for row in scored] == pytest.approx([row["predicted_share"] for row in trained], abs=1e-6)
    assert [(row["alternative"], row["offered"], row["selected"]) for row in scored] == [
        (row["alternative"], row["offered"], row["selected"]) for row in trained
    ]
    assert "observed share" in finished.shown(spec)["alternatives"]


def test_an_inference_may_leave_out_what_only_interactions_name_and_is_current_then(finished):
    document = {"database": "haven", "table": "plain", "features": FEATURES, "space": "s", "experiment_name": "e"}
    spec = parse_spec(InferenceSpec, document | {"run_id": run(dataset="plain").run_id, "upload_table": "short"})
    finished.built(spec)
    plan, _ = make_plan(finished.instance, finished.inventory)
    (state,) = [str(partition.state) for node, partition in plan.partitions.items() if node.key == spec.key]
    assert state == "current"
    assert len(finished.rows("haven.short")) == len(trips())


def test_weights_that_come_to_a_table_make_its_dataset_and_its_run_out_of_date(platform):
    platform.imported(trips(20).drop_columns(["_weight"]), "haven.weighted")
    platform.built(dataset(), run())
    before = estimates(coefficients(platform, run()))
    platform.imported(trips(20), "haven.weighted")
    plan, _ = make_plan(platform.instance, platform.inventory)
    states = {node.asset: str(partition.state) for node, partition in plan.partitions.items()}
    assert states["tfrecord_dataset"] == "out_of_date"
    assert states["model_run"] in ("out_of_date", "waiting")
    platform.built(dataset(), run())
    assert estimates(coefficients(platform, run())) != pytest.approx(before, abs=1e-3)
    assert coefficients(platform, run())["withheld"]


def choices(individuals=1500, size=8, seed=3):
    """Return decisions among eight choices, with a popularity that follows the cost."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(individuals, size, 2)).astype(np.float32)
    selected = np.argmax(x @ [-1.0, 0.5] + random.gumbel(size=(individuals, size)), axis=1)
    individual, choice = np.divmod(np.arange(individuals * size), size)
    columns = {"_individual": individual, "_decision": np.zeros_like(individual), "_choice": choice}
    columns |= {"_selected": choice == selected[individual], "_train": individual % 20 != 0}
    columns |= {"cost": x[:, :, 0].ravel(), "time": x[:, :, 1].ravel()}
    return pa.table(columns | {"popularity": np.exp(-x[:, :, 0].ravel().astype(float))})


def test_a_run_on_pairs_sampled_by_weights_finds_the_truth(finished):
    finished.imported(choices(), "haven.popular")
    sampled = contrast(
        source_table="popular",
        destination_table="sampled",
        sampling={"weights": "popularity"},
        decisions_per_individual=1,
        alternatives_per_decision=3,
    )
    pairs = dataset(table="sampled", dataset="sampled", max_choices=2, features=["cost", "time"])
    spec = run(dataset="sampled", max_choices=2, features=["cost", "time"], interactions=[])
    finished.built(sampled, pairs, spec)
    table = coefficients(finished, spec)
    for row, truth in zip(table["coefficients"], [-1.0, 0.5], strict=True):
        assert abs(row["estimate"] - truth) < 4 * row["std_error_clustered"] < 0.4
    (said,) = table["withheld"]
    assert "the dataset was built from a contrast set" in said
    assert "choices were sampled with unequal probabilities" in said


def test_a_run_whose_interactions_the_dataset_lacks_is_refused_and_says_that_they_name_it(finished):
    text = finished.refused(run(interactions=[["cost", "incom"]], experiment_name="misnamed"))
    assert text == (
        "interactions: the dataset has no 'incom' (did you mean 'income'?); its features are cost, asc_car, asc_bus, income"
    )


def test_too_many_labels_are_refused_in_the_step_that_finds_them(finished, monkeypatch):
    monkeypatch.setattr("mimic_core.datasets.MOST_ALTERNATIVES", 2)
    result = finished.build(dataset(dataset="labels"))
    failures = [event for event in result.all_events if event.is_step_failure]
    assert {event.step_key.partition("[")[0] for event in failures} == {"tfrecord_dataset.build_dataset_part"}
    for event in failures:
        assert (
            "'_alternative' has 3 different labels, expected at most 2"
            in event.step_failure_data.user_failure_data.description
        )
    assert not list((finished.home / "mimic/objects/s-tfrecords/labels").rglob("*.tfrecord"))


def test_the_config_of_a_run_and_its_history_are_stored_beside_its_table(finished):
    config = json.loads((finished.folder(run()) / "config.json").read_bytes())
    assert (config["interactions"], config["features"]) == (INTERACTIONS, FEATURES)
    assert finished.manifest(run())["features"] == [*FEATURES, "income"]
