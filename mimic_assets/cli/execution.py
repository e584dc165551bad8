"""Execute partitions as Dagster runs in this process, follow them, and say what came of each."""

import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
import psutil

from mimic_assets.jobs import BUILDS, LAUNCH
from mimic_assets.reasons import failure, interrupted
from mimic_core.specs import PartitionSpec

HOST, PID, STARTED = "mimic/host", "mimic/pid", "mimic/process-started"
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
POLL_SECONDS = 0.2

Report = Callable[[dg.DagsterEvent], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one partition: the object that `--json` prints."""

    asset: str
    key: str
    status: str
    dagster_run_id: str | None = None
    run_id: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    location: str | None = None
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def execute(instance: dg.DagsterInstance, spec: PartitionSpec, report: Report) -> tuple[str, str | None]:
    """Build one partition in this process.

    Args:
        report: called with every event of the run, from a thread of its own.

    Returns:
        The Dagster run id, and what went wrong (None when nothing did).

    Raises:
        KeyboardInterrupt: the run was ended by Ctrl-C or SIGTERM; it is recorded as failed.
    """
    tags = {"dagster/partition": spec.key, LAUNCH: uuid.uuid4().hex} | _process_tags()
    job = dg.build_reconstructable_job("mimic_assets.cli.execution", "resolved_job", (spec.asset,))
    with _following(instance, tags[LAUNCH], report), _terminable():
        result = dg.execute_job(
            job,
            instance=instance,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    if result.success:
        return result.run_id, None
    if any(interrupted(event) for event in result.all_events):
        raise KeyboardInterrupt
    return result.run_id, failure(instance, result.run_id)


def resolved_job(asset: str) -> dg.JobDefinition:
    """Return the job of an asset with its code; Dagster reconstructs it by this function's name."""
    from mimic_assets.definitions import defs

    return defs().resolve_job_def(BUILDS[asset].name)


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose command-line process on this machine is gone; returns their ids."""
    records = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={HOST: socket.gethostname()}))
    # a run that Dagster executes again may carry the tags of its parent
    dead = [run for run in records if run.parent_run_id is None and not _alive(run.tags)]
    for run in dead:
        instance.report_run_failed(run, f"process {run.tags[PID]} ended without finishing this run")
    return [run.run_id for run in dead]


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs that a UI or daemon started as failed where all processes that they tell of are gone; returns their ids.

    While its code server lives Dagster does this itself; runs that died together with it would stay in progress for
    good, and hold their places in the queue.
    """
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return []
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])):
        told = set() if HOST in run.tags else _processes(instance, run.run_id)
        if told and not any(map(psutil.pid_exists, told)):
            instance.report_run_failed(run, f"process {max(told)} ended without finishing this run")
            dead.append(run.run_id)
    return dead


def _processes(instance: dg.DagsterInstance, run_id: str) -> set[int]:
    """Read from a run's events in which processes it was executed."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    events = [entry.dagster_event for entry in (record.event_log_entry for record in records) if entry.dagster_event]
    told = (event.engine_event_data.metadata.get("pid") for event in events)
    return {int(str(pid.value)) for pid in told if pid is not None}


def _process_tags() -> dict[str, str]:
    process = psutil.Process()
    return {HOST: socket.gethostname(), PID: str(process.pid), STARTED: str(process.create_time())}


def _alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[PID]))
        return abs(process.create_time() - float(tags[STARTED])) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _terminable() -> Iterator[None]:
    """End a run on SIGTERM as on Ctrl-C: it is recorded as ended and publishes nothing."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _following(instance: dg.DagsterInstance, launch: str, report: Report) -> Iterator[None]:
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(instance, launch, report, ended), daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _follow(instance: dg.DagsterInstance, launch: str, report: Report, ended: threading.Event) -> None:
    run_id, cursor, last = None, None, False
    while not last:
        last = ended.wait(POLL_SECONDS)  # one more look after the end
        if run_id is None:
            runs = instance.get_runs(dg.RunsFilter(tags={LAUNCH: launch}), limit=1)
            run_id = runs[0].run_id if runs else None
        if run_id is not None:
            connection = instance.get_records_for_run(run_id, cursor=cursor)
            cursor = connection.cursor
            for record in connection.records:
                if record.event_log_entry.dagster_event:
                    report(record.event_log_entry.dagster_event)
