"""Two hundred Jobs at once: the daemon still answers. Their processes are sleeping ones, as a machine is too small."""

import time
import uuid

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus

from mimic_assets.run_tags import PARTITION
from mimic_core.specs import DatasetSpec

RUNS = 200
SLEEP = ["sleep", "600"]


@pytest.fixture(scope="module")
def busy(tmp_path_factory, new_platform, waiting):
    """A platform with as many runs in flight; one is launched as in the UI, and the queue gets copies of it."""
    folder = tmp_path_factory.mktemp("busy")
    asleep = {"command": lambda _pod, _command: SLEEP, "modules": ()}
    with new_platform(folder, most_runs=2 * RUNS, poll_seconds=20, **asleep) as platform:
        keys = [platform.register(DatasetSpec, dataset=f"d{number}") for number in range(RUNS + 1)]
        platform.serve(ui=True)
        with platform.instance as instance:
            first = instance.get_run_by_id(platform.launch("tfrecord_dataset", keys[0]))
            for key in keys[1:RUNS]:
                copy = {"run_id": str(uuid.uuid4()), "tags": first.tags | {PARTITION: key}}
                instance.add_run(first._replace(**copy, status=DagsterRunStatus.QUEUED))
        waiting(lambda: len(platform.cluster.pods) >= RUNS, 300, f"launching {RUNS} runs")
        with platform.instance as instance:
            for run in instance.get_runs():  # what a sleeping process does not say; only runs that began are looked at
                began = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name)
                instance.report_dagster_event(began, run.run_id)
        yield platform, keys


def test_a_run_is_launched_while_two_hundred_are_in_flight(busy, waiting):
    platform, keys = busy
    run_id = platform.launch("tfrecord_dataset", keys[RUNS])
    waiting(lambda: platform.cluster.jobs_of(run_id), 60)
    running = [pod for pod in platform.cluster.pods.values() if pod["status"]["phase"] == "Running"]
    assert len(running) == RUNS + 1


def test_the_daemon_goes_on_while_two_hundred_are_in_flight(busy, waiting):
    platform, _ = busy
    began = time.time()
    asked = dict(platform.cluster.requests)
    status = "GET jobs/NAME/status"
    waiting(lambda: platform.cluster.requests.get(status, 0) >= asked.get(status, 0) + RUNS, 60, "looking at every run")
    with platform.instance as instance:
        waiting(lambda: all(beat.timestamp > began for beat in instance.get_daemon_heartbeats().values()), 60)
        beats = instance.get_daemon_heartbeats().values()
        assert [error for beat in beats for error in beat.errors or []] == []
        (answers,) = [state for state in instance.all_instigator_state() if state.instigator_name == "build_requested"]
        assert waiting(lambda: instance.get_ticks(answers.instigator_origin_id, answers.selector_id, after=began), 60)
        assert {run.status.value for run in instance.get_runs()} <= {"STARTING", "STARTED"}
