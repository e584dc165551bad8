"""Effects: by hand, against finite differences of probabilities, and the same however the rows are divided."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core import effects
from mimic_core.backend import import_keras
from mimic_core.effects import LEVELS, add_effects, notes_on, own_effects, sum_effects, summarise
from mimic_core.inferences import choice_probabilities
from mimic_core.interactions import columns
from mimic_core.layers_files import load_layers
from mimic_core.model_specs import ModelSpec
from mimic_core.networks import build_network, gradient_function, utility_function
from mimic_core.rows import Rows, decision_starts, slice_decisions

LABELS = {1: "bus", 2: "car", 3: "train"}


@pytest.fixture
def float64():
    """Networks are made in float64, also their inputs and their utility, so that differences can be small."""
    config = import_keras().config
    config.set_floatx("float64")
    config.set_dtype_policy("float64")
    yield
    config.set_floatx("float32")
    config.set_dtype_policy("float32")


def decisions(count, seed=0, *, labelled=True, weighted=True):
    """Random decisions of one to three choices with two features."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 4, count)
    individual, total = np.repeat(np.arange(count), sizes), int(sizes.sum())
    return Rows(
        individual=individual,
        decision=np.zeros(total, np.int64),
        choice=np.arange(total),
        selected=np.zeros(total, np.bool_),
        x=random.normal(size=(total, 2)).astype(np.float32),
        starts=decision_starts(individual, individual),
        weight=random.uniform(0, 2, count).astype(np.float32) if weighted else None,
        alternative=random.integers(1, 4, total) if labelled else None,
    )


def effects_of(rows, coefficients=(2.0, -0.5), table_rows=None):
    """Sums of the effects of a linear model."""
    slope = np.tile(np.array(coefficients), (len(rows), 1))
    probability, odds, _ = choice_probabilities(rows.x.astype(float) @ coefficients, rows.starts)
    return sum_effects(rows, probability, own_effects(probability, odds, slope, rows.x), rows.x, LABELS, table_rows)


def plain(found):
    """Numbers of effects, by feature and label."""
    return {(one.feature, one.alternative): one for one in found}


def one_decision(weight):
    """Two choices of one decision, whose utilities by the coefficient 2 are ln 3 apart."""
    return Rows(
        individual=np.zeros(2, np.int64),
        decision=np.zeros(2, np.int64),
        choice=np.arange(2),
        selected=np.zeros(2, np.bool_),
        x=np.array([[np.log(3) / 2], [0.0]], np.float32),
        starts=np.zeros(1, np.int64),
        weight=None if weight is None else np.array([weight], np.float32),
        alternative=np.array([1, 2]),
    )


@pytest.mark.parametrize("weight", [None, 0.5])
def test_effects_worked_out_by_hand(weight):
    # P = 3/4 and 1/4; dP/dx = 3/16 * 2 for both; e = 1/4 * ln 3 / 2 * 2 and 0
    found = plain(summarise(effects_of(one_decision(weight), [2.0]), ["tt"]))
    every, bus, car = (found["tt", label] for label in (None, "bus", "car"))
    assert [one.rows for one in (every, bus, car)] == [2, 1, 1]
    assert [one.marginal_effect_mean for one in (every, bus, car)] == pytest.approx([3 / 8] * 3)
    assert bus.elasticity_mean == pytest.approx(np.log(3) / 4)
    assert every.elasticity_mean == pytest.approx(np.log(3) / 8)
    assert every.elasticity_aggregate == pytest.approx(3 / 4 * np.log(3) / 4)
    assert car.elasticity_quantiles == (0.0,) * 5
    assert every.elasticity_quantiles == pytest.approx(np.quantile([0, np.log(3) / 4], LEVELS))


def test_averages_weigh_a_row_as_its_decision_and_quantiles_do_not():
    rows = replace(decisions(40), alternative=None)
    probability, _, _ = choice_probabilities(rows.x.astype(float) @ [2.0, -0.5], rows.starts)
    weight = np.repeat(rows.weight, rows.counts).astype(float)
    marginal = probability * (1 - probability) * -0.5
    elasticity = (1 - probability) * rows.x[:, 1] * -0.5
    found = summarise(effects_of(rows), ["tt", "co"])
    assert [(one.feature, one.alternative) for one in found] == [("tt", None), ("co", None)]
    assert found[1].marginal_effect_mean == pytest.approx(np.average(marginal, weights=weight), rel=1e-12)
    assert found[1].elasticity_mean == pytest.approx(np.average(elasticity, weights=weight), rel=1e-12)
    aggregate = np.average(elasticity, weights=weight * probability)
    assert found[1].elasticity_aggregate == pytest.approx(aggregate, rel=1e-12)
    assert found[1].marginal_effect_quantiles == pytest.approx(np.quantile(marginal, LEVELS), rel=1e-12)
    assert found[1].elasticity_quantiles == pytest.approx(np.quantile(elasticity, LEVELS), rel=1e-12)


