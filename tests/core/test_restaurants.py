"""Weighted sampling on a hundred alternatives with known coefficients: corrected it finds them, uncorrected it does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block
from mimic_core.contrasts import rules, sample
from mimic_core.evaluation import evaluate
from mimic_core.interactions import columns
from mimic_core.logit import estimate
from mimic_core.sources import FLAGS, KEYS
from mimic_core.specs import ContrastSpec
from mimic_core.streams import in_memory

RESTAURANTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "restaurants100.parquet"
TRUTH = {"log_dist": -0.378199, "rating": 0.88038, "price": -0.40406, "category_Chinese": 0.75, "category_Japanese": 1.25}
TRUTH |= {"category_Korean": 0.75, "category_Indian": 1.0, "category_French": 0.75, "category_Mexican": 1.25}
TRUTH |= {"category_Lebanese": 0.75, "category_Ethiopian": 0.5}
FEATURES = tuple(TRUTH)
SEEDS = range(5)


def weighted(source):
    """Return the training rows with 1 + the training count of their choice, normalised, and the test rows."""
    train = source.filter(source["_train"])
    counts = np.bincount(np.asarray(train.filter(train["_selected"])["_choice"]), minlength=100)
    popularity = ((1 + counts) / (1 + counts).sum())[np.asarray(train["_choice"])]
    return train.append_column("popularity", pa.array(popularity)), source.filter(pc.invert(source["_train"]))


def contrast(seed=0):
    document = {"database": "h", "source_table": "restaurants", "destination_table": "pairs", "seed": seed}
    document |= {"decisions_per_individual": 1, "alternatives_per_decision": 3, "sampling": {"weights": "popularity"}}
    return parse_spec(ContrastSpec, document)


def fit(rows):
    """Maximise the likelihood of pairs, which is that of a logit on differences, by Newton's method."""
    offset = np.zeros(len(rows)) if rows.offset is None else rows.offset.astype(float)
    x, offset = (values[rows.selected] - values[~rows.selected] for values in (rows.x.astype(float), offset))
    beta = np.zeros(len(FEATURES))
    for _ in range(20):
        wrong = 1 / (1 + np.exp(x @ beta + offset))
        hessian = (x * (wrong * (1 - wrong))[:, None]).T @ x
        beta += np.linalg.solve(hessian, wrong @ x)
    return beta


@pytest.fixture(scope="module")
def found():
    """The estimates of each seed, corrected and not, with their test NLL on full choice sets and their RMSE to the truth."""
    if not RESTAURANTS.is_file():
        pytest.skip("the reference table ../shared/data/restaurants100.parquet is not here")
    train, test = weighted(pq.read_table(RESTAURANTS, columns=[*KEYS, *FLAGS, *FEATURES]))
    judge, block = check_block(test, Rules(features=FEATURES)).rows, check_block(train, rules(contrast()))
    assert block.outcome.violations == ()
    results = {"corrected": [], "uncorrected": []}
    for seed in SEEDS:
        pairs = check_block(pa.concat_tables(sample(block, contrast(seed))), Rules(features=FEATURES)).rows
        for name, rows in (("corrected", pairs), ("uncorrected", replace(pairs, offset=None))):
            beta = estimate(in_memory(rows), columns((), FEATURES)).coefficients
            nll = evaluate(judge, judge.x.astype(float) @ beta).nll
            results[name].append((rows, beta, nll, np.sqrt(np.mean((beta - list(TRUTH.values())) ** 2))))
    return {name: list(zip(*values, strict=True)) for name, values in results.items()}


def test_weighted_pairs_with_their_correction_find_the_true_coefficients(found):
    _, _, nll, rmse = found["corrected"]
    assert max(nll) <= 4.070
    assert max(rmse) <= 0.09
    assert np.mean(rmse) <= 0.075


def test_weighted_pairs_without_their_correction_do_not(found):
    _, _, nll, rmse = found["uncorrected"]
    assert min(nll) >= 4.43
    assert min(rmse) >= 0.70


@pytest.mark.parametrize("name", ["corrected", "uncorrected"])
def test_the_estimate_with_and_without_log_probabilities_is_that_of_an_independent_fit(found, name):
    for rows, beta, *_ in zip(*found[name], strict=True):
        np.testing.assert_allclose(beta, fit(rows), atol=1e-6)
