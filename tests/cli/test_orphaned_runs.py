"""Runs that died with the UI that started them: they are marked as failed, and those that live are left alone."""

import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.events import EngineEventData  # what a run worker reports, which has no public name

from mimic_assets.cli.execution import HOST, fail_orphaned_runs


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