def test_effects_of_a_network_are_those_of_finite_differences_of_its_probabilities():
    layers, _ = load_layers('LAYERS = {"S": lambda: Dense(6, "softplus", dtype="float64")}')
    network = build_network(ModelSpec(layers=("S",)), columns((), ["tt", "co"]), layers)
    network.set_weights([np.random.default_rng(1).normal(size=weights.shape) for weights in network.get_weights()])
    rows, utility, step = decisions(30), utility_function(network), np.float32(2**-9)
    probability, odds, _ = choice_probabilities(utility(rows.x), rows.starts)
    found = own_effects(probability, odds, gradient_function(network, [0, 1])(rows.x), rows.x)
    row, column = np.arange(len(rows)), 1
    moved = []
    for sign in (1, -1):
        one_at_a_time = np.empty(len(rows))
        for i in row:
            x = rows.x.copy()
            x[i, column] += sign * step
            one_at_a_time[i] = choice_probabilities(utility(x), rows.starts)[0][i]
        moved.append(one_at_a_time)
    expected = (moved[0] - moved[1]) / (2 * step)
    assert found.marginal[:, column] == pytest.approx(expected, rel=1e-2, abs=1e-5)
    assert found.elasticity[:, column] == pytest.approx(expected * rows.x[:, column] / probability, rel=1e-2, abs=1e-5)
    assert np.abs(expected).max() > 0.05


@pytest.mark.usefixtures("float64")
def test_effects_of_a_network_with_normalisation_dropout_and_interactions_are_those_of_finite_differences():
    source = 'LAYERS = {"N": BatchNormalization, "S": lambda: Dense(5, "tanh"), "O": lambda: Dropout(0.5)}'
    described = columns([["tt", "co"]], ["tt", "co"])  # tt * co is an input of the layers too
    network = build_network(ModelSpec(layers=("N", "S", "O", "S")), described, load_layers(source)[0])
    random = np.random.default_rng(1)
    network.set_weights([random.uniform(0.2, 1.5, size=weights.shape) for weights in network.get_weights()])
    rows, utility, step = decisions(30), utility_function(network), 1e-5
    rows = replace(rows, x=rows.x.astype(float))
    probability, odds, _ = choice_probabilities(utility(rows.x), rows.starts)
    found = own_effects(probability, odds, gradient_function(network, [0, 1])(rows.x), rows.x)
    expected = np.empty((len(rows), 2))
    for row, column in np.ndindex(expected.shape):
        moved = []
        for sign in (1, -1):
            x = rows.x.copy()
            x[row, column] += sign * step
            moved.append(choice_probabilities(utility(x), rows.starts)[0][row])
        expected[row, column] = (moved[0] - moved[1]) / (2 * step)
    assert found.marginal == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.elasticity == pytest.approx(expected * rows.x / probability[:, None], rel=1e-6, abs=1e-9)
    assert np.abs(expected).max(axis=0).min() > 0.01


def test_effects_of_a_choice_that_is_all_but_sure_lose_no_digits():
    utility = np.array([50.0, 0.0])
    probability, odds, _ = choice_probabilities(utility, np.array([0]))
    found = own_effects(probability, odds, np.ones((2, 1)), np.ones((2, 1)))
    assert found.marginal[:, 0] == pytest.approx([np.exp(-50), np.exp(-50)], rel=1e-12)


def test_a_choice_without_alternatives_does_not_answer_to_its_features():
    probability, odds, _ = choice_probabilities(np.array([1.0]), np.array([0]))
    found = own_effects(probability, odds, np.ones((1, 1)), np.ones((1, 1)))
    assert (found.marginal.item(), found.elasticity.item()) == (0.0, 0.0)


def test_blocks_add_up_to_the_whole():
    rows = decisions(60)
    parts = [effects_of(slice_decisions(rows, first, last)) for first, last in ((25, 60), (0, 10), (10, 25))]
    whole, added = (plain(summarise(one, ["tt", "co"])) for one in (effects_of(rows), add_effects(parts)))
    assert list(whole) == list(added) == [(name, label) for name in ("tt", "co") for label in (None, "bus", "car", "train")]
    for key, expected in whole.items():
        assert added[key].rows == expected.rows
        for name in ("marginal_effect_mean", "elasticity_mean", "elasticity_aggregate"):
            assert getattr(added[key], name) == pytest.approx(getattr(expected, name), rel=1e-12)
        assert added[key].elasticity_quantiles == expected.elasticity_quantiles
        assert added[key].marginal_effect_quantiles == expected.marginal_effect_quantiles


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted),
    order=st.randoms(use_true_random=False),
    most=st.integers(1, 80),
)
def test_the_sample_of_parts_is_the_sample_of_the_whole(cuts, order, most):
    rows = decisions(30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "MOST_SAMPLED", most)
        bounds = [0, *cuts, 30]
        parts = [effects_of(slice_decisions(rows, *pair)) for pair in pairwise(bounds)]
        order.shuffle(parts)
        nested = add_effects([parts[0], add_effects(parts[1:])]) if parts[1:] else parts[0]
        whole, joined = effects_of(rows), add_effects(parts)
    assert len(whole.hashes) == min(most, len(rows))
    for added in (joined, nested):
        assert np.array_equal(added.hashes, whole.hashes)
        assert np.array_equal(added.sampled_alternative, whole.sampled_alternative)
        assert np.allclose(added.sampled, whole.sampled, rtol=1e-12)


