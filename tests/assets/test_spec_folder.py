"""The spec folder: what becomes of config files that people drop, change and delete."""

import shutil

import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_core.configs import parse_spec
from mimic_core.errors import StorageError
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, RunSpec
from mimic_core.world import Node
from resources import spec_folder
from resources.spec_folder import MARKER, problems

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s", "dataset": "d"}
CONTRAST = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
CONTRAST |= {"decisions_per_individual": 2, "alternatives_per_decision": 1}
EXPERIMENT = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["age"]}
EXPERIMENT |= {"database": "haven", "table": "results", "models": [{"layers": []}]}
RUN = parse_spec(ExperimentSpec, EXPERIMENT).runs[0]
INFERENCE = {"database": "haven", "table": "features", "features": ["age"], "space": "s", "experiment_name": "e"}
INFERENCE |= {"run_id": RUN.run_id, "upload_table": "scored"}
NAME = "spec_sensor"


def registered(sensors):
    found = sensors.platform.specs
    return {kind.asset: found.registered(kind.asset) for kind in (ContrastSpec, DatasetSpec, RunSpec, InferenceSpec)}


def keys(sensors, asset):
    return sensors.platform.specs.registered(asset)


def test_the_folder_is_made_with_a_marker_that_explains_itself(sensors):
    assert "0 files" in sensors.tick(NAME).skipped
    assert "registered by mimic" in (sensors.specs / MARKER).read_text()


def test_each_kind_of_config_is_known_by_its_keys_wherever_it_lies(sensors):
    sensors.drop("a/contrast.json", CONTRAST)
    sensors.drop("dataset.yaml", "\n".join(f"{name}: {value}" for name, value in DATASET.items()))
    sensors.drop("b/c/experiment.yml", EXPERIMENT)
    sensors.drop("inference.json", INFERENCE)
    sensors.drop(".hidden.json", DATASET | {"dataset": "hidden"})
    sensors.drop(".git/x.json", DATASET | {"dataset": "hidden"})
    sensors.drop("notes.txt", "not a config")
    assert "4 files, 4 partitions, 4 of them not built yet" in sensors.tick(NAME).skipped
    assert registered(sensors) == {
        "contrast_set": ["haven.contrasts"],
        "tfrecord_dataset": ["s/d"],
        "model_run": [RUN.key],
        "inference_table": [f"haven.scored/e/{RUN.run_id}"],
    }
    assert sensors.platform.instance.get_dynamic_partitions("model_runs") == [RUN.key]
    assert problems(sensors.platform.artefacts) == {}


def test_a_file_that_was_changed_a_moment_ago_waits_for_the_next_tick(sensors, monkeypatch):
    monkeypatch.setattr(spec_folder, "FRESH_SECONDS", 60.0)
    sensors.drop("dataset.json", '{"half": ')
    assert sensors.tick(NAME).log == []
    monkeypatch.setattr(spec_folder, "FRESH_SECONDS", 0.0)
    assert len(sensors.tick(NAME).log) == 1


def test_a_file_with_a_problem_is_named_once_and_holds_up_no_other(sensors):
    sensors.drop("a.json", DATASET | {"max_choices": 0})
    sensors.drop("b.json", {"hello": 1})
    sensors.drop("c.json", "{")
    sensors.drop("d.json", DATASET)
    sensors.drop("e.json", EXPERIMENT | {"models": [{"layers": ["Q"]}]})
    tick = sensors.tick(NAME)
    said = {line.partition(":")[0]: line for line in tick.log}
    assert sorted(said) == ["a.json", "b.json", "c.json", "e.json"]
    assert "max_choices: expected a number of at least 2" in said["a.json"]
    assert "this is no config of mimic" in said["b.json"]
    assert "this is not JSON" in said["c.json"]
    assert "unknown layer 'Q'" in said["e.json"]
    assert "4 files with problems: a.json, b.json, c.json, e.json" in tick.skipped
    assert list(problems(sensors.platform.artefacts)) == ["a.json", "b.json", "c.json", "e.json"]
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]
    assert "spec file b.json is not registered: " in CliRunner().invoke(main, ["status"], prog_name="mimic").stdout
    assert sensors.tick(NAME).log == []
    sensors.drop("a.json", DATASET | {"dataset": "a"})
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/a", "s/d"]
    assert "a.json" not in problems(sensors.platform.artefacts)


