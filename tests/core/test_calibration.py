"""Calibration: what chance gives true probabilities, simulated, and which decisions are judged."""

import numpy as np
import pytest

from mimic_core.calibration import error_by_chance, judge_calibration
from mimic_core.evaluation import Measured, add_measured, combine, measure
from mimic_core.rows import Rows


def decisions(count, seed=0, *, weighted=False, choices=3, scale=1.5, factor=1.0):
    """Decisions whose choices are selected by a logit, with the utilities of another one `factor` times as steep."""
    random = np.random.default_rng(seed)
    utility = scale * random.normal(size=(count, choices))
    selected = np.argmax(utility + random.gumbel(size=utility.shape), axis=1)
    rows = Rows(
        individual=np.repeat(np.arange(count), choices),
        decision=np.zeros(count * choices, np.int64),
        choice=np.tile(np.arange(choices), count),
        selected=(selected[:, None] == np.arange(choices)).ravel(),
        x=np.zeros((count * choices, 0), np.float32),
        starts=np.arange(count) * choices,
        weight=random.uniform(0.2, 3, count).astype(np.float32) if weighted else None,
    )
    return rows, factor * utility.ravel()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [50, 1_000])
def test_the_error_by_chance_is_that_of_simulated_true_probabilities(count, weighted):
    found = [measure(*decisions(count, seed, weighted=weighted)) for seed in range(200)]
    errors = np.mean([combine([each]).calibration_error for each in found])
    expected = np.mean([error_by_chance(each) for each in found])
    assert 0.95 * errors < expected < 1.15 * errors  # rather too large, since choices of a decision are not independent


def test_sums_of_blocks_give_the_error_by_chance_of_all():
    whole, halves = decisions(400), [decisions(200, 1), decisions(200, 2)]
    parts = [measure(*half) for half in halves]
    assert add_measured(parts).bin_variance == pytest.approx(sum(part.bin_variance for part in parts))
    assert error_by_chance(add_measured(parts)) == pytest.approx(error_by_chance(measure(*whole)), rel=0.1)


def test_probabilities_that_are_too_sure_are_above_the_limit_and_true_ones_below():
    true, steep = (measure(*decisions(5_000, factor=factor)) for factor in (1.0, 2.0))
    assert judge_calibration({"train": Measured(), "test": true}).kept
    judged = judge_calibration({"train": true, "test": steep})
    assert (judged.split, judged.decisions, judged.kept) == ("test", 5_000, False)
    assert judged.limit == 0.05 + judged.by_chance
    assert judged.by_chance < 0.02


def test_training_decisions_are_judged_where_no_test_decision_has_a_label_or_weight():
    found = measure(*decisions(50))
    assert judge_calibration({"train": found, "test": Measured()}).split == "train"
    assert judge_calibration({"train": Measured(), "test": Measured()}) is None


def test_certain_probabilities_have_no_error_by_chance():
    rows, utility = decisions(20)
    certain = np.where(rows.selected, 800.0, -800.0) + 0 * utility
    assert error_by_chance(measure(rows, certain)) == 0.0
