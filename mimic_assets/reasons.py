"""Reasons: why a run failed, in the words of its failed steps."""

from collections.abc import Iterator, Sequence

import dagster as dg


def failure(instance: dg.DagsterInstance, run_id: str) -> str:
    """Say why a run failed: the messages of its failed steps."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id, of_type=kinds).records]
    events = [entry.dagster_event for entry in entries if entry.dagster_event]
    return (
        "\n".join(dict.fromkeys(_messages(events)))
        or "\n".join(event.message or "" for event in events)
        or f"run {run_id} failed"
    )


def interrupted(event: dg.DagsterEvent) -> bool:
    """Tell whether a step failed because its process was told to end."""
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name == "DagsterExecutionInterruptedError"


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
