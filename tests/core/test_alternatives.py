from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.alternatives import AlternativeShare, add_alternatives, alternative_table, shares_by_code, shares_of
from mimic_core.evaluation import add_measured, measure
from mimic_core.identifiers import surrogates
from mimic_core.rows import Rows, slice_decisions

CAR, TRAIN, BUS = 5, -1, 900


def rows(decisions, weight=None):
    """Return rows of decisions, one of an individual each: alternatives, the first of which is selected."""
    counts = np.array([len(choices) for choices in decisions])
    starts = np.cumsum(counts) - counts
    selected = np.zeros(counts.sum(), bool)
    selected[starts] = True
    return Rows(
        individual=np.repeat(np.arange(len(counts)), counts),
        decision=np.zeros(counts.sum(), np.int64),
        choice=np.arange(counts.sum()) - np.repeat(starts, counts),
        selected=selected,
        x=np.zeros((counts.sum(), 0), np.float32),
        starts=starts,
        weight=weight,
        alternative=np.concatenate([np.array(choices, np.int64) for choices in decisions]),
    )


DECISIONS = [[CAR, TRAIN], [TRAIN, CAR, BUS], [CAR, BUS], [CAR]]


def test_shares_of_alternatives_worked_out_by_hand():
    found = rows(DECISIONS)
    utility = np.log(np.array([1, 3, 2, 1, 1, 1, 1, 1], float))
    table = alternative_table(measure(found, utility).alternatives)
    assert table == [
        AlternativeShare(
            alternative=TRAIN, offered=2, selected=1, observed_share=0.25, predicted_share=pytest.approx(5 / 16)
        ),
        AlternativeShare(alternative=CAR, offered=4, selected=3, observed_share=0.75, predicted_share=pytest.approx(8 / 16)),
        AlternativeShare(alternative=BUS, offered=2, selected=0, observed_share=0, predicted_share=pytest.approx(3 / 16)),
    ]
    assert shares_of([found]) == {TRAIN: 0.25, CAR: 0.75}


def test_shares_are_weighted_and_counts_are_not():
    weight = np.array([1, 3, 0, 0], np.float32)
    (train, car, bus) = alternative_table(measure(rows(DECISIONS, weight), np.zeros(8)).alternatives)
    assert (train.observed_share, car.observed_share, bus.observed_share) == (0.75, 0.25, 0)
    assert (train.predicted_share, car.predicted_share, bus.predicted_share) == pytest.approx((3 / 8, 3 / 8, 2 / 8))
    assert (train.offered, car.offered, bus.offered, car.selected) == (2, 4, 2, 3)
    assert shares_of([rows(DECISIONS, weight)]) == {TRAIN: 0.75, CAR: 0.25}


def test_the_shares_of_blocks_are_those_of_the_whole():
    random = np.random.default_rng(0)
    made = [random.permutation([CAR, TRAIN, BUS, 8, 9])[: random.integers(1, 6)] for _ in range(60)]
    whole = rows(made, random.uniform(0, 2, 60).astype(np.float32))
    utility = random.normal(size=len(whole))
    cuts = [0, 7, 7, 31, 60]
    bounds = np.append(whole.starts, len(whole))
    blocks = [slice_decisions(whole, first, last) for first, last in pairwise(cuts)]
    parts = [
        measure(block, utility[bounds[first] : bounds[first] + len(block)])
        for block, first in zip(blocks, cuts, strict=False)
    ]
    expected = alternative_table(measure(whole, utility).alternatives)
    for one, other in zip(alternative_table(add_measured(parts).alternatives), expected, strict=True):
        assert vars(one) == pytest.approx(vars(other), abs=1e-14)
    assert shares_of(blocks) == pytest.approx(shares_of([whole]))


def test_there_are_no_shares_without_labels_decisions_or_weight():
    nothing = slice_decisions(rows(DECISIONS), 0, 0)
    assert shares_of([]) is None
    assert shares_of([nothing]) is None
    assert shares_of([rows(DECISIONS, np.zeros(4, np.float32))]) is None
    assert add_alternatives([None]) is None
    assert alternative_table(None) == []


def test_shares_find_their_alternatives_in_a_table_by_the_type_of_its_labels():
    text = {"car": 0.5, "7": 0.5}
    assert shares_by_code(text, pa.string()) == dict(
        zip(surrogates(pa.array(["car", "7"])).tolist(), [0.5, 0.5], strict=True)
    )
    assert shares_by_code({"-7": 0.25, "12": 0.5, "1.5": 0.25, "car": 0.1}, pa.int64()) == {-7: 0.25, 12: 0.5}
