"""Requests of commands: which runs the daemon would start and cancel for them, and when a request is done."""

import dataclasses
import time
from pathlib import Path

import dagster as dg
import pytest

from mimic_assets.dead_runs import PID, process_tags
from mimic_assets.planning import make_plan
from mimic_assets.posted import CANCELS
from mimic_assets.registration import add_partitions, register
from mimic_assets.requests import AWAITS, EXPIRES, LATE, Answer, answer
from mimic_assets.run_tags import BUILD, LAUNCH
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError
from mimic_core.manifests import seal
from mimic_core.specs import DatasetSpec
from mimic_core.world import Node, State
from resources.requests import BuildRequest, open_requests, remove_request, store_request

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s"}
A1, A2, A3 = (name * 16 for name in ("a1", "a2", "a3"))  # ids of commands
REQUEST = BuildRequest(launch=A1, asset="tfrecord_dataset", keys=("s/d", "s/e"), time=1000.0)


def run(key, status=dg.DagsterRunStatus.STARTED):
    return dg.DagsterRun(job_name="build_dataset", run_id=f"run-of-{key}", status=status, tags={"dagster/partition": key})


def test_partitions_without_a_run_are_asked_for_until_all_have_one():
    assert answer(REQUEST, [], 1001) == Answer(missing=("s/d", "s/e"))
    assert answer(REQUEST, [run("s/e")], 1001) == Answer(missing=("s/d",))
    assert answer(REQUEST, [run("s/e"), run("s/d")], 1001) == Answer(done=True)


def test_a_request_that_nobody_answered_for_long_is_dropped():
    assert answer(REQUEST, [], 1000 + EXPIRES) == Answer(done=True)


def test_a_run_that_appears_after_the_withdrawal_is_canceled_and_one_that_ended_is_left():
    withdrawn = REQUEST.without(["s/d"], 2000.0)
    assert withdrawn.keys == ("s/e",)
    assert answer(withdrawn, [run("s/d"), run("s/e")], 2001) == Answer(unwanted=("run-of-s/d",))
    for status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.CANCELING):
        assert answer(withdrawn, [run("s/d", status), run("s/e")], 2000 + LATE) == Answer(done=True)


def test_of_many_unwanted_runs_a_tick_cancels_some_and_the_request_stays_until_all_are():
    keys = tuple(f"s/{number}" for number in range(CANCELS + 1))
    request = dataclasses.replace(REQUEST, keys=keys).without(keys, 2000.0)
    runs = [run(key) for key in keys]
    assert answer(request, runs, 2000 + LATE) == Answer(unwanted=tuple(each.run_id for each in runs[:CANCELS]))
    assert answer(request, runs[1:], 2000 + LATE).done


def test_an_id_of_a_command_cannot_lead_to_another_folder(platform):
    with pytest.raises(SpecError, match=r"launch: expected the id of a command, 32 hexadecimal digits, found '\.\./x'"):
        store_request(platform.artefacts, dataclasses.replace(REQUEST, launch="../x"))


def test_a_request_is_read_as_it_was_stored_and_can_be_removed_twice(platform):
    for request in (REQUEST, REQUEST.without(["s/e"], 1.5)):
        store_request(platform.artefacts, request)
        assert open_requests(platform.artefacts) == [request]
    for _ in range(2):
        remove_request(platform.artefacts, A1)
        assert open_requests(platform.artefacts) == []


@pytest.fixture
def tick(platform):
    """One evaluation of the sensor; returns its requests."""

    def evaluate():
        definitions, instance = platform.definitions(), platform.instance
        resources = {"artefacts": platform.artefacts}
        context = dg.build_sensor_context(
            instance, sensor_name="build_requested", definitions=definitions, resources=resources
        )
        with dg.partition_loading_context(dynamic_partitions_store=instance):
            return definitions.resolve_sensor_def("build_requested").evaluate_tick(context).run_requests

    return evaluate


def test_a_tick_requests_runs_that_are_tagged_with_their_partition_and_their_command(platform, tick):
    platform.instance.add_dynamic_partitions("tfrecord_datasets", ["s/d"])
    store_request(platform.artefacts, BuildRequest(launch=A1, asset="tfrecord_dataset", keys=("s/d",), time=time.time()))
    for _ in range(2):  # until its run exists; the run key makes it one
        (request,) = tick()
        assert (request.job_name, request.partition_key, request.run_key) == ("build_dataset", "s/d", f"{A1}:s/d")
        assert request.tags.items() >= {BUILD: "tfrecord_dataset:s/d", LAUNCH: A1}.items()
    assert len(open_requests(platform.artefacts)) == 1


