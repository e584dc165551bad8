"""`mimic runs compare`: what it says of two runs, and which runs it does not compare.

Most runs are registered only, and what training would store of them is written here, so that every number is known.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mimic_assets.run_files import INDIVIDUALS
from mimic_core.comparison import SCHEMA, compare
from mimic_core.identifiers import parquet_bytes
from resources.artefacts import ArtefactStore

DATASET = {"key": "s/d", "fingerprint": "a" * 64}


def sums(log_likelihood):
    """Return the sums of individuals of two decisions each."""
    count = len(log_likelihood)
    columns = [np.arange(count), np.full(count, 2), np.full(count, 2.0), np.array(log_likelihood, float)]
    return pa.table(columns, schema=SCHEMA)


FIRST, SECOND = sums([-1.0, -1.4, -2.0, -3.0, -1.2]), sums([-1.2, -1.5, -2.4, -3.3, -1.3])
MIXED = sums([-1.2, -1.5, -2.4, -3.3, -0.5])


def publish(mimic, run_id: str, splits: dict[str, pa.Table] | None, dataset: dict[str, str] = DATASET) -> Path:
    """Store what a comparison reads of a trained run; returns the file of its individuals."""
    artefacts, folder = ArtefactStore(root=str(mimic.home / "mimic" / "objects")), f"s-models/e/{run_id}"
    files = []
    if splits is not None:
        parts = [table.add_column(0, "split", pa.array([split] * len(table))) for split, table in splits.items()]
        data = parquet_bytes(pa.concat_tables(parts))
        files.append({"path": INDIVIDUALS, **artefacts.write(f"{folder}/v/{INDIVIDUALS}", [data])})
    with artefacts.publishing(folder, "v", None) as publication:
        publication.publish({"version": "v", "inputs": {"tfrecord_dataset": dataset}, "files": files})
    return Path(artefacts.where(f"{folder}/v/{INDIVIDUALS}"))


@pytest.fixture
def runs(mimic) -> list[str]:
    """The ids of two runs that are registered."""
    config = mimic.experiment(models=[{"layers": []}, {"layers": [], "seed": 1}])
    return [run["run_id"] for run in mimic.partitions("log-odds", "run-experiment", config, "--register-only")]


def test_the_difference_of_two_runs_is_shown_with_its_interval(mimic, runs):
    for run, test in zip(runs, (FIRST, SECOND), strict=True):
        publish(mimic, run, {"train": MIXED, "test": test})
    said = mimic.done("runs", "compare", runs[0][:8], f"s/e/{runs[1]}").stdout
    found = compare(FIRST, SECOND)
    low, high = (f"{value:+.4f}" for value in (found.nll.low, found.nll.high))
    assert [line.split() for line in said.splitlines()[:4]] == [
        ["test", "NLL", "D-NLP"],
        [f"s/e/{runs[0][:8]}", "0.8600", "-0.8600"],
        [f"s/e/{runs[1][:8]}", "0.9700", "-0.9700"],
        ["difference", "-0.1100", "+0.1100"],
    ]
    assert f"95% interval  {low} to {high}" in said
    assert "2,000 resamples of 5 individuals (10 decisions); the first run has the lower NLL in 100.0% of them" in said
    assert f"The interval of the difference in NLL excludes 0: s/e/{runs[0][:8]} is better." in said


def test_runs_that_do_not_differ_clearly_are_said_not_to(mimic, runs):
    publish(mimic, runs[0], {"test": FIRST})
    publish(mimic, runs[1], {"test": MIXED})
    said = mimic.done("runs", "compare", *runs).stdout
    assert "The interval of the difference in NLL includes 0: these decisions do not tell which run is better." in said


def test_the_comparison_of_a_split_as_json_has_every_number(mimic, runs):
    for run, train in zip(runs, (SECOND, FIRST), strict=True):
        publish(mimic, run, {"train": train, "test": FIRST})
    options = ["--split", "train", "--resamples", "300", "--seed", "4", "--json"]
    found = json.loads(mimic.done("runs", "compare", *runs, *options).stdout)
    expected = compare(SECOND, FIRST, resamples=300, seed=4)
    assert found["runs"] == [f"s/e/{run[:12]}" for run in runs]
    assert (found["split"], found["seed"], found["resamples"]) == ("train", 4, 300)
    assert (found["decisions"], found["individuals"], found["first_better"]) == (10, 5, 0.0)
    assert found["nll"] == vars(expected.nll)
    assert found["d_nlp"] == vars(expected.d_nlp)


def test_what_training_stores_is_what_a_comparison_reads(with_dataset):
    config = with_dataset.experiment(models=[{"layers": []}, {"layers": [], "l2": 0.1}])
    trained = with_dataset.partitions("log-odds", "run-experiment", config)
    said = with_dataset.done("runs", "compare", *(run["run_id"] for run in trained), "--split", "train", "--json").stdout
    found = json.loads(said)
    for run, which in zip(trained, ("first", "second"), strict=True):
        assert found["nll"][which] == pytest.approx(run["metrics"]["train_nll"], abs=1e-12)
        assert found["d_nlp"][which] == pytest.approx(run["metrics"]["train_d_nlp"], abs=1e-12)
    assert found["nll"]["difference"] < 0  # the penalty costs likelihood


def test_runs_that_cannot_be_compared_are_refused_with_what_to_do(mimic, runs):
    first, second = runs
    assert f"run s/e/{first[:12]} is not trained" in mimic.refused("runs", "compare", *runs)
    publish(mimic, first, {"test": FIRST})
    publish(mimic, second, None)
    expected = f"run s/e/{second[:12]} was trained before runs stored what a comparison needs (individuals.parquet)"
    assert expected in mimic.refused("runs", "compare", *runs)
    assert "no run '00000000' is registered" in mimic.refused("runs", "compare", first, "0" * 8)
    said = mimic.refused("runs", "compare", first, first, "--split", "validation")
    assert f"run s/e/{first[:12]} has no validation decisions; it has those of: test" in said


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"key": "s/d", "fingerprint": "b" * 64}, "different versions of dataset s/d (aaaaaaaaaaaa and bbbbbbbbbbbb)"),
        ({"key": "s/other", "fingerprint": "b" * 64}, "different datasets (s/d and s/other)"),
    ],
)
def test_runs_of_other_data_are_not_compared(mimic, runs, dataset, expected):
    publish(mimic, runs[0], {"test": FIRST})
    publish(mimic, runs[1], {"test": FIRST}, dataset)
    assert f"the runs were trained on {expected}" in mimic.refused("runs", "compare", *runs)


def test_what_a_run_stored_is_verified(mimic, runs):
    publish(mimic, runs[0], {"test": FIRST})
    file = publish(mimic, runs[1], {"test": SECOND})
    file.write_bytes(file.read_bytes()[:-1])
    assert "individuals.parquet: damaged: expected" in mimic.refused("runs", "compare", *runs)
