import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp

from mimic_core.coefficients import coefficient_table
from mimic_core.contract import Rules, check_block
from mimic_core.interactions import columns
from mimic_core.logit import estimate
from mimic_core.streams import in_memory

SWISSMETRO = Path(__file__).parents[2] / ".." / "shared" / "data" / "swissmetro.parquet"


def decisions(x, features, n=60, seed=0):
    """Return decisions of two choices, of which the second has `x(random)` and the first zeros; one a person."""
    random, rows = np.random.default_rng(seed), []
    for individual in range(n):
        values, chosen = x(random, individual)
        rows.append((individual, 0, 0, not chosen, True, *np.zeros(len(values))))
        rows.append((individual, 0, 1, bool(chosen), True, *values))
    names = ["_individual", "_decision", "_choice", "_selected", "_train", *features]
    return pa.table({name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def fitted(source, features, pairs=()):
    wanted = columns(pairs, features)
    return estimate(in_memory(check_block(source, Rules(features=wanted.inputs)).rows), wanted)


def test_a_dummy_whose_people_all_choose_alike_is_named_and_has_no_errors():
    def draw(random, individual):
        value, rare = random.normal(), float(individual % 10 == 0)
        return (value, rare), rare or random.random() < 1 / (1 + np.exp(-value))

    found = fitted(decisions(draw, ["value", "rare"]), ["value", "rare"])
    assert found.separated == ("rare",)
    value, rare = coefficient_table(found)["coefficients"]
    assert (rare["std_error"], rare["std_error_clustered"], rare["p_value"]) == (None, None, None)
    assert rare["estimate"] > 10
    # the other estimate is that without the people whom the dummy describes, since it explains these wholly
    others = decisions(draw, ["value", "rare"])
    others = others.filter(pa.array(np.asarray(others["_individual"]) % 10 != 0))
    alone = fitted(others, ["value"])
    assert value["estimate"] == pytest.approx(alone.coefficients[0], rel=1e-5)
    assert value["std_error"] == pytest.approx(np.sqrt(alone.covariance[0, 0]), rel=1e-4)


def test_a_number_that_separates_completely_is_named():
    def draw(random, individual):
        value = random.normal()
        return (value,), value > 0

    assert fitted(decisions(draw, ["value"]), ["value"]).separated == ("value",)


def test_a_direction_of_two_columns_that_separates_names_both_and_no_third():
    def draw(random, individual):
        first, second, third = random.normal(size=3)
        return (first, second, third), first > second

    features = ["first", "second", "third"]
    source = decisions(draw, features)
    noise = decisions(lambda random, _: ((0.0, 0.0, random.normal()), random.random() < 0.5), features, seed=1)
    noise = noise.set_column(0, "_individual", pa.array(np.asarray(noise["_individual"]) + 1000))
    assert set(fitted(pa.concat_tables([source, noise]), features).separated) >= {"first", "second"}


def test_a_strong_but_overlapping_column_is_not_separated():
    def draw(random, individual):
        value = 12 * random.normal()
        return (value,), value > 0 if individual else value < 0

    found = fitted(decisions(draw, ["value"], n=400), ["value"])
    assert found.separated == ()
    assert found.coefficients[0] > 0


@pytest.mark.parametrize("n", [1000, 10_000])
@pytest.mark.parametrize("weight", [1.0, 1e-4])
def test_a_person_who_always_takes_the_cheapest_is_separated_however_many_decisions_there_are(n, weight):
    """The more decisions, the closer to 0 some of them come, and the flatter the likelihood is along them."""
    random = np.random.default_rng(0)
    cost = random.normal(size=2 * n).astype(np.float32)
    chosen = np.repeat(np.argmin(cost.reshape(n, 2), axis=1), 2) == np.arange(2 * n) % 2
    columns = {"_individual": np.arange(2 * n) // 2, "_decision": np.zeros(2 * n, int), "_choice": np.arange(2 * n) % 2}
    columns |= {"_selected": chosen, "_train": np.ones(2 * n, bool), "_weight": np.full(2 * n, weight), "cost": cost}
    found = fitted(pa.table(columns), ["cost"])
    assert found.separated == ("cost",)
    assert coefficient_table(found)["coefficients"][0]["p_value"] is None


def test_a_dummy_that_separates_in_decisions_of_little_weight_is_named():
    def draw(random, individual):
        value, rare = random.normal(), float(individual % 10 == 0)
        return (value, rare), rare or random.random() < 1 / (1 + np.exp(-value))

    source = decisions(draw, ["value", "rare"], n=300)
    weight = np.where(np.asarray(source["_individual"]) % 10 == 0, 1e-4, 1.0)
    found = fitted(source.append_column("_weight", pa.array(weight)), ["value", "rare"])
    assert found.separated == ("rare",)


def test_many_rows_that_may_separate_and_one_that_forbids_it_take_little_memory():
    """A likelihood so steep that most rejected choices have a vanishing probability, and two people who err."""
    random, n = np.random.default_rng(0), 60_000
    value = random.normal(size=(n, 2)) * 40
    chosen = value[:, 0] + 0.01 * value[:, 1] > 0
    chosen[:2] = [not (value[0] @ [1, 0.01] > 0), not (value[1] @ [1, 0.01] > 0)]
    x = np.zeros((2 * n, 2), np.float32)
    x[1::2] = value
    columns = {"_individual": np.arange(2 * n) // 2, "_decision": np.zeros(2 * n, int), "_choice": np.arange(2 * n) % 2}
    columns |= {"_selected": (np.arange(2 * n) % 2 == 1) == np.repeat(chosen, 2), "_train": np.ones(2 * n, bool)}
    source = pa.table({**columns, "first": x[:, 0], "second": x[:, 1]})
    tracemalloc.start()
    found = fitted(source, ["first", "second"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.separated == ()
    assert peak < 300e6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_named_is_what_a_linear_program_over_all_rows_finds(seed):
    random = np.random.default_rng(seed)
    n, k = int(random.integers(8, 60)), int(random.integers(1, 4))
    x = random.normal(size=(2 * n, k))
    x[:, ::2] = x[:, ::2] > 0.8
    utility = (x @ random.normal(size=k) * random.choice([1, 10]) + random.gumbel(size=2 * n)).reshape(n, 2)
    chosen = np.repeat(utility.argmax(axis=1), 2) == np.arange(2 * n) % 2
    columns = {"_individual": np.arange(2 * n) // 2, "_decision": np.zeros(2 * n, int), "_choice": np.arange(2 * n) % 2}
    columns |= {"_selected": chosen, "_train": np.ones(2 * n, bool)}
    names = [f"x{j}" for j in range(k)]
    source = pa.table({**columns, **{name: x[:, j].astype(np.float32) for j, name in enumerate(names)}})
    x = x.astype(np.float32).astype(float)
    difference = x[chosen] - x[~chosen]
    found = linprog(
        np.concatenate([np.zeros(k), -np.ones(n)]),
        A_ub=np.hstack([-difference, np.eye(n)]),
        b_ub=np.zeros(n),
        bounds=[(None, None)] * k + [(0, 1)] * n,
    )
    assert bool(fitted(source, names).separated) == bool((found.x[k:] > 0.5).any())


@pytest.mark.parametrize("seed", range(6))
def test_offsets_that_throw_the_first_step_too_far_do_not_keep_it_from_the_optimum(seed):
    random = np.random.default_rng(seed)
    n, k = 40, 4
    x = (random.random((4 * n, k)) < 0.2).astype(np.float32)
    chosen = np.repeat(random.integers(0, 4, n), 4) == np.arange(4 * n) % 4
    offset = random.normal(size=4 * n) * 6
    columns = {"_individual": np.arange(4 * n) // 4, "_decision": np.zeros(4 * n, int), "_choice": np.arange(4 * n) % 4}
    columns |= {"_selected": chosen, "_train": np.ones(4 * n, bool), "_sampling_log_probability": offset}
    found = fitted(pa.table({**columns, **{f"x{j}": x[:, j] for j in range(k)}}), [f"x{j}" for j in range(k)])

    def loss(beta):
        utility = (x @ beta + offset.astype(np.float32)).reshape(n, 4)
        return float(logsumexp(utility, axis=1).sum() - utility.ravel()[chosen].sum())

    expected = minimize(loss, np.zeros(k), method="BFGS").fun
    assert -found.log_likelihood == pytest.approx(expected, rel=1e-6)


def test_swissmetro_with_all_dummies_names_the_separated_ones():
    if not SWISSMETRO.is_file():
        pytest.skip("the reference table ../shared/data/swissmetro.parquet is not here")
    source = pq.read_table(SWISSMETRO)
    six = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
    dummies = [name for name in source.column_names if not name.startswith(("_", "asc_")) and name not in six]
    assert len(dummies) == 44
    found = fitted(source.filter(source["_train"]), six, [["asc_*", name] for name in dummies])
    named = {name.partition(":")[2] for name in found.separated}
    assert named >= {"PURPOSE_5", "PURPOSE_8", "PURPOSE_9", "AGE_6"}
    # the other two: the one person of INCOME_0 without WHO_0 always took the same of three choices
    assert named == {"PURPOSE_5", "PURPOSE_8", "PURPOSE_9", "AGE_6", "INCOME_0", "WHO_0"}
    assert "asc_sm" not in found.not_identified
