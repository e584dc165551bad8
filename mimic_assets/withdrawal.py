"""Withdrawal: runs that a command does not want any more are canceled or ended, and how a run ended is said."""

from collections.abc import Iterable
from contextlib import suppress

import dagster as dg
import psutil

from mimic_assets.dead_runs import living_workers
from mimic_assets.live import note_withdrawn
from mimic_assets.reasons import failure
from mimic_assets.requests import CANCELABLE
from resources.environments import in_cluster

CANCELED = "its run was canceled, in Dagster's UI or by another command"


def cancel(instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun]) -> None:
    """Cancel the runs that wait, and ask those to end that are executed."""
    for run in runs:
        # a run of a cluster that is about to start is a Job already, which its launcher deletes
        if run.status in CANCELABLE or (in_cluster() and run.status is dg.DagsterRunStatus.STARTING):
            with suppress(dg.DagsterError):  # the process that would end it is gone
                note_withdrawn(instance, run.run_id)
                instance.run_coordinator.cancel_run(run.run_id)


def kill(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """End a run whatever it does."""
    for worker in living_workers(instance, run.run_id):
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    note_withdrawn(instance, run.run_id)
    instance.report_run_canceled(run)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def error_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Say what went wrong with a run that ended; None when nothing did."""
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return None
    return CANCELED if run.status is dg.DagsterRunStatus.CANCELED else failure(instance, run.run_id)