def test_two_files_for_one_partition_are_both_named_and_removing_one_mends_it(sensors):
    sensors.drop("a.json", DATASET)
    sensors.tick(NAME)
    copy = sensors.drop("b.json", DATASET | {"max_choices": 9})
    (first, second) = sensors.tick(NAME).log
    assert first == "a.json: a.json and b.json define tfrecord_dataset s/d; leave it in one of them"
    assert second.startswith("b.json: a.json and b.json define")
    assert sensors.platform.specs.get(DatasetSpec, "s/d").spec.max_choices == 3
    (sensors.specs / "a.json").unlink()
    sensors.tick(NAME)
    assert sensors.platform.specs.get(DatasetSpec, "s/d").spec.max_choices == 9
    assert problems(sensors.platform.artefacts) == {}
    copy.rename(sensors.specs / "c.json")
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_an_experiment_takes_the_layers_file_of_its_name_then_that_of_its_folder_and_none_is_executed(sensors):
    sensors.drop("own/e.json", EXPERIMENT | {"experiment_name": "own"})
    sensors.drop("own/e.py", "raise SystemExit('executed')")
    sensors.drop("own/layers.py", "shared")
    sensors.drop("own/f.json", EXPERIMENT | {"experiment_name": "shared"})
    sensors.drop("none.json", EXPERIMENT | {"experiment_name": "none"})
    sensors.tick(NAME)
    found = sensors.platform.specs
    layers = {key.split("/")[1]: found.get(RunSpec, key).layers for key in keys(sensors, "model_run")}
    assert layers["own"] == "raise SystemExit('executed')"
    assert layers["shared"] == "shared"
    assert "LAYERS" in layers["none"]
    sensors.drop("own/e.py", "changed")
    sensors.tick(NAME)
    assert {key: found.get(RunSpec, key).layers for key in keys(sensors, "model_run") if "/own/" in key} == {
        f"s/own/{parse_spec(ExperimentSpec, EXPERIMENT | {'experiment_name': 'own'}).runs[0].run_id}": "changed"
    }


def test_what_came_from_the_folder_is_built_once_as_soon_as_what_it_reads_is_there(sensors, decision_table):
    sensors.drop("d.json", DATASET)
    sensors.drop("e.json", EXPERIMENT)
    sensors.drop("manual.json", DATASET | {"dataset": "m", "refresh": "manual"})
    assert sensors.tick(NAME).requests == []
    sensors.platform.imported(decision_table())
    (request,) = sensors.tick(NAME).requests
    assert (request.job_name, request.partition_key) == ("build_dataset", "s/d")
    assert request.tags["mimic/build"] == "tfrecord_dataset:s/d"
    assert request.tags["mimic/wanted"]
    assert sensors.tick(NAME).requests == []
    assert sensors.execute(request)
    (following,) = sensors.tick(NAME).requests
    assert following.partition_key == RUN.key
    sensors.platform.artefacts.unpublish("s-tfrecords/d")
    assert sensors.tick(NAME).requests == []  # it was built; whether it is again is another sensor's


def test_what_was_built_and_lost_before_the_next_tick_is_not_built_again_and_again(sensors, decision_table):
    sensors.platform.imported(decision_table())
    sensors.drop("d.json", DATASET)
    (request,) = sensors.tick(NAME).requests
    assert sensors.execute(request)
    sensors.platform.artefacts.unpublish("s-tfrecords/d")
    assert sensors.tick(NAME).requests == []


def test_a_first_build_that_failed_waits_until_its_version_is_another_one(sensors, decision_table):
    sensors.platform.imported(decision_table())
    sensors.drop("d.json", DATASET | {"max_choices": 2})
    (request,) = sensors.tick(NAME).requests
    assert not sensors.execute(request)
    assert sensors.tick(NAME).requests == []
    sensors.drop("d.json", DATASET)
    (request,) = sensors.tick(NAME).requests
    assert sensors.execute(request)
    assert sensors.tick(NAME).requests == []


