"""The spec folder: what becomes of config files that people drop, change and delete."""

import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_assets.planning import make_plan
from mimic_assets.registration import register
from mimic_assets.retirement import retire_nodes
from mimic_core.configs import parse_spec
from mimic_core.errors import CorruptFileError, StorageError
from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import Policy, first_builds
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, RunSpec
from mimic_core.world import Node, State
from resources import spec_folder
from resources.spec_folder import MARKER, RECORD, problems

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


def built(sensors, decision_table):
    """Drop the dataset and build it; returns its file."""
    sensors.platform.imported(decision_table())
    file = sensors.drop("d.json", DATASET)
    (request,) = sensors.tick(NAME).requests
    assert sensors.execute(request)
    assert sensors.tick(NAME).requests == []
    return file


def published(sensors):
    return keys(sensors, "tfrecord_dataset") == ["s/d"] and sensors.platform.artefacts.manifest("s-tfrecords/d") is not None


def registered_by_hand(sensors, document):
    register(sensors.platform.instance, sensors.platform.specs, [(parse_spec(DatasetSpec, document), "")])


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
        "inference_table": [f"haven.scored/e/{RUN.run_id[:12]}"],
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


def test_the_seeds_of_a_model_in_a_file_are_runs_of_their_own(sensors):
    models = [{"layers": ["D4"], "seeds": [1, 2]}, {"layers": []}]
    written = [{"layers": ["D4"], "seed": 1}, {"layers": ["D4"], "seed": 2}, {"layers": []}]
    sensors.drop("e.json", EXPERIMENT | {"models": models})
    assert "3 partitions" in sensors.tick(NAME).skipped
    runs = parse_spec(ExperimentSpec, EXPERIMENT | {"models": written}).runs
    assert keys(sensors, "model_run") == sorted(run.key for run in runs)


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
        parse_spec(ExperimentSpec, EXPERIMENT | {"experiment_name": "own"}).runs[0].key: "changed"
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
    assert request.tags[".dagster/mimic-wanted"]
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
    status = CliRunner().invoke(main, ["status"], prog_name="mimic")
    assert (status.exit_code, "spec folder: " in status.stdout, "mount it again" in status.stdout) == (0, True, True)
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
    assert sensors.tick(NAME).log == []
    assert sensors.tick(NAME).log == [f"tfrecord_dataset s/d stays registered: model_run {RUN.key} needs it"]
    experiment.unlink()
    job = sensors.platform.definitions().resolve_job_def("build_dataset")
    run = sensors.platform.instance.create_run_for_job(job, tags={"dagster/partition": "s/d"})
    assert sensors.tick(NAME).log == []  # nor is it said again
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
    assert [sensors.tick(NAME).log for _ in range(2)] == [[], []]
    assert not any(registered(sensors).values())
    assert [platform.tables.pin(name).rows for name in tables] == [0, 0, 0]
    assert not list(Path(platform.artefacts.where("")).rglob("manifest.json"))
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
    sensors.tick(NAME)

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
    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    platform = sensors.platform
    nodes = [Node("tfrecord_dataset", "s/d")]
    retire_nodes(platform.instance, platform.specs, platform.tables, platform.artefacts, nodes)
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == []
    file.unlink()
    assert "0 partitions" in sensors.tick(NAME).skipped


# ---- files that are gone


def test_a_file_is_gone_for_good_after_two_ticks_and_the_time_that_settles(sensors, decision_table, monkeypatch):
    file = built(sensors, decision_table)
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "60")
    file.unlink()
    for _ in range(2):
        assert "1 files are gone, which retires what they defined: d.json" in sensors.tick(NAME).skipped
    sensors.drop("d.json", DATASET)  # written again, as editors and version control do
    assert sensors.tick(NAME).requests == []
    assert published(sensors)
    file.unlink()
    sensors.tick(NAME)
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "0")
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == []


def test_a_file_that_is_renamed_keeps_what_was_built(sensors, decision_table, monkeypatch):
    file = built(sensors, decision_table)
    file.rename(sensors.specs / "renamed.json")
    monkeypatch.setattr(spec_folder, "FRESH_SECONDS", 60.0)  # it was, a moment ago
    assert [sensors.tick(NAME).requests for _ in range(3)] == [[], [], []]
    assert published(sensors)
    monkeypatch.setattr(spec_folder, "FRESH_SECONDS", 0.0)
    assert [sensors.tick(NAME).requests for _ in range(3)] == [[], [], []]
    assert published(sensors)
    assert "1 files, 1 partitions, 0 of them not built yet" in sensors.tick(NAME).skipped


