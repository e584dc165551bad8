"""Submission: builds are asked for where a daemon is, their runs followed, and what it does not start taken back.

Where that is, a `Place` knows: the daemon beside this process, or a platform elsewhere. Nothing heavy is imported here.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import click

from mimic_assets.cli.interruptions import noting
from mimic_assets.cli.progress import Shown, Told
from mimic_assets.outcomes import Ended

WAITING = {"NOT_STARTED", "QUEUED"}  # statuses as Dagster names them
STARTING, QUEUED, FAILURE = "STARTING", "QUEUED", "FAILURE"
ENDED = {"SUCCESS", FAILURE, "CANCELED"}
DELETED = "its run was deleted before it had ended"
LOOK_SECONDS = 2  # between two looks at the daemon and at dead runs
ANSWER_SECONDS = 30  # without any change, on a machine that may be busy
CLUSTER_SECONDS = 300  # the same in a cluster, whose daemon stands still while it is upgraded or moved
CANCEL_SECONDS = 20  # in which a run that was asked to end does
CANCEL_CLUSTER_SECONDS = 90  # the same in a cluster, whose pods have a grace of 30


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of a submission.

    Attributes:
        key: of the partition that it builds.
        status: as Dagster names it.
        will_retry: `true` or `false` once it is noted whether Dagster launches it anew; empty before.
    """

    run_id: str
    key: str
    status: str
    will_retry: str = ""


class Place(Protocol):
    """Where builds of one asset are asked for, and their runs looked at.

    Attributes:
        asset, keys: the partitions.
        name: what takes them, in messages.
        poll_seconds: between two looks at the runs.
        patience: seconds without any change after which what waits is withdrawn.
        grace: seconds in which a run that was asked to end does.
        then: what happens to builds that are withdrawn since nobody starts them, in messages.
        launches_anew: whether Dagster may launch a run anew that failed.
        kills_blocked: whether a run that waits for a slot of a pool does not end when it is asked to.
        wait: waits, and ends by a signal; given by `submit`.
    """

    asset: str
    keys: tuple[str, ...]
    name: str
    poll_seconds: float
    patience: float
    grace: float
    then: str
    launches_anew: bool
    kills_blocked: bool
    wait: Callable[[float], None]

    def ask(self) -> None:
        """Ask for the builds."""

    def runs(self) -> list[Run]:
        """Return the runs that belong to the submission, oldest first."""

    def events(self, run_ids: Sequence[str]) -> Mapping[str, list[Told]]:
        """Return what runs told since the last call."""

    def look_after(self) -> bool:
        """Tell whether the daemon lives; runs whose process is gone are marked as failed."""

    def ahead(self, run_ids: Collection[str]) -> int:
        """Count the runs that the first of some queued ones comes after; 0 where none is in progress: it could start."""

    def withdraw(self, keys: Collection[str]) -> None:
        """Say that some partitions are not wanted any more, and cancel their runs."""

    def cancel(self, run_ids: Collection[str]) -> None:
        """Cancel runs that wait, and ask those to end that are executed."""

    def kill(self, run_ids: Collection[str]) -> None:
        """End runs whatever they do."""

    def error(self, run: Run) -> str | None:
        """Say what went wrong with a run that ended; None when nothing did."""


def submit(place: Place, shown: Shown) -> dict[str, Ended]:
    """Have a daemon build registered partitions of one asset, and follow their runs to the end.

    Returns:
        By partition key, how its run ended; a partition that the daemon did not start is withdrawn, and missing.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what waited is withdrawn, and what ran is ended.
    """
    with noting() as place.wait:
        return follow(place, shown)


def follow(place: Place, shown: Shown) -> dict[str, Ended]:
    """Do what `submit` does, where signals are noted already and end what waits by the place."""
    submission = _Submission(place, shown)
    try:
        return submission.follow()
    except KeyboardInterrupt:
        submission.end()
        raise


def complain(asset: str, key: str, error: str | None) -> None:
    """Say on standard error what went wrong with a partition, if anything did."""
    if error is not None:
        click.echo(f"mimic: {asset} {key}: {error}", err=True)


