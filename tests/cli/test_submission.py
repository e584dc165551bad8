"""How a command tells whether a daemon would answer it."""

import time

import dagster as dg
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
