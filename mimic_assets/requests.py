"""Requests: the builds that commands ask a daemon for, and what is to be done about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dagster as dg

from mimic_assets.posted import CANCELS
from mimic_assets.run_tags import LAUNCH, PARTITION
from mimic_core.world import Attempt, Node, State
from resources.requests import BuildRequest

SENSOR = "build_requested"
EXPIRES = 600  # seconds; a command that lives takes an unanswered request back within a minute
# a run between these states would stay in CANCELING: it is not in the queue yet, or tells of no process to end
CANCELABLE = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED}
AWAITS = 60  # seconds in which a command waits for an answer; one that was killed does not for longer
AWAITED = "a command asked for it, and waits for its run"
LATE = 60  # seconds in which a run may still appear that a tick before the withdrawal asked for


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a tick does about one request.

    Attributes:
        missing: partitions that have no run yet.
        unwanted: ids of runs to cancel.
        done: nothing will be left to do, so the request can be removed.
    """

    missing: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    done: bool = False


def answer(request: BuildRequest, runs: Sequence[dg.DagsterRun], now: float) -> Answer:
    """Decide what to do about a request, given the runs that belong to it.

    A request is answered again until its runs exist; that makes no second one, since no run key is taken twice.
    """
    by_key = {run.tags[PARTITION]: run for run in runs}
    missing = tuple(key for key in request.keys if key not in by_key)
    withdrawn = [by_key[key] for key in request.withdrawn if key in by_key]
    unwanted = tuple(run.run_id for run in withdrawn if run.status in CANCELABLE)
    age = now - request.time
    return Answer(
        missing=missing if age < EXPIRES else (),
        unwanted=unwanted[:CANCELS],
        done=age >= EXPIRES or (not missing and (not request.withdrawn or (age >= LATE and len(unwanted) <= CANCELS))),
    )


def awaited(instance: dg.DagsterInstance, requests: Iterable[BuildRequest], now: float) -> dict[Node, Attempt]:
    """Return the partitions that commands have just asked for and that have no run yet.

    Args:
        requests: those that were open before the unfinished runs were read, so that none falls between the two.
    """
    found = {}
    for request in requests:
        if now - request.time < AWAITS:
            begun = {run.tags[PARTITION] for run in runs_of_launch(instance, request.launch)}
            for key in request.keys:
                if key not in begun:
                    found[Node(request.asset, key)] = Attempt(run_id="", state=State.QUEUED, reason=AWAITED)
    return found


def runs_of_launch(instance: dg.DagsterInstance, launch: str) -> list[dg.DagsterRun]:
    """Return the runs that belong to a command."""
    return list(instance.get_runs(dg.RunsFilter(tags={LAUNCH: launch})))