def test_nothing_is_retired_while_another_file_cannot_be_read(sensors, decision_table):
    built(sensors, decision_table).unlink()
    other = sensors.drop("other.json", "{")
    said = [sensors.tick(NAME).skipped for _ in range(3)][-1]
    assert "but not while another has a problem: d.json" in said
    assert published(sensors)
    other.unlink()
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == []


def test_a_link_into_a_share_that_is_gone_keeps_what_it_defined(sensors, decision_table):
    file = built(sensors, decision_table)
    share = sensors.specs.parent / "share"
    share.mkdir()
    file.rename(share / "d.json")
    file.symlink_to(share / "d.json")
    sensors.tick(NAME)
    share.rename(share.with_name("away"))
    (line,) = [line for _ in range(3) for line in sensors.tick(NAME).log]
    assert line == f"d.json: {file}: this link leads to nothing that can be read; mount what it leads to, or remove it"
    assert published(sensors)
    share.with_name("away").rename(share)
    sensors.tick(NAME)
    assert problems(sensors.platform.artefacts) == {}


def test_a_folder_that_is_a_link_is_named_and_not_followed(sensors):
    sensors.tick(NAME)
    elsewhere = sensors.specs.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.json").write_text("{}")
    (sensors.specs / "linked").symlink_to(elsewhere)
    (line,) = sensors.tick(NAME).log
    assert line.startswith("linked: ")
    assert "this folder is a link, and links to folders are not followed" in line
    assert sensors.tick(NAME).log == []


def test_an_object_storage_that_is_gone_fails_the_tick_and_registers_nothing_anew(sensors):
    sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    objects = Path(sensors.platform.artefacts.where(""))
    objects.rename(objects.with_name("unmounted"))
    objects.mkdir()
    with pytest.raises(StorageError, match=r"spec-folder\.json: is gone, although this home used the spec folder"):
        sensors.tick(NAME)
    assert list(objects.iterdir()) == []
    objects.rmdir()
    objects.with_name("unmounted").rename(objects)
    (objects / "specs").rename(objects / "away")
    with pytest.raises(StorageError, match=r"specs: is gone, .* mount or put back"):
        sensors.tick(NAME)


def test_a_record_that_is_damaged_or_lost_is_begun_anew_as_the_message_says(sensors):
    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    record = Path(sensors.platform.artefacts.where(RECORD))
    record.write_text("")
    with pytest.raises(CorruptFileError, match=r"put it back from a backup, or delete .* and the line that names it"):
        sensors.tick(NAME)
    status = CliRunner().invoke(main, ["status"], prog_name="mimic")
    assert (status.exit_code, "tfrecord_dataset" in status.stdout) == (0, True)
    assert f"spec folder: {record}: damaged" in status.stdout
    record.unlink()
    with pytest.raises(StorageError, match="is gone"):
        sensors.tick(NAME)
    marker = sensors.specs / MARKER
    marker.write_text(marker.read_text().replace(f"{record}\n", ""))
    sensors.tick(NAME)
    file.unlink()
    assert "stays registered, because it was before" in "".join(line for _ in range(2) for line in sensors.tick(NAME).log)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_two_homes_may_use_one_folder(sensors):
    sensors.drop("d.json", DATASET)
    (sensors.specs / MARKER).write_text("/another/home/spec-folder.json\n")
    assert "1 files" in sensors.tick(NAME).skipped
    assert (sensors.specs / MARKER).read_text().splitlines() == [
        "/another/home/spec-folder.json",
        str(Path(sensors.platform.artefacts.where(RECORD))),
    ]


# ---- what people and files both say


def test_deleting_a_file_keeps_what_a_person_registered_before(sensors):
    registered_by_hand(sensors, DATASET)
    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    file.unlink()
    log = [line for _ in range(3) for line in sensors.tick(NAME).log]
    assert log == ["tfrecord_dataset s/d stays registered, because it was before a file of the spec folder defined it"]
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_what_a_person_registers_over_a_file_counts_is_shown_and_outlives_the_file(sensors):
    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    registered_by_hand(sensors, DATASET | {"max_choices": 9})
    os.utime(file, (1, 1))
    sensors.tick(NAME)
    assert sensors.platform.specs.get(DatasetSpec, "s/d").spec.max_choices == 9
    said = CliRunner().invoke(main, ["status"], prog_name="mimic").stdout
    assert "spec file d.json is not registered: tfrecord_dataset s/d was registered with another spec since" in said
    file.unlink()
    log = [line for _ in range(3) for line in sensors.tick(NAME).log]
    assert log == ["tfrecord_dataset s/d stays registered, because it was registered with another spec since its file was"]
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]


