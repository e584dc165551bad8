"""Layers files are code: in a cluster none is registered, trained with or loaded unless it is allowed; names need none."""

import json

import pytest

from mimic_assets.forms import example, parse_form
from mimic_assets.jobs import BUILDS
from mimic_assets.layers_code import require_allowed
from mimic_assets.registration import pair_runs, register
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError
from mimic_core.layers_files import default_layers
from mimic_core.specs import DatasetSpec, ExperimentSpec, InferenceSpec

CODE = 'LAYERS = {"D4": lambda: Dense(4)}'
EXPERIMENT = {
    "experiment_name": "e",
    "space": "s",
    "dataset": "d",
    "max_choices": 3,
    "features": ["size", "age"],
    "database": "haven",
    "table": "r",
    "models": [{"layers": ["D4"], "epochs": 1}],
}
TABLE = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s"}
DATASET = TABLE | {"max_choices": 3, "missing_values_map": {"size": 0}, "dataset": "d"}
INFERENCE = TABLE | {"experiment_name": "e", "upload_table": "scored"}
REFUSED = (
    "my.json: a layers file is code, which this cluster does not execute; without one there are D<units>, "
    "D<units>-<activation>, dropout-<rate>, batch-norm, layer-norm. Whoever runs the cluster can allow it by "
    "MIMIC_ALLOW_LAYERS_CODE=1 (docs/security.md says what that means)"
)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://somebody@host/catalog")
    monkeypatch.delenv("MIMIC_ALLOW_LAYERS_CODE", raising=False)


@pytest.fixture
def spec():
    return parse_spec(ExperimentSpec, EXPERIMENT, "my.json")


def test_on_one_machine_a_layers_file_is_taken(spec):
    assert pair_runs(spec, CODE, "my.json")[0][1] == CODE


def test_in_a_cluster_a_layers_file_is_refused_by_what_every_registration_calls(spec, cluster):
    with pytest.raises(SpecError) as caught:
        pair_runs(spec, CODE, "my.json")
    assert str(caught.value) == REFUSED


def test_in_a_cluster_names_of_layers_need_no_file(spec, cluster):
    assert pair_runs(spec, None, "my.json")[0][1] == default_layers(["D4"])
    require_allowed(default_layers(["D4", "dropout-0.1"]), "anywhere")


def test_whoever_runs_the_cluster_can_allow_it(spec, cluster, monkeypatch):
    monkeypatch.setenv("MIMIC_ALLOW_LAYERS_CODE", "1")
    assert pair_runs(spec, CODE, "my.json")[0][1] == CODE
    monkeypatch.setenv("MIMIC_ALLOW_LAYERS_CODE", "yes")
    with pytest.raises(SpecError, match="MIMIC_ALLOW_LAYERS_CODE is 'yes', expected 1"):
        pair_runs(spec, CODE, "my.json")


def test_a_form_with_a_layers_file_is_refused_and_its_example_has_none(cluster):
    filled = example(ExperimentSpec)
    assert "layers_file" not in filled
    assert len(parse_form(ExperimentSpec, json.loads(json.dumps(filled)))) == 2
    with pytest.raises(SpecError, match="a layers file is code, which this cluster does not execute"):
        parse_form(ExperimentSpec, filled | {"layers_file": CODE})


def test_what_was_registered_elsewhere_is_neither_trained_nor_loaded(platform, decision_table, monkeypatch):
    platform.imported(decision_table())
    platform.built(parse_spec(DatasetSpec, DATASET))
    (run,) = parse_spec(ExperimentSpec, EXPERIMENT, "test").runs
    scored = parse_spec(InferenceSpec, INFERENCE | {"run_id": run.run_id})
    register(platform.instance, platform.specs, [(run, CODE), (scored, "")])

    def build(spec):
        job = platform.definitions().resolve_job_def(BUILDS[spec.asset].name)
        result = job.execute_in_process(instance=platform.instance, partition_key=spec.key, raise_on_error=False)
        return [
            event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure
        ]

    assert build(run) == []
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{platform.home / 'mimic/catalog.db'}")
    (of_run,), (of_scores,) = build(run), build(scored)
    assert of_run.startswith(f"the layers file of {run.key}: a layers file is code")
    assert of_scores.partition(":")[0].endswith("/layers.py")
    assert "a layers file is code, which this cluster does not execute" in of_scores
