"""Reasons: why a run failed, in the words of its failed steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from mimic_core.errors import ConflictError

MOST_KNOWN = 10_000  # endings of runs that are kept; each is some hundred bytes


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run failed.

    Attributes:
        own: whether one of its steps failed by an error of its own, which it would do again. Otherwise it was interrupted,
            its process died, or somebody else published first.
        reason: the messages of its failed steps.
    """

    own: bool
    reason: str


class Endings:
    """How failed runs ended, read once for each; a run that ended stays as it is."""

    def __init__(self) -> None:
        self._known: dict[str, Ending] = {}

    def of(self, instance: dg.DagsterInstance, run_ids: Sequence[str], most: int) -> dict[str, Ending]:
        """Return the endings of some runs; not of all where more than `most` would have to be read now."""
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        for run_id in [run_id for run_id in run_ids if run_id not in self._known][:most]:
            self._known[run_id] = ending(instance, run_id)
        return {run_id: self._known[run_id] for run_id in run_ids if run_id in self._known}


def ending(instance: dg.DagsterInstance, run_id: str) -> Ending:
    """Say how a run failed."""
    events = _failures(instance, run_id)
    own = any(event.is_step_failure and not interrupted(event) and not _lost(event) for event in events)
    return Ending(own=own, reason=_reason(events, run_id))


def failure(instance: dg.DagsterInstance, run_id: str) -> str:
    """Say why a run failed: the messages of its failed steps."""
    return _reason(_failures(instance, run_id), run_id)


def _failures(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id, of_type=kinds).records]
    return [entry.dagster_event for entry in entries if entry.dagster_event]


def _reason(events: Sequence[dg.DagsterEvent], run_id: str) -> str:
    return (
        "\n".join(dict.fromkeys(_messages(events)))
        or "\n".join(event.message or "" for event in events)
        or f"run {run_id} failed"
    )


def interrupted(event: dg.DagsterEvent) -> bool:
    """Tell whether a step failed because its process was told to end."""
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name == "DagsterExecutionInterruptedError"


def _lost(event: dg.DagsterEvent) -> bool:
    """Tell whether a step failed because somebody else published first."""
    data = event.step_failure_data.user_failure_data
    said = data.metadata.get("error") if data else None
    return said is not None and said.value == ConflictError.__name__


def _messages(events: Sequence[dg.DagsterEvent]) -> Iterator[str]:
    for event in events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if interrupted(event):
            yield "interrupted"
            continue
        if data.user_failure_data and data.user_failure_data.description:
            yield data.user_failure_data.description
        elif data.error:
            cause = data.error.cause or data.error
            last = cause.message.strip()
            yield f"step {event.step_key} failed: {last}; the run's page in `mimic dev` has the whole trace"
