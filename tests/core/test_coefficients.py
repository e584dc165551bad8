import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from mimic_core.coefficient_text import rows_of_text, statistics_of_text
from mimic_core.coefficients import COMPOSITE, WITH_WEIGHTS, coefficient_table, ratio, statistics
from mimic_core.contract import Rules, check_block
from mimic_core.errors import SpecError
from mimic_core.interactions import columns
from mimic_core.logit import estimate
from mimic_core.streams import in_memory

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
FEATURES = ["cost", "time"]


def table(individuals=60, seed=0, weights=False):
    """Return three decisions of two to four choices for each individual, who has a taste of its own."""
    random, rows = np.random.default_rng(seed), []
    for individual in range(individuals):
        taste = np.array([-1.0, 0.5]) + random.normal(size=2)
        for decision in range(3):
            x = random.normal(size=(random.integers(2, 5), 2)).astype(np.float32)
            best = np.argmax(x @ taste + random.gumbel(size=len(x)))
            weight = 1.0 + (individual + decision) % 3 if weights else 1.0
            rows += [(individual, decision, c, c == best, True, weight, *x[c]) for c in range(len(x))]
    names = ["_individual", "_decision", "_choice", "_selected", "_train", "_weight", *FEATURES]
    made = pa.table({name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    return made if weights else made.drop_columns(["_weight"])


def fitted(source, features=FEATURES, pairs=(), **options):
    wanted = columns(pairs, features)
    return estimate(in_memory(check_block(source, Rules(features=wanted.inputs)).rows), wanted, **options)


def plain_errors(source, beta):
    """Return classical and clustered standard errors, decision by decision in plain loops."""
    decisions = {}
    for row in source.to_pylist():
        decisions.setdefault((row["_individual"], row["_decision"]), []).append(row)
    mean = sum(rows[0].get("_weight", 1.0) for rows in decisions.values()) / len(decisions)
    hessian, scores = np.zeros((2, 2)), {}
    for (individual, _), rows in decisions.items():
        x, weight = np.array([[row[name] for name in FEATURES] for row in rows]), rows[0].get("_weight", 1.0) / mean
        p = np.exp(x @ beta) / np.exp(x @ beta).sum()
        centre = p @ x
        hessian += weight * sum(p[j] * np.outer(x[j] - centre, x[j] - centre) for j in range(len(rows)))
        chosen = next(j for j, row in enumerate(rows) if row["_selected"])
        scores[individual] = scores.get(individual, 0) + weight * (x[chosen] - centre)
    inverse, groups = np.linalg.inv(hessian), len(scores)
    meat = sum(np.outer(score, score) for score in scores.values())
    clustered = inverse @ meat @ inverse * groups / (groups - 1)
    return np.sqrt(np.diag(inverse)), np.sqrt(np.diag(clustered))


def test_a_constant_worked_out_by_hand():
    # 3 of 4 take the choice with x = 1, so b = ln 3 and the information of a decision is p (1 - p) = 3 / 16
    rows = [(i, 0, c, c == (i > 0), True, float(c)) for i, c in itertools.product(range(4), range(2))]
    names = ["_individual", "_decision", "_choice", "_selected", "_train", "x"]
    source = pa.table({name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    found = coefficient_table(fitted(source, ["x"]))
    (row,) = found["coefficients"]
    assert row["estimate"] == pytest.approx(np.log(3))
    assert row["std_error"] == pytest.approx(np.sqrt(4 / 3))
    # scores are 1/4 three times and -3/4 once: their squares sum to 3/4; 4 individuals
    assert row["std_error_clustered"] == pytest.approx(np.sqrt((4 / 3) ** 2 * 0.75 * 4 / 3))
    assert row["z"] == pytest.approx(row["estimate"] / row["std_error_clustered"])
    assert row["p_value"] == pytest.approx(2 * norm.sf(row["z"]))
    assert row["ci_low"] == pytest.approx(row["estimate"] - norm.ppf(0.975) * row["std_error_clustered"])
    assert row["ci_high"] == pytest.approx(row["estimate"] + norm.ppf(0.975) * row["std_error_clustered"])
    likelihood = 3 * np.log(0.75) + np.log(0.25)
    expected = {
        "log_likelihood": likelihood,
        "null_log_likelihood": -4 * np.log(2),
        "rho_squared": 1 + likelihood / (4 * np.log(2)),
        "adjusted_rho_squared": 1 + (likelihood - 1) / (4 * np.log(2)),
        "aic": 2 - 2 * likelihood,
        "bic": np.log(4) - 2 * likelihood,
        "parameters": 1,
        "estimated_decisions": 4,
        "estimated_individuals": 4,
    }
    assert found["statistics"] == pytest.approx(expected)
    assert found["withheld"] == []


@pytest.mark.parametrize("weights", [False, True])
def test_both_errors_are_those_of_a_plain_reference(weights):
    source = table(weights=weights)
    found = fitted(source)
    classical, clustered = plain_errors(source, found.coefficients)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), classical, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(found.clustered)), clustered, rtol=1e-6)
    assert not np.allclose(classical, clustered, rtol=0.05)


def test_a_weight_of_two_is_the_decision_twice_for_the_same_individual():
    source = table(20)
    doubled = np.asarray(source["_individual"]) % 2 == 0
    weighted = source.append_column("_weight", pa.array(np.where(doubled, 2.0, 1.0)))
    again = source.filter(pa.array(doubled))
    again = again.set_column(1, "_decision", pc.add(again["_decision"], 100))
    one, other = fitted(weighted), fitted(pa.concat_tables([source, again]))
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-7)
    np.testing.assert_allclose(one.clustered, other.clustered, rtol=1e-6)
    mean = 90 / 60  # of the weights: sums are over the 60 decisions with mean weight 1
    assert one.log_likelihood == pytest.approx(other.log_likelihood / mean)
    assert one.null_log_likelihood == pytest.approx(other.null_log_likelihood / mean)


