"""The daemon beside this process: whether one lives, what it is asked for, and its runs, by the Dagster instance."""

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence

import dagster as dg

from mimic_assets.cli.following import POLL_SECONDS, RunEvents
from mimic_assets.cli.progress import Told
from mimic_assets.cli.submission import (
    ANSWER_SECONDS,
    CANCEL_CLUSTER_SECONDS,
    CANCEL_SECONDS,
    CLUSTER_SECONDS,
    DELETED,
    Run,
)
from mimic_assets.dead_runs import fail_dead_runs, fail_orphaned_runs
from mimic_assets.requests import SENSOR, runs_of_launch
from mimic_assets.run_tags import PARTITION, WILL_RETRY
from mimic_assets.withdrawal import cancel, error_of, kill
from mimic_core.specs import PartitionSpec
from resources.artefacts import ArtefactStore
from resources.environments import in_cluster
from resources.requests import BuildRequest, store_request

QUEUE = "QUEUED_RUN_COORDINATOR"  # the daemon that starts the runs of the queue
BEAT_SECONDS = 75  # it says every 30 seconds that it lives
TICK_SECONDS = 20  # the sensor that answers ticks every 3 seconds; others may keep it waiting
CLUSTER_POLL_SECONDS = 1  # between two looks at runs in a cluster, where each query is a new connection to Postgres
IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def daemon_lives(instance: dg.DagsterInstance) -> bool:
    """Tell whether a daemon answers requests, by the last ticks of its sensor, and starts queued runs, by its heartbeat."""
    sensors = [state for state in instance.all_instigator_state() if state.instigator_name == SENSOR]
    since = time.time() - TICK_SECONDS
    ticks = [
        tick for each in sensors for tick in instance.get_ticks(each.instigator_origin_id, each.selector_id, after=since)
    ]
    answers = any(tick.status.value in ("SUCCESS", "SKIPPED") for tick in ticks)  # one that failed answered nothing
    heartbeat = instance.get_daemon_heartbeats().get(QUEUE)
    beat = heartbeat.timestamp if heartbeat else 0.0
    queues = QUEUE in instance.get_required_daemon_types()
    return answers and (not queues or time.time() - beat < BEAT_SECONDS)


class Daemon:
    """The daemon of the Dagster instance that this process opened, as a `mimic_assets.cli.submission.Place`."""

    name = "the running daemon"
    wait: Callable[[float], None] = time.sleep

    def __init__(self, instance: dg.DagsterInstance, artefacts: ArtefactStore, specs: Sequence[PartitionSpec]) -> None:
        self._instance, self._artefacts, self._in_cluster = instance, artefacts, in_cluster()
        self.asset, self.keys = specs[0].asset, tuple(spec.key for spec in specs)
        self._request = BuildRequest(launch=uuid.uuid4().hex, asset=self.asset, keys=self.keys, time=time.time())
        self._events: dict[str, RunEvents] = {}
        self.poll_seconds: float = CLUSTER_POLL_SECONDS if self._in_cluster else POLL_SECONDS
        self.patience: float = CLUSTER_SECONDS if self._in_cluster else ANSWER_SECONDS
        self.grace: float = CANCEL_CLUSTER_SECONDS if self._in_cluster else CANCEL_SECONDS
        self.then = "nothing more is built" if self._in_cluster else "building in this process"
        self.launches_anew, self.kills_blocked = instance.run_retries_enabled, not self._in_cluster

    def ask(self) -> None:
        """Store the request, which a sensor answers."""
        store_request(self._artefacts, self._request)

    def runs(self) -> list[Run]:
        """Return the runs that belong to the request, oldest first."""
        return [
            Run(
                run_id=run.run_id,
                key=run.tags[PARTITION],
                status=run.status.value,
                will_retry=run.tags.get(WILL_RETRY, ""),
            )
            for run in reversed(runs_of_launch(self._instance, self._request.launch))
        ]

    def events(self, run_ids: Sequence[str]) -> Mapping[str, list[Told]]:
        """Return what runs told since the last call."""
        for run_id in run_ids:
            self._events.setdefault(run_id, RunEvents(self._instance, run_id))
        return {run_id: self._events[run_id].new() for run_id in run_ids}

    def look_after(self) -> bool:
        """Tell whether the daemon lives; runs whose process is gone are marked as failed."""
        # that of a cluster is restarted where it ends, and is waited for
        lives = self._in_cluster or daemon_lives(self._instance)
        fail_dead_runs(self._instance)  # they would hold their places in the queue
        fail_orphaned_runs(self._instance)
        return lives

    def ahead(self, run_ids: Collection[str]) -> int:
        """Count the runs that the first of some queued ones comes after; 0 where none is in progress."""
        progressing = self._instance.get_runs_count(dg.RunsFilter(statuses=IN_PROGRESS))
        queue = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), ascending=True)
        first = next((place for place, run in enumerate(queue) if run.run_id in run_ids), 0)
        return progressing and progressing + first

    def withdraw(self, keys: Collection[str]) -> None:
        """Say in the request that some partitions are not wanted any more, and cancel their runs."""
        self._request = self._request.without(keys, time.time())
        store_request(self._artefacts, self._request)
        self.cancel([run.run_id for run in self.runs() if run.key in keys])

    def cancel(self, run_ids: Collection[str]) -> None:
        """Cancel runs that wait, and ask those to end that are executed."""
        cancel(self._instance, self._found(run_ids))

    def kill(self, run_ids: Collection[str]) -> None:
        """End runs whatever they do."""
        for run in self._found(run_ids):
            kill(self._instance, run)

    def error(self, run: Run) -> str | None:
        """Say what went wrong with a run that ended; None when nothing did."""
        found = self._instance.get_run_by_id(run.run_id)
        return error_of(self._instance, found) if found else DELETED

    def _found(self, run_ids: Collection[str]) -> list[dg.DagsterRun]:
        return list(self._instance.get_runs(dg.RunsFilter(run_ids=list(run_ids)))) if run_ids else []