def test_no_more_first_builds_are_asked_for_at_once_than_may_be_in_flight(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_MAX_IN_FLIGHT", "2")
    sensors.platform.imported(decision_table())
    for number in range(3):
        sensors.drop(f"{number}.json", DATASET | {"dataset": f"d{number}"})
    assert sensors.tick(NAME).keys == ["s/d0", "s/d1"]


def test_a_folder_that_is_gone_or_has_no_marker_fails_the_tick_and_retires_nothing(sensors):
    sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    shutil.move(sensors.specs, sensors.specs.with_name("away"))
    with pytest.raises(StorageError, match=r"this spec folder held files before, and now it has no \.mimic-specs"):
        sensors.tick(NAME)
    sensors.specs.mkdir()  # as the mount point of a disk that is not there
    with pytest.raises(StorageError, match="mount it again"):
        sensors.tick(NAME)
    sensors.specs.rmdir()
    sensors.specs.write_text("no folder")
    with pytest.raises(StorageError, match="the spec folder cannot be read"):
        sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]
    sensors.specs.unlink()
    shutil.move(sensors.specs.with_name("away"), sensors.specs)
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_a_file_that_breaks_retires_nothing(sensors):
    sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    sensors.drop("d.json", "{")
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_a_partition_that_something_needs_or_a_run_builds_is_not_retired(sensors, decision_table):
    sensors.platform.imported(decision_table())
    (dataset, experiment) = (sensors.drop("d.json", DATASET), sensors.drop("e.json", EXPERIMENT))
    sensors.tick(NAME)
    dataset.unlink()
    assert sensors.tick(NAME).log == [f"tfrecord_dataset s/d stays registered: model_run {RUN.key} needs it"]
    experiment.unlink()
    job = sensors.platform.definitions().resolve_job_def("build_dataset")
    run = sensors.platform.instance.create_run_for_job(job, tags={"dagster/partition": "s/d"})
    assert sensors.tick(NAME).log == ["tfrecord_dataset s/d stays registered until its run has ended"]
    assert registered(sensors)["model_run"] == []
    sensors.platform.instance.report_run_canceled(run)
    sensors.tick(NAME)
    assert registered(sensors)["tfrecord_dataset"] == []


def test_partitions_of_every_kind_leave_what_is_registered_published_and_in_the_tables(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    documents = [CONTRAST, DATASET, EXPERIMENT, INFERENCE]
    files = [sensors.drop(f"{number}.json", document) for number, document in enumerate(documents)]
    for _ in range(3):
        requests = sensors.tick(NAME).requests
        assert [sensors.execute(request) for request in requests] == [True] * len(requests)
    assert sensors.tick(NAME).requests == []
    tables = {name: platform.tables.pin(name).rows for name in ("haven.contrasts", "haven.results", "haven.scored")}
    assert all(tables.values())
    for file in files:
        file.unlink()
    assert sensors.tick(NAME).log == []
    assert not any(registered(sensors).values())
    assert [platform.tables.pin(name).rows for name in tables] == [0, 0, 0]
    assert not list(platform.artefacts.path("").rglob("manifest.json"))
    names = ("contrast_sets", "tfrecord_datasets", "model_runs", "inference_tables")
    assert not any(platform.instance.get_dynamic_partitions(name) for name in names)
    sensors.drop("1.json", DATASET)  # back again
    (request,) = sensors.tick(NAME).requests
    assert sensors.execute(request)


def test_a_retirement_that_was_cut_off_is_ended_by_the_next_tick(sensors, decision_table, monkeypatch):
    file = sensors.drop("c.json", CONTRAST)
    sensors.platform.imported(decision_table())
    (request,) = sensors.tick(NAME).requests
    assert sensors.execute(request)
    sensors.tick(NAME)
    file.unlink()

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("resources.specs.SpecStore.remove", cut_off)
        with pytest.raises(KeyboardInterrupt):
            sensors.tick(NAME)
    assert keys(sensors, "contrast_set") == ["haven.contrasts"]
    sensors.tick(NAME)
    assert keys(sensors, "contrast_set") == []


def test_what_a_command_retired_stays_so_while_its_file_does_not_change(sensors):
    from mimic_assets.retirement import retire_nodes

    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    platform = sensors.platform
    nodes = [Node("tfrecord_dataset", "s/d")]
    retire_nodes(platform.instance, platform.specs, platform.tables, platform.artefacts, nodes)
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == []
    file.unlink()
    assert "0 partitions" in sensors.tick(NAME).skipped
