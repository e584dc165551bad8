"""How a command tells whether a daemon would answer it, and how it is ended while it follows one."""

import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.definitions.run_request import (
    InstigatorType,  # what a daemon notes of a sensor, which has no public names
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from mimic_assets.cli.daemon import QUEUE, Daemon, daemon_lives
from mimic_assets.cli.progress import progress
from mimic_assets.cli.submission import submit
from mimic_assets.requests import SENSOR
from mimic_assets.run_tags import LAUNCH, PARTITION
from mimic_core.configs import parse_spec
from mimic_core.specs import DatasetSpec
from resources.environments import local_resources

ONE = "1a" * 16  # id of a command
DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s", "dataset": "d"}


@dg.op
def step():
    pass


@dg.job
def job():
    step()


def test_a_daemon_lives_only_where_the_sensor_that_answers_had_a_tick_that_did_not_fail(home):
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("mimic_assets.definitions"), "__repository__")
    now, origin = time.time(), RemoteInstigatorOrigin(location, SENSOR)
    ticked = SensorInstigatorData(last_tick_timestamp=now, min_interval=3)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE, ticked)
    (home / "dagster").mkdir()
    with dg.DagsterInstance.get() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(now, QUEUE, None))
        instance.add_instigator_state(state)
        lives = []
        for status in (TickStatus.STARTED, TickStatus.FAILURE, TickStatus.SKIPPED):
            error = SerializableErrorInfo("it fails", [], None) if status is TickStatus.FAILURE else None
            names = {"instigator_origin_id": state.instigator_origin_id, "selector_id": state.selector_id}
            tick = TickData(
                **names,
                instigator_name=SENSOR,
                instigator_type=InstigatorType.SENSOR,
                status=status,
                timestamp=now,
                error=error,
            )
            instance.create_tick(tick)
            lives.append(daemon_lives(instance))
    assert lives == [False, False, True]


SIGNALS = """
import os, signal, sys, time, weakref
from mimic_assets.cli.interruptions import noting, terminable

class Garbage:
    pass

def garbage_that_sends(number):
    garbage = Garbage()
    weakref.finalize(garbage, os.kill, os.getpid(), number)
    return garbage

def interrupted(what, *arguments):
    try:
        what(*arguments)
    except KeyboardInterrupt:
        return True
    return False
"""


def in_its_own_process(code: str) -> list[str]:
    """Run code that sends signals to itself; returns the lines that it prints."""
    command = [sys.executable, "-c", SIGNALS + textwrap.dedent(code)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.mark.parametrize("number", ["signal.SIGINT", "signal.SIGTERM"])
def test_a_signal_that_comes_while_garbage_is_removed_ends_the_next_wait(number):
    said = in_its_own_process(f"""
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        garbage = garbage_that_sends({number})
        with noting() as wait:
            wait(0)
            del garbage
            print(interrupted(wait, 0), interrupted(wait, 0))
        print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers)
    """)
    assert said == ["True False", "True"]


@pytest.mark.parametrize("number", ["signal.SIGINT", "signal.SIGTERM"])
def test_a_signal_that_comes_while_garbage_is_removed_ends_what_goes_on_after_it(number):
    said = in_its_own_process(f"""
        hook, garbage = sys.unraisablehook, garbage_that_sends({number})
        try:
            with terminable():
                del garbage
                time.sleep(50)
        except KeyboardInterrupt:
            print("ended")
        print(sys.unraisablehook is hook)
    """)
    assert said == ["ended", "True"]


def test_a_signal_after_the_last_wait_ends_the_context():
    said = in_its_own_process("""
        def send():
            with noting():
                os.kill(os.getpid(), signal.SIGINT)
        print(interrupted(send))
    """)
    assert said == ["True"]


def test_a_second_signal_ends_at_once_what_goes_on_after_the_first():
    said = in_its_own_process("""
        def send():
            with noting():
                os.kill(os.getpid(), signal.SIGINT)
                print("first")
                os.kill(os.getpid(), signal.SIGTERM)
                print("second")
        print(interrupted(send))
    """)
    assert said == ["first", "True"]


@pytest.mark.parametrize(
    ("will_retry", "again", "failed"),
    [
        ({"dagster/will_retry": "false"}, False, True),
        ({"dagster/will_retry": "true"}, True, False),
        ({"dagster/will_retry": "true"}, False, True),  # but nobody does
        ({}, True, False),  # it is noted a moment after the failure
        ({}, False, True),
    ],
)
def test_a_failed_run_is_followed_by_the_one_that_dagster_launches_anew_if_one_comes(
    will_retry, again, failed, home, monkeypatch
):
    monkeypatch.setattr("mimic_assets.cli.daemon.ANSWER_SECONDS", 1)
    monkeypatch.setattr("mimic_assets.cli.daemon.daemon_lives", lambda _: True)
    launch = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=ONE))
    monkeypatch.setattr("mimic_assets.cli.daemon.uuid", launch)
    spec = parse_spec(DatasetSpec, DATASET, "test")
    tags = {LAUNCH: ONE, PARTITION: spec.key}
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance, progress([spec]) as shown:
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE, tags=tags | will_retry)

        def launch_anew(_):
            if again and len(instance.get_runs()) == 1:
                instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS, tags=tags)

        monkeypatch.setattr("mimic_assets.cli.daemon.fail_dead_runs", launch_anew)  # some looks later
        monkeypatch.setattr("mimic_assets.cli.submission.LOOK_SECONDS", 0.1)
        daemon = Daemon(instance, local_resources(home / "mimic")["artefacts"], [spec])
        (ended,) = submit(daemon, shown).values()
    assert ended.error == (f"run {run.run_id} failed" if failed else None)
    assert (ended.run_id == run.run_id) is failed