def test_a_partition_that_was_retired_before_the_tick_is_not_requested_and_holds_up_nothing(platform, tick):
    platform.instance.add_dynamic_partitions("tfrecord_datasets", ["s/e"])
    store_request(platform.artefacts, BuildRequest(launch=A1, asset="tfrecord_dataset", keys=("s/d",), time=time.time()))
    store_request(platform.artefacts, BuildRequest(launch=A2, asset="tfrecord_dataset", keys=("s/e",), time=time.time()))
    assert [request.partition_key for request in tick()] == ["s/e"]


def test_builds_go_on_after_commands_died_in_the_middle_of_as_many_as_may_be_in_flight(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    specs = [parse_spec(DatasetSpec, DATASET | {"dataset": f"d{number}"}) for number in range(5)]
    register(platform.instance, platform.specs, [(spec, "") for spec in specs])
    job = platform.definitions().resolve_job_def("build_dataset")
    for spec in specs[:4]:
        tags = process_tags() | {"dagster/partition": spec.key, PID: "4194000"}
        platform.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    assert sensors.tick("rebuild_sensor").keys == []
    assert sensors.tick("dead_runs_sensor").skipped == "4 runs are marked as failed"
    assert sensors.tick("rebuild_sensor").keys != []
    assert sensors.tick("dead_runs_sensor").skipped == "no run is dead"


def test_damaged_requests_are_removed_with_a_message_and_the_others_are_answered(sensors):
    platform = sensors.platform
    platform.instance.add_dynamic_partitions("tfrecord_datasets", ["s/d"])
    store_request(platform.artefacts, REQUEST)
    empty, unknown = (Path(platform.artefacts.where(f"requests/{name}.json")) for name in ("a0" * 16, A2))
    empty.write_text("")
    unknown.write_bytes(seal({"launch": A2, "asset": "no_such_asset", "keys": [], "withdrawn": [], "time": 1.0}))
    store_request(platform.artefacts, BuildRequest(launch=A3, asset="tfrecord_dataset", keys=("s/d",), time=time.time()))
    tick = sensors.tick("build_requested")
    assert tick.keys == ["s/d"]
    removed, other = tick.log
    assert removed.startswith(f"a request is removed, and its command builds by itself: {empty}: damaged")
    assert other.endswith(f"{unknown}: this is no request that this version knows: KeyError('no_such_asset')")
    assert platform.artefacts.names("requests") == [f"{A3}.json"]


def test_what_a_command_just_asked_for_is_queued_for_everybody_until_it_has_a_run_or_the_command_must_be_dead(
    sensors, decision_table
):
    platform = sensors.platform
    platform.imported(decision_table())
    spec = parse_spec(DatasetSpec, DATASET | {"dataset": "d"})
    register(platform.instance, platform.specs, [(spec, "")])

    def state():
        return make_plan(platform.instance, platform.inventory)[0].partitions[Node(spec.asset, spec.key)].state

    ask = BuildRequest(launch=A1, asset=spec.asset, keys=(spec.key,), time=time.time())
    store_request(platform.artefacts, ask)
    (Path(platform.artefacts.where("requests")) / "a0.json").write_text("")
    assert sensors.tick("rebuild_sensor").keys == []
    assert state() == State.QUEUED
    for changed in (ask.without([spec.key], time.time()), dataclasses.replace(ask, time=time.time() - AWAITS)):
        store_request(platform.artefacts, changed)
        assert state() == State.MISSING
    store_request(platform.artefacts, ask)
    assert sensors.tick("build_requested").keys == [spec.key]
    job = platform.definitions().resolve_job_def("build_dataset")
    ended = platform.instance.create_run_for_job(job, tags={LAUNCH: A1, "dagster/partition": spec.key})
    assert state() == State.QUEUED  # its run is
    platform.instance.report_run_canceled(ended)
    assert len(open_requests(platform.artefacts)) == 1
    assert state() == State.MISSING  # its own command goes on


def test_a_report_that_a_command_asks_for_gets_a_run_of_its_job(platform, tick):
    add_partitions(platform.instance, "experiment_report", ["s/e"])
    store_request(platform.artefacts, BuildRequest(launch=A2, asset="experiment_report", keys=("s/e",), time=time.time()))
    (asked,) = tick()
    assert (asked.job_name, asked.partition_key) == ("report_experiment", "s/e")
