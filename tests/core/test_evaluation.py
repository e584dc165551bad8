import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.evaluation import Measured, add_measured, combine, evaluate, log_sum_exp, measure, named
from mimic_core.rows import Rows, slice_decisions

A, B, C = 7, -2, 3  # codes of alternatives


def flat(decisions):
    """Return rows and utilities of decisions: (individual, weight, place of the selected, [(alternative, utility)])."""
    counts = np.array([len(choices) for *_, choices in decisions], np.int64)
    starts = np.cumsum(counts) - counts
    individual, weight, place, _ = zip(*decisions, strict=True)
    alternative, utility = zip(*(choice for *_, choices in decisions for choice in choices), strict=True)
    selected = np.zeros(counts.sum(), bool)
    selected[starts + np.array(place)] = True
    rows = Rows(
        individual=np.repeat(np.array(individual, np.int64), counts),
        decision=np.repeat(np.arange(len(counts)), counts),
        choice=np.arange(counts.sum()) - np.repeat(starts, counts),
        selected=selected,
        x=np.zeros((counts.sum(), 0), np.float32),
        starts=starts,
        weight=np.array(weight, np.float32),
        alternative=np.array(alternative, np.int64),
    )
    return rows, np.array(utility, np.float64)


def decisions(n=50, largest=5, scale=1.0, seed=0):
    """Return rows and utilities of n decisions of one to `largest` choices, without weights or labels."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, largest + 1, n)
    made = [(i // 4, 1, random.integers(size), [(0, u) for u in random.normal(size=size)]) for i, size in enumerate(sizes)]
    rows, utility = flat(made)
    return replace(rows, weight=None, alternative=None), scale * utility


def mean(values):
    """Average (weight, value) pairs, those of weight 0 left out; None when nothing is left."""
    counted = [(weight, value) for weight, value in values if weight > 0]
    return math.fsum(w * v for w, v in counted) / math.fsum(w for w, _ in counted) if counted else None


def mean_over_individuals(values):
    """Average (individual, weight, value): each individual's weighted mean counts by the mean of its positive weights."""
    of_individuals = {}
    for individual, weight, value in values:
        if weight > 0:
            of_individuals.setdefault(individual, []).append((weight, value))
    return mean([(sum(w for w, _ in found) / len(found), mean(found)) for found in of_individuals.values()])


def reference(decisions, shares):
    """Evaluate one decision at a time, straight from the definitions; None where no decision has a weight."""
    loss, null, credit, by_individual, contrasts, bins, by_shares, sizes = [], [], [], [], [], {}, [], []
    for individual, weight, place, choices in decisions:
        utility = [u for _, u in choices]
        scaled = [math.exp(u - max(utility)) for u in utility]
        probability = [value / sum(scaled) for value in scaled]
        log_probability = utility[place] - max(utility) - math.log(sum(scaled))
        loss.append((weight, -log_probability))
        null.append((weight, math.log(len(choices))))
        above, tied = sum(u > utility[place] for u in utility), sum(u == utility[place] for u in utility)
        credit.append((weight, [min(max((k - above) / tied, 0), 1) for k in (1, 3, 5)]))
        by_individual.append((individual, weight, log_probability))
        others = [u for j, u in enumerate(utility) if j != place]
        if others:
            against = [-math.log1p(math.exp(u - utility[place])) for u in others]
            contrasts.append((individual, weight, sum(against) / len(against)))
        for j, p in enumerate(probability):
            bins.setdefault(min(math.floor(15 * p), 14), []).append((weight, p, j == place))
        of_choices = [shares.get(code, 0) for code, _ in choices]
        if weight > 0:
            sizes.append(len(choices))
            by_shares.append((weight, of_choices[place] and of_choices[place] / sum(of_choices)))
    if mean(loss) is None:
        return None
    rows = math.fsum(w for found in bins.values() for w, _, _ in found)
    error = math.fsum(abs(math.fsum(w * (p - chosen) for w, p, chosen in found)) for found in bins.values()) / rows
    top = [mean([(w, value[k]) for w, value in credit]) for k in range(3)]
    return {
        "decisions": len(decisions),
        "individuals": len({individual for individual, *_ in decisions}),
        "nll": mean(loss),
        "null_nll": mean(null),
        "rho_squared": 1 - mean(loss) / mean(null) if mean(null) else None,
        "accuracy": top[0],
        "top_3_accuracy": top[1] if max(sizes) > 3 else None,
        "top_5_accuracy": top[2] if max(sizes) > 5 else None,
        "d_nlp": mean_over_individuals(by_individual),
        "contrast_d_nlp": mean_over_individuals(contrasts),
        "calibration_error": error,
        "shares_nll": mean([(w, -math.log(p)) for w, p in by_shares]) if all(p for _, p in by_shares) else None,
    }