def test_the_samples_of_many_parts_are_bounded_together_and_give_the_sample_of_the_whole(monkeypatch):
    monkeypatch.setattr(effects, "MOST_SAMPLED", 1_000)
    rows, step = decisions(4_000), 250
    blocks = [slice_decisions(rows, first, first + step) for first in range(0, 4_000, step)]
    parts = [effects_of(block, table_rows=len(rows)) for block in blocks]
    assert 1_000 < sum(len(part.hashes) for part in parts) < 1_400
    assert np.array_equal(add_effects(parts).hashes, effects_of(rows).hashes)
    assert all(part.rows.sum() == len(block) for part, block in zip(parts, blocks, strict=True))


def test_the_quantiles_of_a_sample_are_near_those_of_all_rows(monkeypatch):
    rows = decisions(4_000, labelled=False)
    (exact, _) = summarise(effects_of(rows), ["tt", "co"])
    monkeypatch.setattr(effects, "MOST_SAMPLED", 2_000)
    (sampled, _) = summarise(effects_of(rows), ["tt", "co"])
    assert sampled.elasticity_mean == exact.elasticity_mean
    assert sampled.elasticity_quantiles != exact.elasticity_quantiles
    assert sampled.elasticity_quantiles == pytest.approx(exact.elasticity_quantiles, abs=0.15)


def test_a_label_of_which_no_row_is_sampled_has_averages_only(monkeypatch):
    rows = decisions(500)
    rows.alternative[:] = 1
    rows.alternative[0] = 3
    monkeypatch.setattr(effects, "MOST_SAMPLED", 2)
    seldom = plain(summarise(effects_of(rows), ["tt", "co"]))["tt", "train"]
    assert seldom.elasticity_quantiles is None
    assert seldom.elasticity_mean is not None


def test_decisions_without_weight_have_no_averages():
    rows = decisions(5, labelled=False)
    found = summarise(effects_of(replace(rows, weight=np.zeros(5, np.float32))), ["tt", "co"])
    assert {(one.marginal_effect_mean, one.elasticity_mean, one.elasticity_aggregate) for one in found} == {(None,) * 3}


def test_of_very_many_labels_those_with_the_most_rows_are_listed_in_their_own_order(monkeypatch):
    rows = decisions(50)
    rows.alternative[:] = 3
    rows.alternative[:10] = 2
    rows.alternative[10] = 1
    monkeypatch.setattr(effects, "MOST_ALTERNATIVES", 2)
    assert [one.alternative for one in summarise(effects_of(rows), ["tt"])] == [None, "car", "train"]


def test_elasticities_by_a_column_with_negative_values_are_said_to_mean_little():
    rows = decisions(50)
    rows.x[:, 0] = np.abs(rows.x[:, 0])
    counts = (rows.x[:, 1] < 0) & np.repeat(rows.counts > 1, rows.counts)
    (note,) = notes_on(effects_of(rows), ["tt", "co"])
    expected = f"the elasticities by 'co' mean little: it is below 0 in at least {counts.sum()} of {len(rows)} rows"
    assert note.startswith(expected)
    assert notes_on(None, ["tt"]) == []


def test_no_rows_have_no_effects():
    nothing = effects_of(slice_decisions(decisions(3), 0, 0))
    assert summarise(nothing, ["tt"]) == summarise(add_effects([]), ["tt"]) == summarise(None, ["tt"]) == []
    assert add_effects([nothing, effects_of(decisions(3)), nothing]).rows.sum() == len(decisions(3))


def test_a_feature_that_all_choices_of_a_decision_share_is_noted():
    rows = one_decision(None)
    rows = replace(rows, x=np.column_stack([rows.x[:, 0], np.full(2, 7.0)]).astype(np.float32))
    (note,) = notes_on(effects_of(rows, [2.0, 1.0]), ["tt", "income"])
    assert note.startswith("the effects of income mean little: all choices of a decision have the same value")
