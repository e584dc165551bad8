"""The sensor that answers the requests of commands."""

import time
from collections.abc import Iterator

import dagster as dg

from mimic_assets.jobs import BUILDS, build_request
from mimic_assets.live import note_withdrawn
from mimic_assets.partitions import BY_ASSET
from mimic_assets.requests import SENSOR, answer, runs_of_launch
from resources.artefacts import ArtefactStore
from resources.requests import open_requests, remove_damaged, remove_request


@dg.sensor(
    name=SENSOR,
    jobs=list(BUILDS.values()),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=3,
    description="Starts the runs that `mimic` commands ask for while a daemon is alive, and cancels those they take back.",
)
def build_requested(context: dg.SensorEvaluationContext, artefacts: ArtefactStore) -> dg.SensorResult:
    """Request a run for each partition that a command waits for."""
    for problem in remove_damaged(artefacts):
        context.log.error(f"a request is removed, and its command builds by itself: {problem}")
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
                yield build_request(f"{request.launch}:{key}", request.asset, key, request.launch, request.user)