def test_what_a_command_retired_is_built_when_its_file_says_something_else(sensors, decision_table):
    built(sensors, decision_table)
    platform = sensors.platform
    nodes = [Node("tfrecord_dataset", "s/d")]
    assert retire_nodes(platform.instance, platform.specs, platform.tables, platform.artefacts, nodes) == nodes
    sensors.drop("d.json", DATASET | {"max_choices": 4})
    assert sensors.tick(NAME).keys == ["s/d"]


def test_a_model_that_an_experiment_does_not_name_any_more_stays_until_it_is_retired(sensors):
    file = sensors.drop("e.json", EXPERIMENT)
    sensors.tick(NAME)
    sensors.drop("e.json", EXPERIMENT | {"models": [{"layers": ["D4"]}]})
    log = [line for _ in range(3) for line in sensors.tick(NAME).log]
    assert log == [
        f"e.json does not define model_run {RUN.key} any more, which stays registered; to retire it, "
        f"use `mimic runs retire {RUN.key}`"
    ]
    assert len(keys(sensors, "model_run")) == 2
    file.unlink()
    assert [sensors.tick(NAME).log for _ in range(2)] == [[], []]
    assert keys(sensors, "model_run") == [RUN.key]


def test_a_run_that_begins_between_the_plan_and_the_retirement_keeps_its_partition(sensors, monkeypatch):
    file = sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    file.unlink()
    sensors.tick(NAME)
    platform = sensors.platform
    job = platform.definitions().resolve_job_def("build_dataset")

    def begin(*arguments):
        plan = make_plan(*arguments)
        platform.instance.create_run_for_job(job, tags={"dagster/partition": "s/d"})
        return plan

    monkeypatch.setattr("mimic_assets.sensors.specs.make_plan", begin)
    sensors.tick(NAME)
    assert keys(sensors, "tfrecord_dataset") == ["s/d"]
    assert platform.instance.get_dynamic_partitions("tfrecord_datasets") == ["s/d"]


# ---- first builds


def test_a_first_build_waits_until_its_tables_and_specs_settled(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "60")
    sensors.platform.imported(decision_table())
    sensors.drop("d.json", DATASET)
    assert sensors.tick(NAME).requests == []
    monkeypatch.setattr("mimic_assets.sensors.specs.time.time", lambda now=time.time: now() + 61)
    assert sensors.tick(NAME).keys == ["s/d"]


def test_a_first_build_waits_also_for_a_table_that_says_that_it_changed_long_ago(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "60")
    sensors.drop("d.json", DATASET)
    sensors.tick(NAME)
    later = [61.0]
    monkeypatch.setattr("mimic_assets.sensors.specs.time.time", lambda now=time.time: now() + later[0])
    sensors.platform.imported(decision_table())
    assert sensors.tick(NAME).requests == []
    later[0] = 122.0
    assert sensors.tick(NAME).keys == ["s/d"]


def test_first_builds_are_those_that_are_quiet():
    node = Node("tfrecord_dataset", "s/d")
    partition = Partition(node=node, state=State.MISSING, version="v", will_build=True, changed_at=100.0)
    plan = Plan(partitions={node: partition})
    assert first_builds(plan, {node}, Policy(), 129.0) == []
    assert first_builds(plan, {node}, Policy(), 130.0) == [partition]
    assert first_builds(plan, {node}, Policy(), 99.0) == []
    assert first_builds(plan, {node}, Policy(), 9.0) == [partition]  # a time far in the future says nothing


def test_a_config_whose_builds_only_people_ask_for_costs_no_plan(sensors, decision_table, monkeypatch):
    sensors.platform.imported(decision_table())
    sensors.drop("manual.json", DATASET | {"refresh": "manual"})
    monkeypatch.setattr("mimic_assets.sensors.specs.make_plan", lambda *_: pytest.fail("planned"))
    assert "1 partitions, 0 of them not built yet" in sensors.tick(NAME).skipped
    monkeypatch.undo()
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "0")
    monkeypatch.setattr(spec_folder, "FRESH_SECONDS", 0.0)
    sensors.drop("manual.json", DATASET)
    assert sensors.tick(NAME).keys == ["s/d"]
