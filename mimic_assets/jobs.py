"""The jobs: those that build one partition of an asset, and those whose launchpad form registers specs."""

from typing import Any

import dagster as dg

from mimic_assets.failures import fails_clearly
from mimic_assets.forms import example, parse_form, registration_form
from mimic_assets.live import build_tags
from mimic_assets.partitions import UP_TO_DATE
from mimic_assets.registration import register
from mimic_assets.run_tags import LAUNCH, USER
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, PartitionSpec
from mimic_core.world import CODE_VERSIONS, SOURCE
from resources.specs import SpecStore

REGISTERS = "mimic/registers"  # tag of the runs that the sensor looks at
ANSWERS = "answer_up_to_date"  # the job that answers the check of that name
PROFILES = "profile_sources"  # the job that looks into the source tables


def _build(name: str, asset: str, description: str) -> Any:
    # whether it is up to date follows from what is there; a build neither waits for that answer nor fails over it
    up_to_date = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(asset), UP_TO_DATE))
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(asset) - up_to_date, description=description)


BUILDS = {
    "contrast_set": _build("build_contrast", "contrast_set", "Sample the pairs of one contrast set anew."),
    "tfrecord_dataset": _build("build_dataset", "tfrecord_dataset", "Write the TFRecord files of one dataset anew."),
    "model_run": _build("train_run", "model_run", "Train one model of an experiment on its dataset."),
    "inference_table": _build("infer_batch", "inference_table", "Apply one trained run to every row of a table."),
    "experiment_report": _build("report_experiment", "experiment_report", "Make the report on one experiment of its runs."),
}
# without the checks, of which Dagster would expect answers for no partition; the asset gives them for each
profile_sources = dg.define_asset_job(
    PROFILES,
    selection=dg.AssetSelection.assets(SOURCE).without_checks(),
    description="Look into the source tables that changed: counts, pictures, and whether they keep the contract; the sensor "
    "source_table_sensor starts it.",
)
PLANNED = [job for asset, job in BUILDS.items() if asset in CODE_VERSIONS]  # a report is made when a person asks for it


def build_request(run_key: str, asset: str, key: str, launch: str = "", user: str = "") -> dg.RunRequest:
    """Make the request for a run that builds a partition, and belongs to a command, of somebody, where these say so."""
    tags = build_tags(asset, key) | ({LAUNCH: launch} if launch else {}) | ({USER: user} if user else {})
    return dg.RunRequest(run_key=run_key, job_name=BUILDS[asset].name, partition_key=key, tags=tags)


def _registration(name: str, kind: type[PartitionSpec], asset: str) -> dg.JobDefinition:
    """Make the job that registers the specs of a form."""
    step_name = f"{name.removeprefix('register_')}_form"  # no op may be called as a job
    about = f"A form: fill in specs in the Launchpad. They become partitions of {asset}, which are built if `build` is true."

    # the op takes the form as Dagster checked it; parse_spec does the rest with messages of its own
    @dg.op(name=step_name, description=about, out=dg.Out(list[str]), config_schema=registration_form(kind).to_fields_dict())
    @fails_clearly
    def step(context: dg.OpExecutionContext, specs: SpecStore) -> dg.Output[list[str]]:
        new = parse_form(kind, context.op_config)
        keys = register(context.instance, specs, new)
        context.log.info(f"registered in {asset}: {', '.join(keys)}")
        return dg.Output(keys, metadata={"asset": asset, "partitions": keys, "build": bool(context.op_config["build"])})

    @dg.job(
        name=name,
        description=about,
        config={"ops": {step_name: {"config": example(kind)}}},
        tags={REGISTERS: "true"},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        step()

    return job


REGISTRATION = [
    _registration("register_contrast_set", ContrastSpec, "contrast_set"),
    _registration("register_dataset", DatasetSpec, "tfrecord_dataset"),
    _registration("register_experiment", ExperimentSpec, "model_run"),
    _registration("register_inference", InferenceSpec, "inference_table"),
]