def test_two_decisions_worked_out_by_hand():
    rows, utility = flat([(1, 1, 1, [(A, 0), (B, np.log(3))]), (2, 1, 2, [(A, 0), (B, 0), (C, np.log(2))])])
    found = evaluate(rows, utility, {A: 0.25, B: 0.5, C: 0.25})
    nll, null_nll = -(np.log(3 / 4) + np.log(2 / 4)) / 2, (np.log(2) + np.log(3)) / 2
    assert (found.decisions, found.individuals, found.accuracy) == (2, 2, 1.0)
    assert found.nll == pytest.approx(nll, abs=1e-15)
    assert found.null_nll == pytest.approx(null_nll, abs=1e-15)
    assert found.rho_squared == pytest.approx(1 - nll / null_nll, abs=1e-15)
    assert found.d_nlp == pytest.approx(-nll, abs=1e-15)  # one decision each
    assert found.contrast_d_nlp == pytest.approx((np.log(3 / 4) + np.log(2 / 3)) / 2, abs=1e-15)
    assert found.shares_nll == pytest.approx(-(np.log(0.5 / 0.75) + np.log(0.25)) / 2, abs=1e-15)
    assert (found.top_3_accuracy, found.top_5_accuracy) == (None, None)


def test_the_calibration_error_is_that_of_its_bins_by_hand():
    # probabilities 1/4 (rows 1, 3; one of them selected), 3/4 (rows 2, 4) and, of the last decision, 1/2 twice
    rows, utility = flat([(i, 1, 0, [(A, 0), (B, np.log(3))]) for i in (1, 2)] + [(3, 2, 0, [(A, 0), (B, 0)])])
    rows = replace(rows, selected=np.array([True, False, False, True, True, False]))
    assert evaluate(rows, utility).calibration_error == pytest.approx((0.5 + 0.5 + 0) / 8, abs=1e-15)


def test_an_individual_counts_once_in_d_nlp_whatever_the_number_of_its_decisions():
    half, quarter = (1, 0, [(A, 0), (B, 0)]), (1, 0, [(A, 0), (B, np.log(3))])
    rows, utility = flat([(1, *half), (1, *half), (1, *half), (2, *quarter)])
    found = evaluate(rows, utility)
    assert found.nll == pytest.approx((3 * np.log(2) + np.log(4)) / 4, abs=1e-15)
    assert found.d_nlp == pytest.approx(-(np.log(2) + np.log(4)) / 2, abs=1e-15)


def test_weights_count_decisions_in_means_and_individuals_by_their_mean_weight():
    half, quarter = [(A, 0), (B, 0)], [(A, 0), (B, np.log(3))]
    rows, utility = flat([(1, 1, 0, half), (1, 3, 0, quarter), (2, 4, 1, quarter), (2, 0, 0, half)])
    found = evaluate(rows, utility)
    loss = np.log([2, 4, 4 / 3])
    assert found.decisions == 4
    assert found.nll == pytest.approx(loss @ [1, 3, 4] / 8, abs=1e-15)
    assert found.accuracy == pytest.approx((1 / 2 + 0 + 4) / 8, abs=1e-15)
    assert found.d_nlp == pytest.approx(-(2 * (loss[0] + 3 * loss[1]) / 4 + 4 * loss[2]) / 6, abs=1e-15)


