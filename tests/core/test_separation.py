from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
