"""The jobs that build one partition of an asset, for the command lines, the UI and backfills."""

import dagster as dg

BY_ASSET = {
    "contrast_set": dg.define_asset_job("build_contrast", selection=["contrast_set"]),
    "tfrecord_dataset": dg.define_asset_job("build_dataset", selection=["tfrecord_dataset"]),
    "model_run": dg.define_asset_job("train_run", selection=["model_run"]),
    "inference_table": dg.define_asset_job("infer_batch", selection=["inference_table"]),
}
