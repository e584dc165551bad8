"""The jobs that build one partition of an asset, for the command lines, the UI and backfills."""

import dagster as dg

BY_ASSET = {
    "tfrecord_dataset": dg.define_asset_job("build_dataset", selection=["tfrecord_dataset"]),
    "model_run": dg.define_asset_job("train_run", selection=["model_run"]),
    "inference_table": dg.define_asset_job("infer_batch", selection=["inference_table"]),
}


def resolved_job(asset: str) -> dg.JobDefinition:
    """Return the job of an asset with its code; Dagster reconstructs it by this function's name."""
    from mimic_assets.definitions import defs

    return defs().resolve_job_def(BY_ASSET[asset].name)
