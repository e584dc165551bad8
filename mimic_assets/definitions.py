"""The code location: wiring only."""

import dagster as dg

from mimic_assets import jobs
from mimic_assets.catalogue import catalogued
from mimic_assets.checks import CHECKS
from mimic_assets.contrasts import contrast_set
from mimic_assets.datasets import tfrecord_dataset
from mimic_assets.inferences import inference_table
from mimic_assets.maintenance import maintenance, weekly_maintenance
from mimic_assets.overview import overview
from mimic_assets.remote_jobs import register_specs
from mimic_assets.reports import experiment_report
from mimic_assets.runs import model_run
from mimic_assets.sensors.alerts import alert_on_failure
from mimic_assets.sensors.asked import answer_commands
from mimic_assets.sensors.dead_runs import dead_runs_sensor
from mimic_assets.sensors.failed_runs import epochs_of_failed_runs
from mimic_assets.sensors.rebuilds import approve_rebuild, rebuild_sensor
from mimic_assets.sensors.registered import build_registered
from mimic_assets.sensors.requested import build_requested
from mimic_assets.sensors.source_tables import source_table_sensor
from mimic_assets.sensors.specs import spec_sensor
from mimic_assets.sensors.up_to_date import answer_up_to_date, up_to_date_sensor
from mimic_assets.sources import source_table
from mimic_core.collecting import collect_seldom
from resources.environments import code_url, environment_resources, executor, mimic_home, owners, rebuilds_by_itself

ASSETS = [source_table, contrast_set, tfrecord_dataset, model_run, inference_table, experiment_report, overview]


@dg.definitions
def defs() -> dg.Definitions:
    """Assemble the assets with the resources of this environment."""
    collect_seldom()
    resources = environment_resources(mimic_home())
    return dg.Definitions(
        assets=catalogued(ASSETS, owners(), code_url()),
        jobs=[
            *jobs.BUILDS.values(),
            *jobs.REGISTRATION,
            register_specs,
            jobs.profile_sources,
            maintenance,
            approve_rebuild,
            answer_up_to_date,
        ],
        asset_checks=CHECKS,
        schedules=[weekly_maintenance],
        sensors=[
            build_registered,
            build_requested,
            source_table_sensor,
            spec_sensor,
            up_to_date_sensor,
            dead_runs_sensor,
            rebuild_sensor(running=rebuilds_by_itself()),
            alert_on_failure,
            answer_commands,
            epochs_of_failed_runs,
        ],
        resources=resources,
        executor=executor(resources["specs"]),
    )