@pytest.mark.parametrize(
    ("utility", "top"),
    [
        ([3, 2, 1, 0, 0, -1], (1, 1, 1)),
        ([0, 3, 2, 1, -1, -1], (0, 0, 1)),
        ([0, 3, 2, 0, 0, -1], (0, 1 / 3, 1)),
        ([0, 0, 0, 0, 0, 0], (1 / 6, 3 / 6, 5 / 6)),
        ([0, 1, 1, 1, 1, 1], (0, 0, 0)),
    ],
)
def test_ties_share_the_credit_of_being_among_the_highest(utility, top):
    rows, utility = flat([(1, 1, 0, [(A, u) for u in utility])])
    found = evaluate(rows, utility)
    assert (found.accuracy, found.top_3_accuracy, found.top_5_accuracy) == pytest.approx(top, abs=1e-15)


def test_equal_utilities_are_the_uniform_choice():
    rows, _ = decisions()
    found = evaluate(rows, np.full(len(rows), 7.0))
    assert found.nll == pytest.approx(found.null_nll, abs=1e-15)
    assert found.rho_squared == pytest.approx(0.0, abs=1e-15)
    assert found.contrast_d_nlp == pytest.approx(-np.log(2), abs=1e-15)


def test_on_pairs_the_contrasts_are_the_decisions():
    made = [(i // 3, 1 + i % 2, i % 2, [(A, 0.1 * i), (B, 1.0)]) for i in range(20)]
    found = evaluate(*flat(made))
    assert found.contrast_d_nlp == pytest.approx(found.d_nlp, abs=1e-14)


def test_shares_of_the_selected_choices_are_their_own_best_guess():
    rows, utility = flat([(i, 1, i % 3 % 2, [(A, 0), (B, 0)]) for i in range(9)])
    found = evaluate(rows, utility, {A: 2 / 3, B: 1 / 3})
    assert found.shares_nll == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)) / 3, abs=1e-15)


def test_a_selected_alternative_without_a_share_leaves_no_shares_nll_unless_its_weight_is_0():
    rows, utility = flat([(1, 1, 0, [(A, 0), (B, 0)]), (2, 1, 1, [(A, 0), (B, 0)])])
    assert evaluate(rows, utility, {A: 1.0}).shares_nll is None
    assert evaluate(rows, utility, {A: 1.0, B: 0.0}).shares_nll is None
    assert evaluate(replace(rows, weight=np.array([1, 0], np.float32)), utility, {A: 1.0}).shares_nll == 0
    assert evaluate(rows, utility).shares_nll is None
    assert evaluate(replace(rows, alternative=None), utility, {A: 1.0}).shares_nll is None


def test_decisions_with_a_single_choice_have_no_loss_and_nothing_to_compare():
    rows, utility = flat([(1, 1, 0, [(A, 3)]), (1, 1, 0, [(A, -1000)])])
    found = evaluate(rows, utility)
    assert (found.nll, found.null_nll, found.accuracy, found.d_nlp, found.calibration_error) == (0, 0, 1, 0, 0)
    assert found.rho_squared is None
    assert found.contrast_d_nlp is None


def test_no_decisions_or_no_weight_are_no_evaluation():
    rows, utility = flat([(1, 0, 0, [(A, 0), (B, 0)])])
    assert evaluate(rows, utility) is None
    assert evaluate(slice_decisions(rows, 0, 0), np.empty(0)) is None
    assert combine([]) is None
    assert combine([Measured(), measure(rows, utility)]) is None
    assert named(None, "test") == {}


@pytest.mark.parametrize("largest", [1e5, 1e300])
def test_utilities_of_any_finite_size_give_numbers(largest):
    made = [(1, 1, 1, [(A, largest), (B, -largest)]), (1, 1, 0, [(A, largest), (B, -largest)]), (2, 1, 0, [(A, largest)])]
    rows, utility = flat(made)
    found = evaluate(rows, utility, {A: 0.5, B: 0.5})
    assert found.nll == pytest.approx(2 * largest / 3)
    assert found.contrast_d_nlp == pytest.approx(-largest)
    assert found.calibration_error == pytest.approx(2 / 5)
    assert all(np.isfinite(value) for value in asdict(found).values() if value is not None)


