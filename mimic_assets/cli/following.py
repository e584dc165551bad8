"""Follow runs: their events as they come."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mimic_assets.cli.progress import Report, Told, told_by
from mimic_assets.requests import runs_of_launch

POLL_SECONDS = 0.2


class RunEvents:
    """The events of one run.

    Attributes:
        blocked: whether a step waits for a slot of its pool, so that no step of the run is being executed.
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id, self.blocked = instance, run_id, False
        self._cursor: str | None = None

    def new(self) -> list[Told]:
        """Return what the run told since the last call."""
        connection = self._instance.get_records_for_run(self._run_id, cursor=self._cursor)
        self._cursor = connection.cursor
        events = (record.event_log_entry.dagster_event for record in connection.records)
        return [told for told in (told_by(event) for event in events if event) if told]

    def pass_on(self, report: Report) -> None:
        """Report what the run told since the last call."""
        for told in self.new():
            if told.pool is not None:
                self.blocked = True
            elif told.begins:
                self.blocked = False
            report(told)


class Follower:
    """Reports the events of a run that this process executes, from a thread of its own."""

    def __init__(self, instance: dg.DagsterInstance, launch: str, report: Report) -> None:
        self._instance, self._launch, self._report = instance, launch, report
        self._events: RunEvents | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @property
    def blocked(self) -> bool:
        """Whether the run waits for a slot of a pool."""
        return self._events is not None and self._events.blocked

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the run that is executed within the context that this gives."""
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(POLL_SECONDS)  # one more look after the end
            if self._events is None:
                runs = runs_of_launch(self._instance, self._launch)
                self._events = RunEvents(self._instance, runs[0].run_id) if runs else None
            if self._events is not None:
                self._events.pass_on(self._report)
