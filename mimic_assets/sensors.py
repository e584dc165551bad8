"""Sensors: what starts runs by itself. Here: the builds that a registration form asked for."""

from collections.abc import Iterator

import dagster as dg

from mimic_assets.jobs import BY_ASSET, REGISTRATION
from mimic_assets.partitions import BY_ASSET as PARTITIONS


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=REGISTRATION,
    request_jobs=list(BY_ASSET.values()),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Starts a run for every partition of a registration whose form says `build: true`.",
)
def build_registered(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request one run for each registered partition."""
    asset, keys = _asked(context.instance, context.dagster_run.run_id)
    known = context.instance.get_dynamic_partitions(str(PARTITIONS[asset].name))  # one may have been removed meanwhile
    keys = [key for key in keys if key in known]
    if not keys:
        yield dg.SkipReason("this registration asks for no build")
    for key in keys:
        run_key = f"{context.dagster_run.run_id}:{key}"
        yield dg.RunRequest(run_key=run_key, job_name=BY_ASSET[asset].name, partition_key=key)


def _asked(instance: dg.DagsterInstance, run_id: str) -> tuple[str, list[str]]:
    """Read from a registration's output which partitions of which asset to build."""
    (record,) = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT).records
    event = record.event_log_entry.get_dagster_event()
    said = {name: value.value for name, value in event.step_output_data.metadata.items()}
    partitions = said["partitions"] if said["build"] else []
    return str(said["asset"]), [str(key) for key in partitions]  # type: ignore[union-attr]
