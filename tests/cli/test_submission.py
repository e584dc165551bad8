"""How a command tells whether a daemon would answer it, and how it is ended while it follows one."""

import subprocess
import sys
import textwrap
import time

import dagster as dg
import pytest
from dagster._core.definitions.run_request import (
    InstigatorType,  # what a daemon notes of a sensor, which has no public names
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from mimic_assets.cli.submission import QUEUE, daemon_lives
from mimic_assets.requests import SENSOR


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
