"""Score counts: which rows are counted where, and probabilities that do not sum to one."""

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.errors import TrainingError
from mimic_core.inferences import choice_probabilities
from mimic_core.score_counts import BINS, KINDS, add_counts, count_scores, require_sums_of_one

STARTS = np.array([0, 2, 5, 6])  # decisions of 2, 3, 1 and 2 choices
SELECTED = np.array([True, False, False, True, False, True, False, False])


def scored(utility, starts=STARTS):
    probability, _, log_odds = choice_probabilities(np.array(utility, float), starts)
    return pa.table({"probability": probability, "log_odds": log_odds})


def test_rows_are_counted_by_what_is_known_of_their_decision():
    found = count_scores(scored([0.0, 0, 30, 0, 0, 0, 0, 0]), STARTS, SELECTED)
    by_kind = dict(zip(KINDS, found.probability.tolist(), strict=True))
    places = {kind: {place: rows for place, rows in enumerate(counts) if rows} for kind, counts in by_kind.items()}
    half, last = BINS // 2, BINS - 1
    assert places == {
        "selected": {half: 1, 0: 1, last: 1},
        "rejected": {half: 1, 0: 1, last: 1},
        "not known": {half: 2},
    }
    assert found.infinite.tolist() == [1, 0, 0]
    assert found.log_odds.sum(axis=1).tolist() == [2, 3, 2]
    assert (found.log_odds[0, 0], found.log_odds[1, -1]) == (1, 1)  # beyond the reach
    assert found.decisions == 4


def test_counts_of_parts_add_up():
    table = scored([0.0, 1, 2, 0, 0, 0, 3, 0])
    whole = count_scores(table, STARTS, SELECTED)
    parts = [
        count_scores(table.slice(0, 5), STARTS[:2], SELECTED[:5]),
        count_scores(table.slice(5), STARTS[2:] - 5, SELECTED[5:]),
        count_scores(table.slice(0, 0), STARTS[:0], SELECTED[:0]),
    ]
    added = add_counts(parts)
    assert all((getattr(added, name) == getattr(whole, name)).all() for name in ("probability", "log_odds", "infinite"))
    assert (added.decisions, added.off, added.largest_difference) == (4, 0, whole.largest_difference)
    assert add_counts([]).decisions == 0


def test_probabilities_that_do_not_sum_to_one_are_refused_with_how_far_they_are_off():
    table = scored([0.0] * 8)
    require_sums_of_one(count_scores(table, STARTS, SELECTED), "r")
    probability = table["probability"].to_numpy().copy()
    probability[[0, 5]] += [1e-3, 1e-7]
    found = count_scores(table.set_column(0, "probability", pa.array(probability)), STARTS, SELECTED)
    assert (found.off, found.largest_difference) == (1, pytest.approx(1e-3))
    with pytest.raises(
        TrainingError, match=r"run r gives 1 of 4 decisions probabilities that do not sum to 1, .* 0.001 off"
    ):
        require_sums_of_one(found, "r")


def test_a_probability_that_is_not_a_number_is_refused_however_parts_are_added():
    table = scored([0.0] * 8)
    probability = table["probability"].to_numpy().copy()
    probability[3] = np.nan
    broken = count_scores(table.set_column(0, "probability", pa.array(probability)), STARTS, SELECTED)
    assert broken.off == 1
    whole = count_scores(table, STARTS, SELECTED)
    for parts in ((broken, whole), (whole, broken)):
        with pytest.raises(TrainingError, match=r"1 of 8 decisions probabilities that do not sum to 1, .* nan off"):
            require_sums_of_one(add_counts(parts), "r")
