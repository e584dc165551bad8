"""Dead runs: runs of this machine whose process is gone; they are marked as failed, and their slots of pools are freed.

Until then they would count as in progress, and hold their places in the queue.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import dagster as dg
import psutil

from mimic_assets.live import ENDED
from mimic_assets.run_tags import HIDDEN

# tags of a run that a command executes: where, and in which process
HOST, PID, STARTED = (f"{HIDDEN}{name}" for name in ("host", "pid", "process-started"))
# on Linux also: installation, boot and PID namespace, for many machines may have one name; and when the process began, in
# ticks since the boot, for psutil counts from the wall clock, which is put right now and then
MACHINE, BOOT, NAMESPACE, TICKS = (f"{HIDDEN}{name}" for name in ("machine", "boot", "pid-namespace", "process-ticks"))
MACHINE_ID = "/etc/machine-id"
IN_PROCESSES = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
BY_COMMANDS = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, *IN_PROCESSES]


def process_tags() -> dict[str, str]:
    """Make the tags that say in which process a run is executed: this one."""
    process = psutil.Process()
    started = {PID: str(process.pid), STARTED: str(process.create_time())}
    ticks = _ticks(process.pid)
    return {HOST: socket.gethostname(), **_place(), **started} | ({TICKS: ticks} if ticks else {})


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose command-line process on this machine is gone, and free their slots; returns their ids."""
    records = instance.get_runs(dg.RunsFilter(statuses=BY_COMMANDS, tags={HOST: socket.gethostname()}))
    # a run that Dagster executes again may carry the tags of its parent
    dead = [run for run in records if run.parent_run_id is None and _is_dead(run.tags)]
    failed = [run.run_id for run in dead if _fail(instance, run.run_id, run.tags[PID])]
    free_slots_of_ended_runs(instance)
    return failed


def fail_orphaned_runs(instance: dg.DagsterInstance, location: str | None = None) -> list[str]:
    """Mark runs that a UI or daemon started as failed where all processes that they tell of are gone; returns their ids.

    While its code server lives Dagster does this itself; runs that died together with it would stay in progress for
    good.

    Args:
        location: name of the code location whose runs are looked at, since another may be on another machine; all if None.
    """
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return []
    failed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROCESSES)):
        told = {} if HOST in run.tags or location not in (None, _location(run)) else _processes(instance, run.run_id)
        if told and not living_workers(instance, run.run_id) and _fail(instance, run.run_id, str(max(told))):
            failed.append(run.run_id)
    free_slots_of_ended_runs(instance)
    return failed


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


def _fail(instance: dg.DagsterInstance, run_id: str, pid: str) -> bool:
    """Mark a run as failed whose process is gone, unless that ended it after it was looked for."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status in ENDED:
        return False
    instance.report_run_failed(run, f"process {pid} ended without finishing this run")
    return True


def _location(run: dg.DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _processes(instance: dg.DagsterInstance, run_id: str) -> dict[int, float]:
    """Read from a run's events in which processes it was executed, and when it told so."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    told = {}
    for entry in (record.event_log_entry for record in records):
        pid = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if pid is not None:
            told[int(str(pid.value))] = entry.timestamp
    return told


def _is_dead(tags: Mapping[str, str]) -> bool:
    """Tell whether the process is gone that a run of this host was executed in; False where that cannot be known here."""
    here = _place()
    if tags.get(NAMESPACE, here.get(NAMESPACE)) != here.get(NAMESPACE):
        return False  # the number of its process means nothing here
    if tags.get(BOOT, here.get(BOOT)) != here.get(BOOT):
        return MACHINE in here and tags.get(MACHINE) == here[MACHINE]  # this machine was started anew since
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(int(tags[PID]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        if TICKS in tags:
            return _ticks(process.pid) != tags[TICKS]
        return abs(process.create_time() - float(tags[STARTED])) >= 1
    return True


def _place() -> dict[str, str]:
    """Say where processes of this one's numbers are, as far as this system tells."""
    found = {MACHINE: _read(MACHINE_ID), BOOT: _read("/proc/sys/kernel/random/boot_id")}
    with suppress(OSError):
        found[NAMESPACE] = str(Path("/proc/self/ns/pid").readlink())
    return {tag: value for tag, value in found.items() if value}


def _ticks(pid: int) -> str:
    """Return when a process began, in ticks since the boot; empty where that is not told, or it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before it may have spaces
    return fields[19] if len(fields) > 19 else ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return ""
