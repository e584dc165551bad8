"""The sensor that ends the runs whose process is gone."""

import dagster as dg

from mimic_assets.dead_runs import fail_dead_runs, fail_orphaned_runs


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Marks runs as failed whose process on this machine is gone, such as that of a `mimic` command that was "
    "killed, and frees what they held of pools; else they would count as in progress for good.",
)
def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Mark dead runs as failed; where nothing is unfinished that takes three queries."""
    origin = context.code_location_origin
    dead = [
        *fail_dead_runs(context.instance),
        *fail_orphaned_runs(context.instance, origin.location_name if origin else None),
    ]
    for run_id in dead:
        context.log.warning(f"run {run_id} is marked as failed: its process is gone")
    return dg.SkipReason(f"{len(dead)} runs are marked as failed" if dead else "no run is dead")
