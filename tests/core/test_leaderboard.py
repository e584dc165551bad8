"""Leaderboards: ranks, intervals and individuals, against hand-computed numbers and against the comparison of two runs."""

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.comparison import SCHEMA, compare
from mimic_core.leaderboard import contest, rank


def sums(log_likelihood, decisions=None, weight=None):
    """Return the sums of some individuals, of one decision of weight 1 each unless told."""
    count = len(log_likelihood)
    decisions = [1] * count if decisions is None else decisions
    weight = decisions if weight is None else weight
    columns = [range(count), decisions, np.array(weight, float), np.array(log_likelihood, float)]
    return pa.table([pa.array(column) for column in columns], schema=SCHEMA)


def drawn(seed, individuals=30):
    """Return the sums of a run on individuals of 1 to 5 decisions, some of weight 0; those are the same for every seed."""
    random = np.random.default_rng(0)
    decisions, weight = random.integers(0, 6, individuals), random.uniform(0.5, 2, individuals)
    return sums(np.random.default_rng(seed).uniform(-3, -1, individuals) * decisions, decisions, weight * decisions)


def test_runs_are_ranked_by_their_nll():
    board = rank([sums([-2, -4], [1, 2]), sums([-1, -2], [1, 2]), sums([-1, -5], [1, 2])])
    assert [standing.run for standing in board.standings] == [1, 0, 2]
    assert [standing.nll.value for standing in board.standings] == pytest.approx([1, 2, 2])
    assert [standing.d_nlp.value for standing in board.standings] == pytest.approx([-1, -2, -1.75])
    assert [standing.difference and standing.difference.value for standing in board.standings] == [
        None,
        pytest.approx(1),
        pytest.approx(1),
    ]
    assert (board.individuals, board.decisions) == (2, 3)


def test_the_interval_of_two_individuals_is_exact():
    """A resample is the first twice, both, or the second twice, with chances of 1/4, 1/2 and 1/4."""
    best, other = rank([sums([-1, -4]), sums([-3, -4])], resamples=4000).standings
    assert (best.nll.low, best.nll.value, best.nll.high) == (1, 2.5, 4)
    assert (best.d_nlp.low, best.d_nlp.high) == (-4, -1)
    assert (other.difference.low, other.difference.value, other.difference.high) == (0, 1, 2)
    assert not other.difference.is_clear


def test_intervals_of_differences_are_those_of_the_comparison_of_two_runs():
    tables = [drawn(seed) for seed in (1, 2, 3)]
    board = rank(tables, resamples=500, seed=4)
    best = board.standings[0]
    for standing in board.standings[1:]:
        expected = compare(tables[standing.run], tables[best.run], resamples=500, seed=4)
        found = standing.difference
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.nll.difference, expected.nll.low, expected.nll.high), abs=1e-12
        )
        assert (standing.nll.value, standing.d_nlp.value) == pytest.approx((expected.nll.first, expected.d_nlp.first))
        assert found.is_clear == expected.nll.is_clear


def test_one_run_stands_alone_and_one_individual_has_no_interval():
    (standing,) = rank([sums([-1, -2])]).standings
    assert standing.difference is None
    first, second = rank([sums([-2]), sums([-1])]).standings
    assert (first.nll.value, first.nll.low, second.difference.high) == (1, None, None)
    assert not second.difference.is_clear
    assert contest(sums([-2]), sums([-1])).share.low is None


def test_individuals_are_counted_for_the_run_that_explains_them_better():
    first, second = sums([-1, -2, -9, -3], [1, 2, 3, 0]), sums([-3, -2, -3, -9], [1, 2, 3, 0])
    found = contest(first, second)
    assert (found.first_better, found.second_better, found.equal) == (1, 1, 1)  # that of weight 0 is left out
    assert found.share.value == 0.5
    assert list(found.differences) == [-2, 0, 2]  # per decision
    assert [(one.individual, one.decisions, one.difference) for one in found.first_most] == [(0, 1, 2)]
    assert [(one.individual, one.decisions, one.difference) for one in found.second_most] == [(2, 3, -2)]


def test_the_most_extreme_individuals_come_first_on_either_side():
    difference = np.arange(-15, 16)
    found = contest(sums(difference - 20.0), sums(np.full(31, -20.0)))
    assert [one.individual for one in found.first_most] == list(range(30, 20, -1))
    assert [one.individual for one in found.second_most] == list(range(10))


def test_the_interval_of_a_share_is_that_of_a_bootstrap():
    found = contest(sums([-1] * 60 + [-3] * 40), sums([-2] * 100), resamples=4000)
    assert found.share.value == 0.6
    assert (found.share.low, found.share.high) == pytest.approx((0.504, 0.696), abs=0.015)  # 1.96 sqrt(0.6 * 0.4 / 100)
