"""The sensor that publishes what failed trainings left."""

import dagster as dg

from mimic_assets.unfinished import publish_epochs_of
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore
from resources.tables import TableStore


@dg.run_failure_sensor(
    monitor_all_code_locations=True,  # a run of a command line belongs to none
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Puts the finished epochs of a training that was killed into the results table, as not finished; one that "
    "fails does so itself.",
)
def epochs_of_failed_runs(
    context: dg.RunFailureSensorContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore
) -> None:
    """Publish the epochs of one failed run; Dagster calls this once for each."""
    resources = {"specs": specs, "tables": tables, "artefacts": artefacts}
    for said in publish_epochs_of(context.instance, [context.dagster_run.run_id], resources):
        context.log.info(said)
