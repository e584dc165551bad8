"""Execute partitions as Dagster runs in this process, follow them, and say what came of each."""

import uuid
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import dagster as dg

from mimic_assets.cli.following import Follower
from mimic_assets.cli.interruptions import interruptible, terminable
from mimic_assets.cli.progress import Report
from mimic_assets.dead_runs import process_tags
from mimic_assets.jobs import BUILDS
from mimic_assets.live import LAUNCH, build_tags
from mimic_assets.reasons import failure, interrupted
from mimic_core.run_names import name_run
from mimic_core.specs import PartitionSpec, RunSpec


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one partition: the object that `--json` prints."""

    asset: str
    key: str
    status: str
    dagster_run_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    location: str | None = None
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    coefficients: list[dict[str, Any]] = field(default_factory=list)
    not_identified: list[str] = field(default_factory=list)
    separated: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def name_model(spec: PartitionSpec) -> str | None:
    """Name the model of a run with its seed, which tells it from others better than its id; None for other partitions."""
    if not isinstance(spec, RunSpec):
        return None
    return name_run(spec) + (f", seed {spec.model.seed}" if not spec.model.linear else "")


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
