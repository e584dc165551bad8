from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mimic_core import comparison
from mimic_core.comparison import SCHEMA, compare, individual_sums
from mimic_core.errors import SpecError
from mimic_core.evaluation import evaluate
from mimic_core.rows import Rows, slice_decisions


def sums(log_likelihood, decisions=None, weight=None):
    """Return the sums of some individuals, of one decision of weight 1 each unless told."""
    count = len(log_likelihood)
    decisions = [1] * count if decisions is None else decisions
    weight = decisions if weight is None else weight
    columns = [range(count), decisions, np.array(weight, float), np.array(log_likelihood, float)]
    return pa.table([pa.array(column) for column in columns], schema=SCHEMA)


def judged(n=40, seed=0):
    """Return rows of n decisions of 2 or 3 choices, some of weight 0, and utilities by two models."""
    random = np.random.default_rng(seed)
    counts = random.integers(2, 4, n)
    starts = np.cumsum(counts) - counts
    selected = np.zeros(counts.sum(), bool)
    selected[starts + random.integers(0, counts)] = True
    rows = Rows(
        individual=np.repeat(np.sort(random.integers(-5, 5, n)), counts),
        decision=np.repeat(np.arange(n), counts),
        choice=np.arange(counts.sum()),
        selected=selected,
        x=np.zeros((counts.sum(), 0), np.float32),
        starts=starts,
        weight=random.choice([0, 1, 1, 2.5], n).astype(np.float32),
    )
    return rows, random.normal(size=(2, len(rows)))


def test_the_sums_of_individuals_worked_out_by_hand():
    rows = Rows(
        individual=np.array([-3, -3, 8, 8, 8, 8, 8, 8]),
        decision=np.array([0, 0, 0, 0, 1, 1, 2, 2]),
        choice=np.array([0, 1] * 4),
        selected=np.array([True, False] * 4),
        x=np.zeros((8, 0), np.float32),
        starts=np.array([0, 2, 4, 6]),
        weight=np.array([2, 1, 0, 0.5], np.float32),
    )
    found = individual_sums(rows, np.array([0, 0, 0, np.log(3), 5, 0, 0, 0]))
    assert found.schema == SCHEMA
    assert found["individual"].to_pylist() == [-3, 8]
    assert found["decisions"].to_pylist() == [1, 2]  # that of weight 0 counts for nothing
    assert found["weight"].to_pylist() == [2, 1.5]
    assert found["log_likelihood"].to_pylist() == pytest.approx([-2 * np.log(2), -np.log(4) - np.log(2) / 2])
    plain = individual_sums(replace(rows, weight=None), np.zeros(8))
    assert plain["weight"].to_pylist() == [1, 3]
    assert individual_sums(slice_decisions(rows, 0, 0), np.empty(0)).equals(SCHEMA.empty_table())


def test_the_numbers_of_both_runs_are_those_of_their_evaluations():
    rows, utilities = judged()
    found = compare(*(individual_sums(rows, utility) for utility in utilities))
    first, second = (evaluate(rows, utility) for utility in utilities)
    assert (found.nll.first, found.nll.second) == pytest.approx((first.nll, second.nll), abs=1e-14)
    assert (found.d_nlp.first, found.d_nlp.second) == pytest.approx((first.d_nlp, second.d_nlp), abs=1e-14)
    assert found.nll.difference == pytest.approx(first.nll - second.nll, abs=1e-14)
    assert found.d_nlp.difference == pytest.approx(first.d_nlp - second.d_nlp, abs=1e-14)
    assert found.decisions == int((rows.weight > 0).sum())


def test_a_difference_that_is_the_same_for_every_individual_has_an_interval_of_no_width():
    found = compare(sums([-3, -2, -1.5]), sums([-3.5, -2.5, -2]))
    assert (found.nll.difference, found.nll.low, found.nll.high) == pytest.approx((-0.5,) * 3)
    assert (found.d_nlp.difference, found.d_nlp.low, found.d_nlp.high) == pytest.approx((0.5,) * 3)
    assert found.first_better == 1
    assert found.nll.is_clear


