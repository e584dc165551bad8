"""Attempts: the runs that build partitions, or failed to, as the planner takes them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from mimic_assets.jobs import BUILDS
from mimic_assets.live import UNFINISHED, VERSION, WANTED, WITHDRAWN
from mimic_assets.reasons import Ending, Endings
from mimic_assets.run_tags import PARTITION
from mimic_core.world import STAGES, Attempt, Node, State

FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
WAITING = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
KEYS_AT_ONCE = 500  # in one query
RUNS_AT_ONCE = 10  # of one partition, among which there is one that builds it in practice
MOST_READ = 200  # runs of which one plan reads the events, each in some milliseconds
MOST_TRIES = 3  # of a version by runs of which none failed by an error of its own
ENDINGS = Endings()
NEVER = datetime.min.replace(tzinfo=UTC)


def in_flight(instance: dg.DagsterInstance, apart_from: str | None = None) -> dict[Node, Attempt]:
    """Return the oldest unfinished run of each partition that has one.

    Args:
        apart_from: id of a run that does not count.
    """
    found = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):  # the newest first
        state = State.QUEUED if run.status in WAITING else State.RUNNING
        for node in nodes_of(run) if run.run_id != apart_from else ():
            found[node] = Attempt(run_id=run.run_id, state=state, version=made_by(run))
    return found


def failed(instance: dg.DagsterInstance, wanted: Mapping[Node, str]) -> dict[Node, Attempt]:
    """Return the failed runs after which the same version was not built.

    A version failed when a step of its run failed by an error of its own, or a person canceled the run. Where a run was
    interrupted or withdrawn, its process died, somebody else published first, or it found another version than the one that
    was wanted, that may end well the next time: only MOST_TRIES of these make a failure.

    Args:
        wanted: partition -> the version that it should have.
    """
    ended: dict[Node, list[dg.RunRecord]] = defaultdict(list)  # the newest first
    for record in _records(instance, sorted({node.key for node in wanted}), FAILED):
        run = record.dagster_run
        for node in nodes_of(run):
            if wanted.get(node) and wanted[node] in (run.tags.get(WANTED), run.tags.get(VERSION)):
                ended[node].append(record)
    built = _last_built(instance, [records[-1] for records in ended.values()])
    runs = {
        node: [record.dagster_run for record in ended[node] if record.create_timestamp > built.get(node, NEVER)]
        for node in sorted(ended)  # of too many the same ones are read each time
    }
    endings = _endings(instance, [run for of_node in runs.values() for run in of_node[:MOST_TRIES]])
    found = {node: _failed(of_node, wanted[node], endings) for node, of_node in runs.items()}
    return {node: attempt for node, attempt in found.items() if attempt}


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


def made_by(run: dg.DagsterRun) -> str:
    """Return the version that a run makes; the one that it was asked for until it found what there is; empty if not told."""
    return run.tags.get(VERSION) or run.tags.get(WANTED, "")


def newest_builds(instance: dg.DagsterInstance, node: Node, most: int) -> list[dg.DagsterRun]:
    """Return the newest runs that built a partition, the newest first."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={PARTITION: node.key})
    runs = instance.get_runs(wanted, limit=most * len(STAGES))  # partitions of other assets may have the same key
    return [run for run in runs if node in nodes_of(run)][:most]


def _last_built(instance: dg.DagsterInstance, since: Sequence[dg.RunRecord]) -> dict[Node, datetime]:
    """Return when the newest run began that built a partition, of those that began after some runs."""
    found: dict[Node, datetime] = {}
    if since:
        first = min(record.create_timestamp for record in since)
        keys = sorted({record.dagster_run.tags[PARTITION] for record in since})
        for record in _records(instance, keys, [dg.DagsterRunStatus.SUCCESS], first):
            for node in nodes_of(record.dagster_run):
                found.setdefault(node, record.create_timestamp)  # the newest come first
    return found


def _endings(instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun]) -> dict[str, Ending]:
    canceled = dg.DagsterRunStatus.CANCELED
    return ENDINGS.of(instance, [run.run_id for run in runs if run.status is not canceled], MOST_READ)


def _failed(runs: Sequence[dg.DagsterRun], version: str, endings: Mapping[str, Ending]) -> Attempt | None:
    """Return which of the runs that were to make a version, the newest first, made it fail, if any did."""
    for number, run in enumerate(runs[:MOST_TRIES], start=1):
        canceled = run.status is dg.DagsterRunStatus.CANCELED
        by_person = canceled and run.tags.get(WITHDRAWN) != run.run_id
        unread = Ending(own=not canceled, reason="withdrawn" if canceled else "")
        ending = endings.get(run.run_id, unread)
        attempt = Attempt(run_id=run.run_id, state=State.FAILED, version=version)
        if by_person:
            return replace(attempt, canceled=True)
        if ending.own and made_by(run) == version:
            return replace(attempt, reason=ending.reason)
        if number == MOST_TRIES:
            return replace(attempt, reason=f"{ending.reason}; so did the {MOST_TRIES - 1} runs before it")
    return None


def _records(
    instance: dg.DagsterInstance,
    keys: Sequence[str],
    statuses: list[dg.DagsterRunStatus],
    since: datetime | None = None,
) -> Iterator[dg.RunRecord]:
    """Stream the runs of some partition keys, the newest first."""
    for first in range(0, len(keys), KEYS_AT_ONCE):
        tags = {PARTITION: list(keys[first : first + KEYS_AT_ONCE])}
        yield from instance.get_run_records(dg.RunsFilter(statuses=statuses, tags=tags, created_after=since))
