"""The spec store: one key, its versions, and nothing registered twice."""

import json

import pytest

from mimic_core.configs import parse_spec
from mimic_core.errors import CorruptFileError, NotFoundError, SpecError
from mimic_core.specs import DatasetSpec, InferenceSpec, RunSpec
from resources.environments import local_resources
from resources.specs import SpecStore

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size"], "space": "s", "dataset": "d"}
RUN = {
    "experiment_name": "e",
    "space": "s",
    "dataset": "d",
    "max_choices": 3,
    "features": ["size"],
    "database": "haven",
    "table": "results",
    "model": {"layers": ["D4"]},
}
INFERENCE = {
    "database": "haven",
    "table": "features",
    "features": ["size"],
    "space": "s",
    "experiment_name": "e",
    "run_id": "0" * 64,
    "upload_table": "scored",
}


@pytest.fixture(params=["files", "s3"])
def specs(request, tmp_path, monkeypatch) -> SpecStore:
    if request.param == "s3":
        request.getfixturevalue("aws")
        monkeypatch.setenv("MIMIC_ARTEFACTS", "s3://mimic-tests/objects")
    return local_resources(tmp_path)["specs"]


def dataset(**changes: object) -> DatasetSpec:
    return parse_spec(DatasetSpec, DATASET | changes)


def inference(**changes: object) -> InferenceSpec:
    return parse_spec(InferenceSpec, INFERENCE | changes)


def versions(specs: SpecStore) -> list[str]:
    return specs.artefacts.names("specs/tfrecord_dataset/s/d")


def test_a_registered_spec_is_found_under_its_key(specs):
    specs.register(dataset(max_choices=5))
    assert specs.get(DatasetSpec, "s/d").spec == dataset(max_choices=5)
    assert specs.registered("tfrecord_dataset") == ["s/d"]


def test_the_same_spec_again_changes_nothing(specs):
    first = specs.register(dataset())
    assert specs.register(dataset()) == first
    assert versions(specs) == ["000001.json"]


def test_a_spec_that_says_the_same_in_other_words_changes_nothing(specs):
    specs.register(dataset(missing_values_map={"size": -1}))
    specs.register(dataset(missing_values_map={"size": -1.0}, train_partitions=None))
    assert versions(specs) == ["000001.json"]


def test_a_changed_spec_is_a_new_version_and_the_old_one_is_kept(specs):
    first = specs.register(dataset(max_choices=3))
    second = specs.register(dataset(max_choices=4))
    assert specs.get(DatasetSpec, "s/d") == second
    assert first.digest != second.digest
    assert versions(specs) == ["000001.json", "000002.json"]
    assert json.loads(specs.artefacts.read("specs/tfrecord_dataset/s/d/000001.json"))["spec"]["max_choices"] == 3


def test_going_back_to_an_older_spec_is_a_version_of_its_own(specs):
    first = specs.register(dataset(max_choices=3))
    specs.register(dataset(max_choices=4))
    specs.register(dataset(max_choices=3))
    assert specs.get(DatasetSpec, "s/d").digest == first.digest
    assert versions(specs) == ["000001.json", "000002.json", "000003.json"]


def test_the_layers_file_belongs_to_the_version(specs):
    run = parse_spec(RunSpec, RUN)
    first = specs.register(run, "LAYERS = {}")
    second = specs.register(run, "LAYERS = {1: 2}")
    assert first.digest != second.digest
    assert specs.get(RunSpec, run.key).layers == "LAYERS = {1: 2}"


def test_the_tenth_version_is_newer_than_the_ninth(specs):
    for choices in range(2, 14):
        specs.register(dataset(max_choices=choices))
    assert specs.get(DatasetSpec, "s/d").spec.max_choices == 13


def test_an_unregistered_key_says_how_to_register_it(specs):
    with pytest.raises(
        NotFoundError, match=r"tfrecord_dataset.*'s/d'; register one with `mimic log-odds build-dataset CONFIG"
    ):
        specs.get(DatasetSpec, "s/d")


def test_an_inference_of_another_source_table_under_the_same_key_is_refused(specs):
    specs.register(inference())
    with pytest.raises(
        SpecError,
        match=r"haven\.scored already holds inferences.*on haven\.features.*haven\.others; give another upload_table",
    ):
        specs.register(inference(table="others"))
    assert specs.get(InferenceSpec, inference().key).spec.table == "features"


def test_an_inference_may_change_its_partitions_under_the_same_key(specs):
    specs.register(inference(train_partitions=3))
    specs.register(inference(train_partitions=1))
    assert specs.get(InferenceSpec, inference().key).spec.train_partitions == 1


def test_a_damaged_spec_is_refused_with_its_name(specs):
    specs.register(dataset())
    name = "specs/tfrecord_dataset/s/d/000001.json"
    specs.artefacts.write(name, [specs.artefacts.read(name).replace(b'"max_choices": 3', b'"max_choices": 4')])
    with pytest.raises(CorruptFileError, match=r"000001\.json: damaged"):
        specs.get(DatasetSpec, "s/d")


def test_a_run_whose_id_begins_as_that_of_another_is_refused(specs):
    specs.register(inference())
    other = inference(run_id="0" * 63 + "1")
    for register in (specs.register, specs.require_free):
        with pytest.raises(SpecError, match=r"haven.scored/e/000000000000 is the key of run 0{64} already, and run 0{63}1"):
            register(other)