def test_the_interval_of_two_individuals_is_exact():
    """A resample is the first twice, both, or the second twice, with chances of 1/4, 1/2 and 1/4."""
    found = compare(sums([-1, -5]), sums([-3, -2]), resamples=4000)
    assert (found.nll.low, found.nll.difference, found.nll.high) == (-2, 0.5, 3)
    assert found.first_better == pytest.approx(0.25, abs=0.02)
    assert not found.nll.is_clear


def test_a_run_does_not_differ_from_itself():
    found = compare(sums([-1, -5, -2]), sums([-1, -5, -2]))
    assert (found.nll.low, found.nll.high, found.first_better) == (0, 0, 0)
    assert not found.nll.is_clear


def test_resamples_are_those_of_a_plain_loop_however_many_are_made_at_once(monkeypatch):
    rows, utilities = judged()
    first, second = (individual_sums(rows, utility) for utility in utilities)
    pairs = [(a, b) for a, b in zip(first.to_pylist(), second.to_pylist(), strict=True) if a["decisions"]]
    random, nll, d_nlp = np.random.default_rng(3), [], []
    for _ in range(200):
        loss = weight = value = share = 0.0
        for place in random.integers(0, len(pairs), len(pairs)):
            a, b = pairs[place]
            difference = a["log_likelihood"] - b["log_likelihood"]
            loss, weight = loss - difference, weight + a["weight"]
            value, share = value + difference / a["decisions"], share + a["weight"] / a["decisions"]
        nll.append(loss / weight)
        d_nlp.append(value / share)
    for at_once in (comparison.DRAWS_AT_ONCE, 1, 7 * len(pairs)):
        monkeypatch.setattr(comparison, "DRAWS_AT_ONCE", at_once)
        found = compare(first, second, resamples=200, seed=3)
        assert (found.nll.low, found.nll.high) == pytest.approx(np.quantile(nll, [0.025, 0.975]), abs=1e-12)
        assert (found.d_nlp.low, found.d_nlp.high) == pytest.approx(np.quantile(d_nlp, [0.025, 0.975]), abs=1e-12)
        assert found.first_better == np.mean(np.array(nll) < 0)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    random, held = np.random.default_rng(0), 0
    for seed in range(200):
        decisions = random.integers(1, 6, 80)
        of_individual = random.normal(0.1, 0.3, 80)  # what a decision of each gains, alike within an individual
        found = compare(sums(of_individual * decisions, decisions), sums(np.zeros(80), decisions), resamples=300, seed=seed)
        held += found.nll.low <= -0.1 <= found.nll.high
    assert 0.9 <= held / 200 <= 0.98


def test_the_order_of_individuals_and_those_of_weight_0_do_not_matter():
    first, second = sums([-1, -5, -2, -3], [1, 2, 0, 1]), sums([-3, -2, -9, -4], [1, 2, 0, 1])
    expected = compare(first, second)
    assert expected.individuals == 3
    assert compare(first.take([3, 1, 0]), second.take([1, 3, 0])) == expected


def test_the_unit_of_the_weights_does_not_matter():
    rows, utilities = judged()
    first, second = (individual_sums(rows, utility) for utility in utilities)
    other = individual_sums(replace(rows, weight=rows.weight * np.float32(0.3)), utilities[1])
    found, expected = compare(first, other), compare(first, second)
    assert vars(found.nll) == pytest.approx(vars(expected.nll), abs=1e-6)
    assert vars(found.d_nlp) == pytest.approx(vars(expected.d_nlp), abs=1e-6)


@pytest.mark.parametrize(
    "other",
    [sums([-1, -2]), sums([-1, -2, -3], [1, 1, 2]), sums([-1, -2, -3], weight=[1, 1, 0.5])],
    ids=["individuals", "decisions", "weights"],
)
def test_runs_that_were_evaluated_on_other_decisions_are_refused(other):
    with pytest.raises(
        SpecError, match=r"not evaluated on the same decisions: 3 decisions of 3 individuals, and \d decisions"
    ):
        compare(sums([-1, -2, -3]), other)


def test_one_individual_has_no_interval():
    with pytest.raises(SpecError, match="on 1 individuals of positive weight, expected at least 2"):
        compare(sums([-1]), sums([-2]))
