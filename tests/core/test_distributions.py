"""Distributions and drift: worked out by hand, the same however rows are divided, and told apart from chance."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from mimic_core import distributions
from mimic_core.contract import Rules, check_block
from mimic_core.distributions import (
    FeatureSample,
    add_samples,
    counts_within,
    describe,
    distribution,
    sample_features,
    with_missing_replaced,
)
from mimic_core.drift import Drift, explained_by_chance, measure_drift, stability_index
from mimic_core.manifests import seal

RULES = Rules(features=("size", "age"), missing_values_map={"size": 0.0})


def block(rows=3_000, seed=0, *, order=None, first=0):
    """Decisions of two choices, checked; a tenth of the sizes is missing, every fifth individual is for testing."""
    random = np.random.default_rng(seed)
    individual = first + np.arange(rows) // 2
    columns = {"_individual": individual, "_decision": np.zeros(rows, int), "_choice": np.arange(rows) % 2}
    columns |= {"_selected": np.arange(rows) % 2 == 0, "_train": individual % 5 > 0}
    size = pa.array(random.normal(size=rows), mask=random.random(rows) < 0.1)
    table = pa.table(columns | {"size": size, "age": random.normal(size=rows)})
    return check_block(table if order is None else table.take(order), RULES)


def sampled(*blocks, **options):
    return add_samples(sample_features(each, **options) for each in blocks)


@pytest.mark.parametrize(
    ("expected", "actual", "index"),
    [
        ([25, 75], [50, 50], 0.25 * np.log(2) + 0.25 * np.log(1.5)),
        ([10, 10, 20], [20, 20, 40], 0.0),
        # 0 of 100 is half a row of 100
        ([100, 100], [100, 0], 0.5 * np.log(2) + (0.5 - 0.005) * np.log(0.5 / 0.005)),
        ([100, 0, 100], [100, 0, 100], 0.0),
    ],
)
def test_the_stability_index_worked_out_by_hand(expected, actual, index):
    assert stability_index(expected, actual) == pytest.approx(index, abs=1e-12)


def test_many_values_are_cut_at_their_deciles_and_few_values_have_a_bin_each():
    assert distribution(np.arange(1, 101, dtype=np.float32)).edges == tuple(range(10, 100, 10))
    assert distribution(np.arange(1, 101, dtype=np.float32)).counts == (10,) * 10
    few = distribution(np.array([3, 1, 1, 2, np.nan, np.inf], np.float32))
    assert (few.edges[1:], few.counts, few.missing) == ((1.0, 2.0, 3.0), (0, 2, 1, 1, 0), 2)


def test_a_zero_one_feature_has_a_bin_for_each_value_however_rare_one_is_and_others_are_beyond_them():
    for ones in (1, 50, 99):
        values = (np.arange(100) < ones).astype(np.float32)
        found = distribution(values)
        assert (found.edges[1:], found.counts) == ((0.0, 1.0), (0, 100 - ones, ones, 0))
        assert counts_within(found.edges, values * 100) == (0, 100 - ones, 0, ones)
        assert counts_within(found.edges, -values) == (ones, 100 - ones, 0, 0)


def test_equal_deciles_make_one_cut_and_nothing_is_lost_where_nearly_all_values_are_the_largest():
    tied = distribution(np.append(np.zeros(80), np.arange(1, 21)).astype(np.float32))
    assert (tied.edges[1:], tied.counts) == ((0.0, 10.0), (0, 80, 10, 10))
    largest = distribution(np.append(np.arange(-20, 0), np.zeros(980)).astype(np.float32))
    assert (largest.edges, largest.counts) == ((-1.0, 0.0), (20, 980, 0))


def test_of_a_single_value_the_bins_tell_what_is_below_and_above_it():
    single = distribution(np.full(5, 7, np.float32))
    assert single.counts == (0, 5, 0)
    assert counts_within(single.edges, np.array([6, 7, 7, 8], np.float32)) == (1, 2, 1)


@pytest.mark.parametrize("sign", [-1, 1])
def test_edges_are_finite_also_where_no_float32_is_beyond_a_value(sign):
    extreme = np.full(5, sign * np.finfo(np.float32).max, np.float32)
    found = distribution(extreme)
    seal({"edges": found.edges})
    assert counts_within(found.edges, np.append(extreme, np.float32(0))) in ((5, 1), (1, 5, 0))


def test_a_sample_does_not_depend_on_the_order_or_the_division_of_the_rows(monkeypatch):
    monkeypatch.setattr(distributions, "MOST_SAMPLED", 500)
    whole = block()
    shuffled = block(order=np.random.default_rng(1).permutation(3_000))
    one, other = sampled(whole), sampled(shuffled)
    assert (one.hashes == other.hashes).all()
    assert (one.x == other.x).all()
    table = whole.table
    parts = [check_block(table.slice(start, 750), RULES) for start in range(0, 3_000, 750)]
    divided = sampled(*parts[::-1], table_rows=3_000)
    assert (divided.hashes == one.hashes).all()
    assert (divided.x == one.x).all()
    assert one.rows == divided.rows == 3_000


def test_steps_together_keep_little_more_than_one_sample(monkeypatch):
    monkeypatch.setattr(distributions, "MOST_SAMPLED", 500)
    parts = [sample_features(block(first=start), table_rows=12_000) for start in range(0, 6_000, 1_500)]
    assert 500 <= sum(len(part.hashes) for part in parts) < 700


def test_training_rows_are_sampled_as_the_model_sees_them_or_as_the_table_has_them():
    found = block()
    seen, raw = sampled(found, training=True), sampled(found, training=True, columns=["age", "size"])
    assert seen.rows == found.train.sum() == 2_400
    assert np.isfinite(seen.x).all()
    assert np.isnan(raw.x[:, 1]).sum() == (seen.x[:, 0] == 0).sum() > 100
    assert (raw.x[:, 0] == seen.x[:, 1]).all()


def test_missing_values_that_a_dataset_replaces_fall_into_the_bin_of_their_replacement():
    described = describe(sampled(block(), columns=["age", "size"]), ["age", "size"])
    size = described["features"]["size"]
    replaced = with_missing_replaced(described, ["size"], {"size": -100.0})["features"]["size"]
    assert replaced["counts"] == [size["counts"][0] + size["missing"], *size["counts"][1:]]
    nothing = describe(FeatureSample(rows=5, hashes=np.arange(5, dtype=np.uint64), x=np.full((5, 1), np.nan)), ["size"])
    alone = with_missing_replaced(nothing, ["size"], {"size": 2.0})["features"]["size"]
    assert alone == {"edges": distribution(np.full(5, 2, np.float32)).edges, "counts": (0, 5, 0), "missing": 0}
    assert with_missing_replaced(described, ["size", "weight"], {}) is None
    assert with_missing_replaced(None, ["size"], {}) is None


def test_a_shifted_feature_drifts_and_the_others_do_not():
    described = describe(sampled(block(6_000)), RULES.features)
    sample = sampled(block(6_000, seed=1))
    assert [drift.drifts for drift in measure_drift(described, sample, RULES.features)] == [False, False]
    assert max(drift.index for drift in measure_drift(described, sample, RULES.features)) < 0.02
    sample.x[:, 1] += 0.6
    first, second = measure_drift(described, sample, RULES.features)
    assert (first.feature, first.drifts, first.limit) == ("age", True, 0.2)
    assert 0.3 < first.index < 0.5  # of a normal variable moved by 0.6 it would be 0.36 without bins
    assert (second.feature, second.drifts) == ("size", False)


def test_values_beyond_those_of_a_feature_with_few_of_them_drift_and_the_same_ones_do_not():
    described = describe(sampled(block(2_000)), RULES.features)
    ones = distribution((np.arange(200) % 2).astype(np.float32))
    described["features"]["age"] = asdict(ones)
    sample = sampled(block(2_000))
    for factor, least in ((1, 0), (100, 2), (-1, 2)):
        sample.x[:, 1] = np.arange(len(sample.x)) % 2 * factor
        (age,) = [drift for drift in measure_drift(described, sample, RULES.features) if drift.feature == "age"]
        assert (age.drifts, age.index >= least) == (factor != 1, True)
        assert age.index == 0 or factor != 1


def test_what_is_not_known_is_told_from_what_has_no_rows():
    described = describe(sampled(block()), RULES.features)
    assert measure_drift(None, sampled(block()), RULES.features) is None
    assert measure_drift(described, sampled(block()), ["weight"]) is None
    assert measure_drift(described, None, RULES.features) == []
    assert describe(None, RULES.features) is None


def test_so_few_rows_that_chance_explains_an_index_do_not_drift():
    random, found = np.random.default_rng(0), []
    for _ in range(400):
        reference = distribution(random.normal(size=40).astype(np.float32))
        counts = counts_within(reference.edges, random.normal(size=30).astype(np.float32))
        limit = max(0.2, explained_by_chance(reference.counts, counts))
        found.append(Drift(feature="x", index=stability_index(reference.counts, counts), limit=limit))
    assert np.mean([drift.index > 0.2 for drift in found]) > 0.5
    assert np.mean([drift.drifts for drift in found]) < 0.02
    assert explained_by_chance([1_000] * 10, [1_000] * 10) < 0.01
