import numpy as np
import pytest

from mimic_core.evaluation import Evaluation, combine, evaluate, log_sum_exp, named


def decisions(n=50, largest=5, scale=1.0, seed=0):
    """Return utilities, selected and starts of n decisions of one to `largest` choices."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, largest + 1, n)
    starts = np.cumsum(counts) - counts
    selected = np.zeros(counts.sum(), bool)
    selected[starts + random.integers(0, counts)] = True
    return scale * random.normal(size=len(selected)), selected, starts


def reference(utility, selected, starts):
    """Evaluate in extended precision, one decision at a time."""
    nll, null, credit = [], [], []
    for part, chosen in zip(np.split(utility, starts[1:]), np.split(selected, starts[1:]), strict=True):
        u = part.astype(np.longdouble)
        nll.append(u.max() + np.log(np.exp(u - u.max()).sum()) - u[chosen][0])
        null.append(np.log(np.longdouble(len(u))))
        credit.append((u[chosen][0] == u.max()) / (u == u.max()).sum())
    return [float(np.mean(values)) for values in (nll, null, credit)]


def test_two_decisions_worked_out_by_hand():
    utility = np.log([1.0, 3.0, 1.0, 1.0, 2.0])
    found = evaluate(utility, np.array([False, True, False, False, True]), np.array([0, 2]))
    nll, null_nll = -(np.log(3 / 4) + np.log(2 / 4)) / 2, (np.log(2) + np.log(3)) / 2
    assert found.decisions == 2
    assert found.nll == pytest.approx(nll, abs=1e-15)
    assert found.null_nll == pytest.approx(null_nll, abs=1e-15)
    assert found.rho_squared == pytest.approx(1 - nll / null_nll, abs=1e-15)
    assert found.accuracy == 1.0


def test_equal_utilities_are_the_uniform_choice_and_share_the_credit():
    selected = np.array([True, False, False, False, False, True])
    found = evaluate(np.full(6, 7.0), selected, np.array([0, 4]))
    assert found.nll == pytest.approx(found.null_nll, abs=1e-15)
    assert found.rho_squared == pytest.approx(0.0, abs=1e-15)
    assert found.accuracy == (1 / 4 + 1 / 2) / 2


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_numbers_are_those_of_an_extended_precision_reference(scale):
    data = decisions(scale=scale)
    found = evaluate(*data)
    assert [found.nll, found.null_nll, found.accuracy] == pytest.approx(reference(*data), rel=1e-13)
    assert found.rho_squared == pytest.approx(1 - found.nll / found.null_nll, rel=1e-13)


def test_a_constant_added_to_the_utilities_of_a_decision_changes_nothing():
    utility, selected, starts = decisions()
    constants = np.repeat(
        np.random.default_rng(1).integers(-100, 100, len(starts)), np.diff(np.append(starts, len(utility)))
    )
    first, second = evaluate(utility, selected, starts), evaluate(utility + constants, selected, starts)
    assert first.nll == pytest.approx(second.nll, abs=1e-13)
    assert first.accuracy == second.accuracy


def test_decisions_with_a_single_choice_have_no_rho_squared_and_no_loss():
    found = evaluate(np.array([3.0, -1000.0]), np.array([True, True]), np.array([0, 1]))
    assert found == Evaluation(decisions=2, nll=0.0, null_nll=0.0, rho_squared=None, accuracy=1.0)


def test_no_decisions_are_no_evaluation():
    assert evaluate(np.empty(0), np.empty(0, bool), np.empty(0, np.int64)) is None
    assert combine([]) is None
    assert named(None, "test") == {}


def test_a_log_sum_does_not_overflow():
    assert log_sum_exp(np.array([1e5, 1e5, -1e5]), np.array([0, 2])) == pytest.approx([1e5 + np.log(2), -1e5])


def test_evaluations_of_parts_combine_to_that_of_the_whole():
    utility, selected, starts = decisions()
    cut = starts[20]
    parts = [
        evaluate(utility[:cut], selected[:cut], starts[:20]),
        evaluate(utility[cut:], selected[cut:], starts[20:] - cut),
    ]
    whole, found = evaluate(utility, selected, starts), combine(parts)
    for name in ("decisions", "nll", "null_nll", "rho_squared", "accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1e-14)


def test_numbers_are_named_after_their_split():
    found = named(Evaluation(decisions=2, nll=0.5, null_nll=1.0, rho_squared=0.5, accuracy=1.0), "test")
    assert found == {
        "test_decisions": 2,
        "test_nll": 0.5,
        "test_null_nll": 1.0,
        "test_rho_squared": 0.5,
        "test_accuracy": 1.0,
    }
