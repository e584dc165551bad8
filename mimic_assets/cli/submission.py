"""Submit builds to a live daemon, follow their runs, and take back what it does not start."""

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import click
import dagster as dg
import psutil

from mimic_assets.cli.following import POLL_SECONDS, RunEvents
from mimic_assets.cli.interruptions import noting
from mimic_assets.cli.progress import Shown
from mimic_assets.dead_runs import fail_dead_runs, fail_orphaned_runs, living_workers
from mimic_assets.live import ENDED, PARTITION, WILL_RETRY, note_withdrawn
from mimic_assets.reasons import failure
from mimic_assets.requests import CANCELABLE, SENSOR, runs_of_launch
from mimic_core.specs import PartitionSpec
from resources.artefacts import ArtefactStore
from resources.environments import in_cluster
from resources.requests import BuildRequest, store_request

QUEUE = "QUEUED_RUN_COORDINATOR"  # the daemon that starts the runs of the queue
BEAT_SECONDS = 75  # it says every 30 seconds that it lives
TICK_SECONDS = 20  # the sensor that answers ticks every 3 seconds; others may keep it waiting
ANSWER_SECONDS = 30  # without any change, on a machine that may be busy
CLUSTER_SECONDS = 300  # the same in a cluster, whose daemon stands still while it is upgraded or moved
CLUSTER_POLL_SECONDS = 1  # between two looks at runs in a cluster, where each query is a new connection to Postgres
LOOK_SECONDS = 2  # between two looks at the daemon and at dead runs
CANCEL_SECONDS = 20  # in which a run that was asked to end does
CANCEL_CLUSTER_SECONDS = 90  # the same in a cluster, whose pods have a grace of 30
WAITING = {dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED}
IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its Dagster run id (None where there was none), and what went wrong (None when nothing did)."""

    run_id: str | None
    error: str | None


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


def submit(
    instance: dg.DagsterInstance, artefacts: ArtefactStore, specs: Sequence[PartitionSpec], shown: Shown
) -> dict[str, Ended]:
    """Have a daemon build registered partitions of one asset, and follow their runs to the end.

    Returns:
        By partition key, how its run ended; a partition that the daemon did not start is withdrawn, and missing.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what waited is withdrawn, and what ran is ended.
    """
    with noting() as wait:
        submission = _Submission(instance, artefacts, specs, shown, wait)
        try:
            return submission.follow()
        except KeyboardInterrupt:
            submission.end()
            raise


class _Submission:
    def __init__(
        self,
        instance: dg.DagsterInstance,
        artefacts: ArtefactStore,
        specs: Sequence[PartitionSpec],
        shown: Shown,
        wait: Callable[[float], None],
    ) -> None:
        self._instance, self._artefacts, self._shown, self._wait = instance, artefacts, shown, wait
        self._request = BuildRequest(
            launch=uuid.uuid4().hex, asset=specs[0].asset, keys=tuple(spec.key for spec in specs), time=time.time()
        )
        self._open = list(self._request.keys)
        self._runs: dict[str, dg.DagsterRun] = {}
        self._events: dict[str, RunEvents] = {}
        self._ended: dict[str, Ended] = {}
        self._moved = self._looked = time.monotonic()
        self._lives, self._in_cluster, self._ends = True, in_cluster(), False

    def follow(self) -> dict[str, Ended]:
        """Ask for the runs, and follow each until it ended or is withdrawn."""
        store_request(self._artefacts, self._request)
        self._shown.say("submitted to the running daemon")
        while self._open:
            self._look_at_runs()
            self._look_at_processes()
            if waiting := self._waiting():
                self._withdraw_unless_it_moves(waiting)
            if self._open:
                self._wait(CLUSTER_POLL_SECONDS if self._in_cluster else POLL_SECONDS)
        return self._ended

    def end(self) -> None:
        """Withdraw what waits, end what runs, and say so; a run that does not end when it is asked to is killed."""
        self._ends = True
        self._look_at_runs()
        keys = tuple(self._open)
        self._withdraw(keys)
        deadline = time.monotonic() + (CANCEL_CLUSTER_SECONDS if self._in_cluster else CANCEL_SECONDS)
        while unfinished := [key for key in self._open if key in self._runs]:
            for key in unfinished:
                # Dagster does not end a run that waits for a slot of a pool, but in a cluster, where other steps go on
                if (self._events[key].blocked and not self._in_cluster) or time.monotonic() > deadline:
                    _kill(self._instance, self._runs[key])
            self._wait(POLL_SECONDS)
            self._look_at_runs()
            self._cancel(self._open)
        for key in keys:
            what = f"canceled its run {self._runs[key].run_id}" if key in self._runs else "withdrew it before it had a run"
            click.echo(f"mimic: {self._request.asset} {key}: {what}", err=True)

    def _look_at_runs(self) -> None:
        # of a partition the newest: a run whose pod was lost is launched anew, with the same tags
        runs = reversed(runs_of_launch(self._instance, self._request.launch))
        found = {run.tags[PARTITION]: run for run in runs}
        if {key: run.status for key, run in found.items()} != {key: run.status for key, run in self._runs.items()}:
            self._moved = time.monotonic()
        for key in [key for key in self._open if key in found or key in self._runs]:
            run = found.get(key)
            if run is None:
                self._finish(key, self._runs[key].run_id, "its run was deleted before it had ended")
                continue
            if key not in self._events or self._runs.get(key, run).run_id != run.run_id:
                self._events[key] = RunEvents(self._instance, run.run_id)
            events = self._events[key]
            if run.status not in WAITING:  # nothing happens in the queue, which may be long
                events.pass_on(self._shown.reports[key])
            if self._is_over(run):
                self._finish(key, run.run_id, _error(self._instance, run))
        self._runs |= found

    def _is_over(self, run: dg.DagsterRun) -> bool:
        """Tell whether nothing comes of a run any more; of some that failed Dagster launches another."""
        if run.status is dg.DagsterRunStatus.FAILURE and self._instance.run_retries_enabled and not self._ends:
            return run.tags.get(WILL_RETRY) == "false"  # noted a moment after the failure
        return run.status in ENDED

    def _look_at_processes(self) -> None:
        if time.monotonic() > self._looked + LOOK_SECONDS:
            # that of a cluster is restarted where it ends, and is waited for
            self._looked, self._lives = time.monotonic(), self._in_cluster or daemon_lives(self._instance)
            fail_dead_runs(self._instance)  # they would hold their places in the queue
            fail_orphaned_runs(self._instance)

    def _finish(self, key: str, run_id: str, error: str | None) -> None:
        self._ended[key] = Ended(run_id=run_id, error=error)
        self._open.remove(key)

    def _waiting(self) -> list[str]:
        """List the partitions that nobody executes yet, or again."""
        statuses = self._not_executed() | ENDED
        return [key for key in self._open if key not in self._runs or self._runs[key].status in statuses]

    def _not_executed(self) -> set[dg.DagsterRunStatus]:
        # a run may be about to start for long on a busy machine, but not where the daemon is gone; in a cluster it is a Job
        return WAITING if self._lives else WAITING | {dg.DagsterRunStatus.STARTING}

    def _withdraw_unless_it_moves(self, waiting: list[str]) -> None:
        queued = [key for key in waiting if key in self._runs and self._runs[key].status is dg.DagsterRunStatus.QUEUED]
        if queued == waiting and (ahead := self._ahead(waiting)):
            self._moved = time.monotonic()
            which = f"{len(waiting)} of {len(self._request.keys)} builds wait" if len(self._request.keys) > 1 else "waits"
            self._shown.say(f"{which} in the queue behind {ahead} run{'s' if ahead > 1 else ''}")
        patience = CLUSTER_SECONDS if self._in_cluster else ANSWER_SECONDS
        if not self._lives or time.monotonic() > self._moved + patience:
            why = f"started nothing for {patience} seconds" if self._lives else "has ended"
            then = "nothing more is built" if self._in_cluster else "building in this process"
            click.echo(f"mimic: the daemon {why}; {then}", err=True)
            self._withdraw(waiting)
            for key, run in [(key, self._runs[key]) for key in waiting if key in self._runs]:
                if run.status in ENDED:
                    self._finish(key, run.run_id, _error(self._instance, run))
                elif run.status not in WAITING:
                    _kill(self._instance, run)
            self._open = [key for key in self._open if key not in waiting]

    def _ahead(self, waiting: Collection[str]) -> int:
        """Count the runs that the first that waits comes after; 0 where none is in progress, so that it could start."""
        progressing = self._instance.get_runs_count(dg.RunsFilter(statuses=IN_PROGRESS))
        queue = self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), ascending=True)
        mine = {self._runs[key].run_id for key in waiting}
        first = next((place for place, run in enumerate(queue) if run.run_id in mine), 0)
        return progressing and progressing + first

    def _withdraw(self, keys: Collection[str]) -> None:
        self._request = self._request.without(keys, time.time())
        store_request(self._artefacts, self._request)
        self._cancel(keys)

    def _cancel(self, keys: Collection[str]) -> None:
        for run in [self._runs[key] for key in keys if key in self._runs]:
            # a run of a cluster that is about to start is a Job already, which its launcher deletes
            if run.status in CANCELABLE or (self._in_cluster and run.status is dg.DagsterRunStatus.STARTING):
                with suppress(dg.DagsterError):  # the process that would end it is gone
                    note_withdrawn(self._instance, run.run_id)
                    self._instance.run_coordinator.cancel_run(run.run_id)


def _kill(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """End a run whatever it does."""
    for worker in living_workers(instance, run.run_id):
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    note_withdrawn(instance, run.run_id)
    instance.report_run_canceled(run)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _error(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return None
    if run.status is dg.DagsterRunStatus.CANCELED:
        return "its run was canceled, in Dagster's UI or by another command"
    return failure(instance, run.run_id)
