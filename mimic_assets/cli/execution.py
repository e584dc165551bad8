"""Execute partitions as Dagster runs in this process, follow them, and say what came of each."""

import socket
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
import psutil

from mimic_assets.cli.following import Follower
from mimic_assets.cli.interruptions import interruptible, terminable
from mimic_assets.cli.progress import Report
from mimic_assets.jobs import BUILDS
from mimic_assets.live import ENDED, LAUNCH, build_tags
from mimic_assets.reasons import failure, interrupted
from mimic_core.specs import PartitionSpec

HOST, PID, STARTED = "mimic/host", "mimic/pid", "mimic/process-started"
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
    tags = build_tags(spec.asset, spec.key) | {LAUNCH: uuid.uuid4().hex} | _process_tags()
    job = dg.build_reconstructable_job("mimic_assets.cli.execution", "resolved_job", (spec.asset,))
    follower = Follower(instance, tags[LAUNCH], report)
    with terminable(), interruptible(lambda: follower.blocked), follower.following():
        result = dg.execute_job(
            job,
            instance=instance,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    if result.success:
        return result.run_id, None
    instance.event_log_storage.free_concurrency_slots_for_run(result.run_id)
    if follower.blocked or any(map(interrupted, result.all_events)):
        raise KeyboardInterrupt
    return result.run_id, failure(instance, result.run_id)


def resolved_job(asset: str) -> dg.JobDefinition:
    """Return the job of an asset with its code; Dagster reconstructs it by this function's name."""
    from mimic_assets.definitions import defs

    return defs().resolve_job_def(BUILDS[asset].name)


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose command-line process on this machine is gone, and free their slots; returns their ids."""
    records = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={HOST: socket.gethostname()}))
    # a run that Dagster executes again may carry the tags of its parent
    dead = [run for run in records if run.parent_run_id is None and not _alive(run.tags)]
    for run in dead:
        instance.report_run_failed(run, f"process {run.tags[PID]} ended without finishing this run")
    free_slots_of_ended_runs(instance)
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
        told = {} if HOST in run.tags else _processes(instance, run.run_id)
        if told and not living_workers(instance, run.run_id):
            instance.report_run_failed(run, f"process {max(told)} ended without finishing this run")
            dead.append(run.run_id)
    free_slots_of_ended_runs(instance)
    return dead


def free_slots_of_ended_runs(instance: dg.DagsterInstance) -> None:
    """Free the slots of pools that runs hold or wait for which have ended or are deleted.

    A run whose process is killed keeps them, and the next one would wait for ever.
    """
    holders = instance.event_log_storage.get_concurrency_run_ids()
    if not holders:
        return
    unfinished = {run.run_id for run in instance.get_runs(dg.RunsFilter(run_ids=list(holders))) if run.status not in ENDED}
    for run_id in holders - unfinished:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def living_workers(instance: dg.DagsterInstance, run_id: str) -> list[psutil.Process]:
    """Return the processes of this machine that a run told of and that live."""
    found: list[psutil.Process] = []
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return found
    for pid, told in _processes(instance, run_id).items():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            # a later process may have got the number
            if process.create_time() < told + 1 and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _processes(instance: dg.DagsterInstance, run_id: str) -> dict[int, float]:
    """Read from a run's events in which processes it was executed, and when it told so."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    told = {}
    for entry in (record.event_log_entry for record in records):
        pid = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if pid is not None:
            told[int(str(pid.value))] = entry.timestamp
    return told


def _process_tags() -> dict[str, str]:
    process = psutil.Process()
    return {HOST: socket.gethostname(), PID: str(process.pid), STARTED: str(process.create_time())}


def _alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[PID]))
        return abs(process.create_time() - float(tags[STARTED])) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