def test_decisions_of_weight_0_are_left_out_and_the_scale_of_weights_says_nothing():
    source = table(20)
    kept = np.asarray(source["_individual"]) < 15
    zero = source.append_column("_weight", pa.array(np.where(kept, 7.0, 0.0)))
    one, other = fitted(zero), fitted(source.filter(pa.array(kept)))
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-9)
    np.testing.assert_allclose(one.clustered, other.clustered, rtol=1e-9)
    assert (one.individuals, one.decisions) == (15, 45)


def test_a_composite_likelihood_withholds_what_does_not_hold_and_says_why():
    found = coefficient_table(fitted(table(weights=True)), [WITH_WEIGHTS])
    assert found["withheld"] == [COMPOSITE.format(WITH_WEIGHTS)]
    assert all(row["std_error"] is None and row["std_error_clustered"] > 0 for row in found["coefficients"])
    statistics = found["statistics"]
    assert [statistics[name] for name in ("rho_squared", "adjusted_rho_squared", "aic", "bic")] == [None] * 4
    assert statistics["log_likelihood"] < 0
    assert "AIC" not in statistics_of_text(found)


def test_a_log_likelihood_of_nothing_is_shown_without_a_sign():
    found = replace(fitted(table(20)), log_likelihood=-0.0, null_log_likelihood=-0.0)
    stored = json.dumps([statistics(found, composite=False)[name] for name in ("log_likelihood", "null_log_likelihood")])
    assert stored == "[0.0, 0.0]"


def test_one_individual_has_no_clustered_errors():
    source = table(20)
    decision = pc.add(pc.multiply(source["_individual"], 3), source["_decision"])
    source = source.set_column(1, "_decision", decision).set_column(0, "_individual", pc.multiply(decision, 0))
    found = coefficient_table(fitted(source))
    assert found["covariance"] is None
    assert all(row["std_error"] is not None and row["z"] is None for row in found["coefficients"])
    assert found["withheld"] == ["there is a single individual, so errors clustered by individual do not exist"]


def test_a_column_without_an_estimate_is_in_the_table_without_errors():
    source = table()
    source = source.append_column("income", pc.cast(source["_individual"], pa.float64()))
    found = coefficient_table(fitted(source, [*FEATURES, "income"]))
    assert found["not_identified"] == ["income"]
    row = found["coefficients"][2]
    assert row == dict.fromkeys(row) | {"name": "income", "estimate": 0.0}
    assert found["covariance"]["names"] == FEATURES
    assert rows_of_text(found)[3] == ("income", "not identified", "", "", "", "", "")
    np.testing.assert_allclose(
        found["coefficients"][0]["std_error"], plain_errors(source, fitted(source).coefficients)[0][0]
    )