class _Submission:
    def __init__(self, place: Place, shown: Shown) -> None:
        self._place, self._shown = place, shown
        self._open = list(place.keys)
        self._runs: dict[str, Run] = {}
        self._blocked: set[str] = set()  # runs of which a step waits for a slot of its pool, so that none is executed
        self._ended: dict[str, Ended] = {}
        self._moved = self._looked = time.monotonic()
        self._lives, self._ends = True, False

    def follow(self) -> dict[str, Ended]:
        """Ask for the runs, and follow each until it ended or is withdrawn."""
        self._place.ask()
        self._shown.say(f"submitted to {self._place.name}")
        while self._open:
            self._look_at_runs()
            self._look_after()
            if waiting := self._waiting():
                self._withdraw_unless_it_moves(waiting)
            if self._open:
                self._place.wait(self._place.poll_seconds)
        return self._ended

    def end(self) -> None:
        """Withdraw what waits, end what runs, and say so; a run that does not end when it is asked to is killed."""
        self._ends = True
        self._look_at_runs()
        keys = tuple(self._open)
        self._place.withdraw(keys)
        deadline = time.monotonic() + self._place.grace
        while unfinished := [self._runs[key].run_id for key in self._open if key in self._runs]:
            late = time.monotonic() > deadline
            # Dagster does not end a run that waits for a slot of a pool, but in a cluster, where other steps go on
            blocked = self._blocked if self._place.kills_blocked else set()
            if stuck := [run_id for run_id in unfinished if late or run_id in blocked]:
                self._place.kill(stuck)
            self._place.wait(self._place.poll_seconds)
            self._look_at_runs()
            self._place.cancel([self._runs[key].run_id for key in self._open if key in self._runs])
        for key in keys:
            what = f"canceled its run {self._runs[key].run_id}" if key in self._runs else "withdrew it before it had a run"
            click.echo(f"mimic: {self._place.asset} {key}: {what}", err=True)

    def _look_at_runs(self) -> None:
        # of a partition the newest: a run whose pod was lost is launched anew, with the same tags
        found = {run.key: run for run in self._place.runs()}
        if {key: run.status for key, run in found.items()} != {key: run.status for key, run in self._runs.items()}:
            self._moved = time.monotonic()
        began = {key: found[key] for key in self._open if key in found and found[key].status not in WAITING}
        self._report(began)  # nothing happens in the queue, which may be long
        for key in [key for key in self._open if key in found or key in self._runs]:
            run = found.get(key)
            if run is None:
                self._finish(key, self._runs[key].run_id, DELETED)
            elif self._is_over(run):
                self._finish(key, run.run_id, self._place.error(run))
        self._runs |= found

    def _report(self, runs: Mapping[str, Run]) -> None:
        events = self._place.events([run.run_id for run in runs.values()]) if runs else {}
        for key, run in runs.items():
            for told in events.get(run.run_id, ()):
                if told.pool is not None:
                    self._blocked.add(run.run_id)
                elif told.begins:
                    self._blocked.discard(run.run_id)
                self._shown.reports[key](told)

    def _is_over(self, run: Run) -> bool:
        """Tell whether nothing comes of a run any more; of some that failed Dagster launches another."""
        if run.status == FAILURE and self._place.launches_anew and not self._ends:
            return run.will_retry == "false"  # noted a moment after the failure
        return run.status in ENDED

    def _look_after(self) -> None:
        if time.monotonic() > self._looked + LOOK_SECONDS:
            self._looked, self._lives = time.monotonic(), self._place.look_after()

    def _finish(self, key: str, run_id: str, error: str | None) -> None:
        self._ended[key] = Ended(run_id=run_id, error=error)
        self._open.remove(key)

    def _waiting(self) -> list[str]:
        """List the partitions that nobody executes yet, or again."""
        statuses = self._not_executed() | ENDED
        return [key for key in self._open if key not in self._runs or self._runs[key].status in statuses]

    def _not_executed(self) -> set[str]:
        # a run may be about to start for long on a busy machine, but not where the daemon is gone; in a cluster it is a Job
        return WAITING if self._lives else WAITING | {STARTING}

    def _withdraw_unless_it_moves(self, waiting: list[str]) -> None:
        queued = [key for key in waiting if key in self._runs and self._runs[key].status == QUEUED]
        if queued == waiting and (ahead := self._place.ahead([self._runs[key].run_id for key in queued])):
            self._moved = time.monotonic()
            which = f"{len(waiting)} of {len(self._place.keys)} builds wait" if len(self._place.keys) > 1 else "waits"
            self._shown.say(f"{which} in the queue behind {ahead} run{'s' if ahead > 1 else ''}")
        if not self._lives or time.monotonic() > self._moved + self._place.patience:
            why = f"started nothing for {self._place.patience:g} seconds" if self._lives else "has ended"
            click.echo(f"mimic: the daemon {why}; {self._place.then}", err=True)
            self._place.withdraw(waiting)
            for run in [self._runs[key] for key in waiting if key in self._runs]:
                if run.status in ENDED:
                    self._finish(run.key, run.run_id, self._place.error(run))
                elif run.status not in WAITING:
                    self._place.kill([run.run_id])
            self._open = [key for key in self._open if key not in waiting]
