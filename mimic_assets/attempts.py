"""Attempts: the runs that build partitions, or failed to, as the planner takes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from mimic_assets.jobs import BUILDS
from mimic_assets.live import UNFINISHED, VERSION
from mimic_assets.reasons import failure
from mimic_core.world import STAGES, Attempt, Node, State

PARTITION = "dagster/partition"
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
WAITING = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
KEYS_AT_ONCE = 500  # in one query
RUNS_AT_ONCE = 10  # of one partition, among which there is one that builds it in practice
MOST_REASONS = 100  # that are read, each from the events of a run


def in_flight(instance: dg.DagsterInstance, apart_from: str | None = None) -> dict[Node, Attempt]:
    """Return the oldest unfinished run of each partition that has one.

    Args:
        apart_from: id of a run that does not count.
    """
    found = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):  # the newest first
        state = State.QUEUED if run.status in WAITING else State.RUNNING
        for node in nodes_of(run) if run.run_id != apart_from else ():
            found[node] = Attempt(run_id=run.run_id, state=state, version=run.tags.get(VERSION, ""))
    return found


def failed(instance: dg.DagsterInstance, wanted: Mapping[Node, str]) -> dict[Node, Attempt]:
    """Return the failed runs after which the same version was not built.

    Args:
        wanted: partition -> the version that it should have.
    """
    found: dict[Node, Attempt] = {}
    for record in _records(instance, sorted({node.key for node in wanted}), FAILED):
        run = record.dagster_run
        for node in nodes_of(run):
            if node in wanted and node not in found and run.tags.get(VERSION) == wanted[node]:
                newer = dg.RunsFilter(
                    statuses=[dg.DagsterRunStatus.SUCCESS],
                    tags={PARTITION: node.key},
                    created_after=record.create_timestamp,
                )
                if not any(node in nodes_of(later) for later in instance.get_runs(newer)):
                    found[node] = Attempt(run_id=run.run_id, state=State.FAILED, version=wanted[node])
    shown = list(found.items())[:MOST_REASONS]
    return found | {node: replace(attempt, reason=failure(instance, attempt.run_id)) for node, attempt in shown}


def newest_of(instance: dg.DagsterInstance, node: Node) -> str:
    """Return the id of the newest run that built a partition, or was to; empty where there was none."""
    wanted, cursor = dg.RunsFilter(tags={PARTITION: node.key}), None
    while runs := instance.get_runs(wanted, cursor=cursor, limit=RUNS_AT_ONCE):  # the newest first
        if found := next((run.run_id for run in runs if node in nodes_of(run)), ""):
            return found
        cursor = runs[-1].run_id  # a check that a person executes has the partition too
    return ""


def succeeded_since(instance: dg.DagsterInstance, node: Node, moment: float) -> bool:
    """Tell whether a run that began after a moment, in seconds since 1970, built a partition."""
    wanted = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS],
        tags={PARTITION: node.key},
        created_after=datetime.fromtimestamp(moment, UTC),
    )
    return any(node in nodes_of(run) for run in instance.get_runs(wanted))


def nodes_of(run: dg.DagsterRun) -> list[Node]:
    """Return the partitions that a run builds."""
    key = run.tags.get(PARTITION)
    if key is None:
        return []
    assets = {asset.to_user_string() for asset in run.asset_selection or ()} or {asset_of(run.job_name)}
    return [Node(asset, key) for asset in STAGES if asset in assets]


def asset_of(job: str) -> str:
    """Return the asset that a job builds; empty for any other job."""
    return next((asset for asset, build in BUILDS.items() if build.name == job), "")


def _records(
    instance: dg.DagsterInstance, keys: Sequence[str], statuses: list[dg.DagsterRunStatus]
) -> Iterator[dg.RunRecord]:
    """Stream the runs of some partition keys, the newest first."""
    for first in range(0, len(keys), KEYS_AT_ONCE):
        tags = {PARTITION: list(keys[first : first + KEYS_AT_ONCE])}
        yield from instance.get_run_records(dg.RunsFilter(statuses=statuses, tags=tags))
