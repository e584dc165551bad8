"""Runs whose process is gone: they are marked as failed, and those that live, or cannot be judged here, are left alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData  # what a run worker reports, which has no public name

from mimic_assets.dead_runs import (
    BOOT,
    HOST,
    MACHINE,
    NAMESPACE,
    PID,
    STARTED,
    TICKS,
    fail_dead_runs,
    fail_orphaned_runs,
    living_workers,
    process_tags,
)


@dg.op
def nothing():
    pass


@dg.job
def once():
    nothing()


@pytest.fixture
def instance(home):
    (home / "dagster").mkdir()
    with dg.DagsterInstance.get() as instance:
        yield instance


def started(instance, pid=None, **tags):
    """A run that was left as STARTED, whose events tell of a process."""
    run = instance.create_run_for_job(once, status=dg.DagsterRunStatus.STARTED, tags=tags)
    if pid is not None:
        told = EngineEventData({"pid": dg.MetadataValue.text(str(pid))})
        instance.report_engine_event("Executing steps in process", run, told)
    return run.run_id


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_whose_process_is_gone_is_marked_as_failed(instance):
    run_id = started(instance, ended_process())
    assert fail_orphaned_runs(instance) == [run_id]
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE
    assert fail_orphaned_runs(instance) == []


def test_runs_that_live_tell_of_no_process_or_belong_to_a_command_line_are_left_alone(instance):
    started(instance, os.getpid())
    started(instance)
    started(instance, ended_process(), **{HOST: "elsewhere"})
    assert fail_orphaned_runs(instance) == []


def test_slots_of_pools_that_ended_or_deleted_runs_hold_or_wait_for_are_freed_and_no_others(instance):
    storage = instance.event_log_storage
    storage.set_concurrency_slots("model_run", 3)
    alive, dead, deleted = started(instance, os.getpid()), started(instance, ended_process()), started(instance)
    for run_id in (alive, dead, deleted):
        assert storage.claim_concurrency_slot("model_run", run_id, "step").is_claimed
    waiting = instance.create_run_for_job(once, status=dg.DagsterRunStatus.FAILURE).run_id
    assert not storage.claim_concurrency_slot("model_run", waiting, "step").is_claimed
    instance.run_storage.delete_run(deleted)  # `dagster run delete` frees the slots by itself
    fail_orphaned_runs(instance)
    assert storage.get_concurrency_run_ids() == {alive}
    assert storage.get_concurrency_info("model_run").active_slot_count == 1


def test_a_later_process_with_the_number_of_a_dead_one_is_not_taken_for_it(instance, monkeypatch):
    run_id = started(instance, os.getpid())
    assert [process.pid for process in living_workers(instance, run_id)] == [os.getpid()]
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 1000)
    assert living_workers(instance, run_id) == []


def test_a_run_that_ends_while_its_process_is_looked_for_stays_what_it_is(instance, monkeypatch):
    ids = {started(instance, ended_process()), started(instance, **process_tags() | {PID: str(ended_process())})}
    get_runs = instance.get_runs

    def read_too_early(*arguments, **options):
        found = get_runs(*arguments, **options)
        for run in found:
            instance.report_run_canceled(run)
        return found

    monkeypatch.setattr(instance, "get_runs", read_too_early)
    assert fail_orphaned_runs(instance) + fail_dead_runs(instance) == []
    assert {instance.get_run_by_id(run_id).status for run_id in ids} == {dg.DagsterRunStatus.CANCELED}


def test_runs_of_another_code_location_are_left_alone_where_one_is_named(instance):
    started(instance, ended_process())
    assert fail_orphaned_runs(instance, "ours") == []


@pytest.mark.skipif(not process_tags().get(TICKS), reason="this system tells neither boots nor namespaces")
@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({STARTED: "1.0"}, False),  # the clock was put right meanwhile
        ({TICKS: "1"}, True),  # a later process with the same number
        ({PID: "ended"}, True),
        ({PID: "ended", NAMESPACE: "pid:[1]"}, False),  # another container with the same host name
        ({PID: "ended", BOOT: "other", MACHINE: "other"}, False),  # another machine with the same host name
        ({BOOT: "other", MACHINE: "this"}, True),  # this one was started anew
    ],
)
def test_a_command_s_run_is_judged_only_where_its_process_can_be_known(instance, monkeypatch, changes, dead):
    monkeypatch.setattr("mimic_assets.dead_runs.MACHINE_ID", instance.root_directory + "/machine-id")
    Path(instance.root_directory, "machine-id").write_text("this\n")
    changes = changes | ({PID: str(ended_process())} if changes.get(PID) else {})
    run_id = started(instance, **process_tags() | changes)
    assert fail_dead_runs(instance) == ([run_id] if dead else [])
