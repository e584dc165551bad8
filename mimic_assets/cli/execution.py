"""Execute partitions as Dagster runs in this process, follow them, and say how each ended."""

import uuid
from functools import cache

import dagster as dg

from mimic_assets.cli.following import Follower
from mimic_assets.cli.interruptions import interruptible, terminable
from mimic_assets.cli.progress import Report
from mimic_assets.dead_runs import process_tags
from mimic_assets.jobs import BUILDS
from mimic_assets.live import build_tags
from mimic_assets.reasons import failure, interrupted
from mimic_assets.run_tags import LAUNCH
from mimic_core.specs import PartitionSpec


def execute(instance: dg.DagsterInstance, spec: PartitionSpec, report: Report) -> tuple[str, str | None]:
    """Build one partition in this process.

    Args:
        report: called with every event of the run, from a thread of its own.

    Returns:
        The Dagster run id, and what went wrong (None when nothing did).

    Raises:
        KeyboardInterrupt: the run was ended by Ctrl-C or SIGTERM; it is recorded as failed.
    """
    tags = build_tags(spec.asset, spec.key) | {LAUNCH: uuid.uuid4().hex} | process_tags()
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


@cache
def resolved_job(asset: str) -> dg.JobDefinition:
    """Return the job of an asset with its code; Dagster reconstructs it by this function's name, four times in a run."""
    from mimic_assets.definitions import defs

    return defs().resolve_job_def(BUILDS[asset].name)
