"""The Swissmetro example: its decision table, and the numbers that the demo is expected to print."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core import logit
from mimic_core.configs import parse_spec, read_document
from mimic_core.contract import Rules, check_block
from mimic_core.contrasts import sample
from mimic_core.evaluation import evaluate
from mimic_core.sources import standard_columns
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "swissmetro"
REFERENCE = ROOT.parent / "shared" / "data" / "swissmetro.parquet"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("swissmetro") / "swissmetro.parquet"
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", path], check=True, capture_output=True)
    return standard_columns(pq.read_table(path))


def split(table, train, features):
    return check_block(table.filter(pc.equal(table["_train"], train)), Rules(features=tuple(features))).rows


def test_the_decision_table_has_the_published_sizes(prepared):
    train, test = (split(prepared, flag, ["tt"]) for flag in (True, False))
    assert len(prepared) == 30_474
    assert (train.decisions, test.decisions) == (8_568, 2_151)
    assert (len(train.individuals), len(test.individuals)) == (952, 239)


def test_the_decision_table_is_the_reference(prepared):
    if not REFERENCE.exists():
        pytest.skip(f"{REFERENCE.name} is not beside this project: the comparison needs it")
    reference = pq.read_table(REFERENCE)
    for name in reference.column_names:
        assert np.array_equal(prepared[name].to_numpy(), reference[name].to_numpy()), name


def test_the_linear_model_has_the_published_likelihood(prepared):
    spec = parse_spec(ExperimentSpec, read_document(EXAMPLE / "experiment_linear.json"))
    features = list(spec.features)
    train, test = (split(prepared, flag, features) for flag in (True, False))
    coefficients = logit.estimate(train, features).coefficients
    nll = [evaluate(rows, rows.x.astype(float) @ coefficients).nll for rows in (train, test)]
    assert nll == pytest.approx([0.806235, 0.807659], abs=1e-6)


@pytest.mark.parametrize(
    ("dataset", "experiments"),
    [
        ("dataset.json", ["experiment_linear.json", "experiment_networks.json"]),
        ("dataset_contrasts.json", ["experiment_contrasts.json"]),
    ],
)
def test_the_configs_fit_each_other(prepared, dataset, experiments):
    dataset = parse_spec(DatasetSpec, read_document(EXAMPLE / dataset))
    assert set(dataset.features) <= set(prepared.column_names)
    for name in experiments:
        spec = parse_spec(ExperimentSpec, read_document(EXAMPLE / name))
        assert spec.dataset_key == dataset.key
        assert set(spec.features) <= set(dataset.features)


def test_the_contrasts_are_of_the_table_and_feed_their_dataset():
    contrast = parse_spec(ContrastSpec, read_document(EXAMPLE / "contrast.json"))
    assert contrast.source == parse_spec(DatasetSpec, read_document(EXAMPLE / "dataset.json")).source
    assert contrast.key == parse_spec(DatasetSpec, read_document(EXAMPLE / "dataset_contrasts.json")).source


def test_a_linear_model_on_contrasts_is_as_good_on_the_full_choice_sets(prepared):
    features = list(parse_spec(ExperimentSpec, read_document(EXAMPLE / "experiment_contrasts.json")).features)
    spec = parse_spec(ContrastSpec, read_document(EXAMPLE / "contrast.json"))
    training = check_block(prepared.filter(prepared["_train"]), Rules())
    pairs = check_block(pa.concat_tables(sample(training, spec)), Rules(features=tuple(features))).rows
    assert pairs.decisions == 952 * 9 * 2
    coefficients = logit.estimate(pairs, features).coefficients
    test = split(prepared, False, features)
    nll = evaluate(test, test.x.astype(float) @ coefficients).nll
    assert nll == pytest.approx(0.807, abs=0.001)
