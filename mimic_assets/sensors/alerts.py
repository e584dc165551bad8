"""The sensor that tells people of failed runs, through the sink of this environment."""

from datetime import UTC, datetime

import dagster as dg

from mimic_assets.attempts import asset_of
from mimic_assets.jobs import ANSWERS
from mimic_assets.reasons import failure, interrupted
from mimic_assets.run_tags import LAUNCH, PARTITION, WILL_RETRY
from resources.sinks import Alert, AlertSink


@dg.run_failure_sensor(
    monitor_all_code_locations=True,  # a run of a command line belongs to none
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Sends an alert for every run that fails; cancelled ones, those that Ctrl-C ended, and those that Dagster "
    "launches anew are none.",
)
def alert_on_failure(context: dg.RunFailureSensorContext, alerts: AlertSink) -> None:
    """Send one alert of a failed run; Dagster calls this once for each, and goes on with the others if it fails."""
    run = context.dagster_run
    if run.tags.get(WILL_RETRY) == "true":
        context.log.info(f"run {run.run_id} is launched anew by Dagster: no alert")
        return
    unmissed = run.job_name == ANSWERS  # the next one says what it did not
    if (LAUNCH in run.tags or unmissed) and any(map(interrupted, context.get_step_failure_events())):
        context.log.info(f"run {run.run_id} was interrupted: no alert")
        return
    alerts.send(alert(context.instance, run), context.log)


def alert(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Alert:
    """Describe a failed run."""
    record = instance.get_run_record_by_id(run.run_id)
    ended = record.end_time if record else None
    return Alert(
        job=run.job_name,
        asset=_asset(run),
        partition=run.tags.get(PARTITION),
        dagster_run_id=run.run_id,
        error=failure(instance, run.run_id),
        failed_at=(datetime.fromtimestamp(ended, UTC) if ended else datetime.now(UTC)).isoformat(timespec="seconds"),
    )


def _asset(run: dg.DagsterRun) -> str | None:
    """Name the asset that a run builds, whether one of our jobs or the UI's own builds it."""
    selected = sorted(asset.to_user_string() for asset in run.asset_selection or ())
    return ", ".join(selected) or asset_of(run.job_name) or None
