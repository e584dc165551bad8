"""The Swissmetro example: its decision table, and the numbers that the demo is expected to print."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core import logit
from mimic_core.configs import parse_spec, read_document
from mimic_core.evaluation import evaluate
from mimic_core.sources import sort_rows
from mimic_core.specs import DatasetSpec, ExperimentSpec

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "swissmetro"
REFERENCE = ROOT.parent / "shared" / "data" / "swissmetro.parquet"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("swissmetro") / "swissmetro.parquet"
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", path], check=True, capture_output=True)
    return pq.read_table(path)


def split(table, train, features):
    return sort_rows(table.filter(pc.equal(table["_train"], train)), features, {})


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
    nll = [evaluate(rows.x.astype(float) @ coefficients, rows.selected, rows.starts).nll for rows in (train, test)]
    assert nll == pytest.approx([0.806235, 0.807659], abs=1e-6)


def test_the_configs_fit_each_other(prepared):
    dataset = parse_spec(DatasetSpec, read_document(EXAMPLE / "dataset.json"))
    assert set(dataset.features) <= set(prepared.column_names)
    for name in ("experiment_linear.json", "experiment_networks.json"):
        spec = parse_spec(ExperimentSpec, json.loads((EXAMPLE / name).read_text()))
        assert spec.dataset_key == dataset.key
        assert set(spec.features) <= set(dataset.features)