def test_a_ratio_has_the_error_of_the_delta_method():
    found = coefficient_table(fitted(table()))
    time, cost = (np.array(found["covariance"]["clustered"])[i] for i in (1, 0))
    b = {row["name"]: row["estimate"] for row in found["coefficients"]}
    value = b["time"] / b["cost"]
    variance = (time[1] - 2 * value * time[0] + value**2 * cost[0]) / b["cost"] ** 2
    got = ratio(found, "time", "cost")
    assert (got.name, got.estimate) == ("time / cost", value)
    assert got.std_error == pytest.approx(np.sqrt(variance))
    assert got.ci_high - got.ci_low == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(variance))


def test_a_ratio_that_cannot_be_made_is_refused():
    source = table().append_column("income", pa.array(np.ones(len(table()))))
    found = coefficient_table(fitted(source, [*FEATURES, "income"]))
    with pytest.raises(SpecError, match=r"no coefficient 'tim' \(did you mean 'time'\?\); there are cost, time, income"):
        ratio(found, "tim", "cost")
    with pytest.raises(SpecError, match="'income' is not identified, so it has no coefficient of its own"):
        ratio(found, "time", "income")
    with pytest.raises(SpecError, match="expected two different coefficients, found 'cost' twice"):
        ratio(found, "cost", "cost")


def test_a_penalised_estimate_minimises_its_objective_and_shows_no_errors():
    source = table()
    found = fitted(source, l2=0.1)
    rows = check_block(source, Rules(features=tuple(FEATURES))).rows

    def objective(beta):
        u = rows.x.astype(float) @ beta
        logs = [np.log(np.exp(part).sum()) for part in np.split(u, rows.starts[1:])]
        return (sum(logs) - u[rows.selected].sum()) / rows.decisions + 0.05 * beta @ beta

    least = objective(found.coefficients)
    for step in itertools.product([-1e-3, 0, 1e-3], repeat=2):
        assert objective(found.coefficients + step) >= least
    shown = coefficient_table(found)
    assert all(row == dict.fromkeys(row) | {k: row[k] for k in ("name", "estimate")} for row in shown["coefficients"])
    assert shown["withheld"] == ["the estimate is penalised (l2), so it has no standard errors, AIC and BIC"]
    assert (shown["covariance"], shown["l2"]) == (None, 0.1)


def test_a_penalty_tells_exact_copies_of_a_column_apart():
    source = table().append_column("copy", table()["cost"])
    found = fitted(source, [*FEATURES, "copy"], l2=0.01)
    assert found.coefficients[0] == pytest.approx(found.coefficients[2])
    assert found.not_identified == ()


def reference(name):
    if not (DATA / f"{name}.parquet").is_file():
        pytest.skip(f"the reference table ../shared/data/{name}.parquet is not here")
    return pq.read_table(DATA / f"{name}.parquet")


def test_swissmetro_has_the_reference_errors():
    source = reference("swissmetro")
    found = fitted(source.filter(source["_train"]), ["tt", "co", "he", "seats", "asc_sm", "asc_car"])
    classical, clustered = (np.sqrt(np.diag(matrix)).round(4).tolist() for matrix in (found.covariance, found.clustered))
    assert classical == [0.0377, 0.0266, 0.0328, 0.0774, 0.0626, 0.0695]
    assert clustered == [0.1361, 0.0935, 0.0359, 0.1387, 0.1390, 0.1007]
    assert found.individuals == 952


def test_modecanada_has_the_log_likelihood_of_the_textbook():
    source = reference("modecanada")
    source = source.filter(pc.equal(source["_noalt"], 4))
    features = ["cost", "freq", "ovt", "asc_air", "asc_bus", "asc_car"]
    found = fitted(source, features, [["asc_*", "income"], ["asc_*", "ivt"], ["asc_train", "ivt"]])
    assert (found.decisions, int(found.identified.sum())) == (2779, 13)
    assert found.log_likelihood == pytest.approx(-1874.3427, abs=1e-3)
