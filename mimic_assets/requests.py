"""Requests: the builds that commands ask a daemon for, and the sensor that answers them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from mimic_assets.jobs import BUILDS, build_request
from mimic_assets.live import LAUNCH, note_withdrawn
from mimic_assets.partitions import BY_ASSET
from resources.artefacts import ArtefactStore
from resources.requests import BuildRequest, open_requests, remove_request

SENSOR = "build_requested"
EXPIRES = 600  # seconds; a command that lives takes an unanswered request back within a minute
# a run between these states would stay in CANCELING: it is not in the queue yet, or tells of no process to end
CANCELABLE = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED}
LATE = 60  # seconds in which a run may still appear that a tick before the withdrawal asked for


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a tick does about one request.

    Attributes:
        missing: partitions that have no run yet.
        unwanted: ids of runs to cancel.
        done: nothing will be left to do, so the request can be removed.
    """

    missing: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    done: bool = False


def answer(request: BuildRequest, runs: Sequence[dg.DagsterRun], now: float) -> Answer:
    """Decide what to do about a request, given the runs that belong to it.

    A request is answered again until its runs exist; that makes no second one, since no run key is taken twice.
    """
    by_key = {run.tags["dagster/partition"]: run for run in runs}
    missing = tuple(key for key in request.keys if key not in by_key)
    withdrawn = [by_key[key] for key in request.withdrawn if key in by_key]
    age = now - request.time
    return Answer(
        missing=missing if age < EXPIRES else (),
        unwanted=tuple(run.run_id for run in withdrawn if run.status in CANCELABLE),
        done=age >= EXPIRES or (not missing and (not request.withdrawn or age >= LATE)),
    )


@dg.sensor(
    name=SENSOR,
    jobs=list(BUILDS.values()),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=3,
    description="Starts the runs that `mimic` commands ask for while a daemon is alive, and cancels those they take back.",
)
def build_requested(context: dg.SensorEvaluationContext, artefacts: ArtefactStore) -> dg.SensorResult:
    """Request a run for each partition that a command waits for."""
    return dg.SensorResult(run_requests=list(_answers(context.instance, artefacts)))


def _answers(instance: dg.DagsterInstance, artefacts: ArtefactStore) -> Iterator[dg.RunRequest]:
    for request in open_requests(artefacts):
        decided = answer(request, runs_of_launch(instance, request.launch), time.time())
        for run_id in decided.unwanted:
            note_withdrawn(instance, run_id)
            instance.run_coordinator.cancel_run(run_id)
        if decided.done:
            remove_request(artefacts, request.launch)
        known = set(instance.get_dynamic_partitions(str(BY_ASSET[request.asset].name))) if decided.missing else set()
        for key in decided.missing:
            if key in known:  # it may have been retired since
                yield build_request(f"{request.launch}:{key}", request.asset, key, request.launch)


def runs_of_launch(instance: dg.DagsterInstance, launch: str) -> list[dg.DagsterRun]:
    """Return the runs that belong to a command."""
    return list(instance.get_runs(dg.RunsFilter(tags={LAUNCH: launch})))
