"""The sensor that starts the builds that a registration form asked for."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from mimic_assets.jobs import PLANNED, REGISTERS, build_request
from mimic_assets.partitions import BY_ASSET

# a run may be stored a little later than its own time says
OVERLAP = timedelta(minutes=1)


@dg.sensor(
    jobs=PLANNED,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Starts a run for every partition of a registration whose form says `build: true`.",
)
def build_registered(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request one run for each partition that was registered to be built since the last tick, or ever before the first."""
    last = json.loads(context.cursor or '{"time": 0, "answered": []}')
    since = datetime.fromtimestamp(last["time"], UTC) - OVERLAP if last["time"] else None
    succeeded = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], tags={REGISTERS: "true"}, updated_after=since)
    records = context.instance.get_run_records(succeeded, order_by="update_timestamp", ascending=True)
    runs = [record.dagster_run.run_id for record in records]
    new = [run for run in runs if run not in last["answered"]]
    requests = [request for run in new for request in _requests(context.instance, run)]
    time = max((record.update_timestamp.timestamp() for record in records), default=last["time"])
    return dg.SensorResult(run_requests=requests, cursor=json.dumps({"time": time, "answered": runs}))


def _requests(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.RunRequest]:
    """Read from a registration's output which partitions of which asset to build; one may have been removed since."""
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT).records:
        event = record.event_log_entry.get_dagster_event()
        said = {name: value.value for name, value in event.step_output_data.metadata.items()}
        if not said["build"]:
            continue
        asset = str(said["asset"])
        known = set(instance.get_dynamic_partitions(str(BY_ASSET[asset].name)))
        for key in map(str, said["partitions"]):  # type: ignore[arg-type]
            if key in known:
                yield build_request(f"{run_id}:{key}", asset, key)