def test_utilities_that_are_not_finite_give_a_loss_that_is_not():
    rows, utility = decisions()
    for utility[0] in (np.nan, np.inf):
        with np.errstate(invalid="ignore"):
            assert math.isnan(evaluate(rows, utility).nll)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_the_likelihood_is_that_of_an_extended_precision_reference(scale):
    rows, utility = decisions(scale=scale)
    loss = []
    for part, chosen in zip(np.split(utility, rows.starts[1:]), np.split(rows.selected, rows.starts[1:]), strict=True):
        u = part.astype(np.longdouble)
        loss.append(u.max() + np.log(np.exp(u - u.max()).sum()) - u[chosen][0])
    assert evaluate(rows, utility).nll == pytest.approx(float(np.mean(loss)), rel=1e-13)


def test_a_constant_added_to_the_utilities_of_a_decision_changes_nothing():
    rows, utility = decisions()
    constants = np.repeat(np.random.default_rng(1).integers(-100, 100, rows.decisions), rows.counts)
    first, second = evaluate(rows, utility), evaluate(rows, utility + constants)
    for name in ("nll", "accuracy", "d_nlp", "contrast_d_nlp", "calibration_error"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-13)


CHOICES = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.one_of(st.integers(-3, 3), st.floats(-40, 40))), min_size=1, max_size=7
)
DECISION = st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(0, 6), CHOICES).map(
    lambda made: (made[0], made[1], made[2] % len(made[3]), made[3])
)
SHARES = st.fixed_dictionaries({A: st.floats(0.01, 1), B: st.floats(0.01, 1), C: st.sampled_from([0.0, 0.3])})


@settings(deadline=None, derandomize=True, max_examples=300)
@given(made=st.lists(DECISION, min_size=1, max_size=12), shares=SHARES, cut=st.integers(0, 4))
def test_every_number_is_that_of_a_plain_reading_however_individuals_are_divided_into_blocks(made, shares, cut):
    made = sorted(made, key=lambda decision: decision[0])
    expected = reference(made, shares)
    if expected:
        expected = {
            name: None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in expected.items()
        }
    rows, utility = flat(made)
    at = sum(individual <= cut for individual, *_ in made)
    row = int(np.append(rows.starts, len(rows))[at])
    parts = [
        measure(slice_decisions(rows, 0, at), utility[:row], shares),
        measure(slice_decisions(rows, at, rows.decisions), utility[row:], shares),
    ]
    for found in (evaluate(rows, utility, shares), combine(parts), combine([add_measured(parts), Measured()])):
        assert (found and asdict(found)) == expected


def test_the_weight_of_a_decision_is_what_repeating_it_would_be_for_means_over_decisions():
    made = [(i // 3, 1 + i % 3, i % 2, [(A, 0.1 * i), (B, 1.0), (C, -0.3)]) for i in range(30)]
    repeated = [(i, 1, place, choices) for i, weight, place, choices in made for _ in range(weight)]
    weighted, plain = evaluate(*flat(made)), evaluate(*flat(repeated))
    for name in ("nll", "null_nll", "rho_squared", "accuracy", "calibration_error"):
        assert getattr(weighted, name) == pytest.approx(getattr(plain, name), abs=1e-14)


def test_a_log_sum_does_not_overflow():
    assert log_sum_exp(np.array([1e5, 1e5, -1e5]), np.array([0, 2])) == pytest.approx([1e5 + np.log(2), -1e5])


def test_rho_squared_of_a_composite_likelihood_is_withheld():
    found = evaluate(*flat([(1, 1, 0, [(A, 0), (B, 0)])]))
    plain, composite = named(found, "test"), named(found, "test", composite=True)
    assert plain["test_rho_squared"] == 0.0
    assert composite == plain | {"test_rho_squared": None}


def test_numbers_are_named_after_their_split():
    found = named(evaluate(*flat([(1, 1, 0, [(A, 0), (B, 0)])])), "test")
    assert found == {
        "test_decisions": 1,
        "test_individuals": 1,
        "test_nll": np.log(2),
        "test_null_nll": np.log(2),
        "test_rho_squared": 0.0,
        "test_accuracy": 0.5,
        "test_top_3_accuracy": None,
        "test_top_5_accuracy": None,
        "test_d_nlp": -np.log(2),
        "test_contrast_d_nlp": -np.log(2),
        "test_calibration_error": 0.0,
        "test_shares_nll": None,
    }
