"""The dynamic partitions of every asset, and the lineage edges between them."""

import warnings

import dagster as dg

# The features of Dagster that we use before they are declared stable; nothing else is filtered.
warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec is currently in preview")
warnings.filterwarnings("ignore", message="Function `multi_observable_source_asset` is currently in beta")
warnings.filterwarnings(
    "ignore", message="Class `(CodeReferencesMetadataValue|(LocalFile|Url)CodeReference)` is currently in beta"
)

source_tables = dg.DynamicPartitionsDefinition(name="source_tables")
contrast_sets = dg.DynamicPartitionsDefinition(name="contrast_sets")
tfrecord_datasets = dg.DynamicPartitionsDefinition(name="tfrecord_datasets")
model_runs = dg.DynamicPartitionsDefinition(name="model_runs")
experiments = dg.DynamicPartitionsDefinition(name="experiments")
inference_tables = dg.DynamicPartitionsDefinition(name="inference_tables")

UP_TO_DATE = "up_to_date"  # the check of every asset that is built

BY_ASSET = {
    "source_table": source_tables,
    "contrast_set": contrast_sets,
    "tfrecord_dataset": tfrecord_datasets,
    "model_run": model_runs,
    "inference_table": inference_tables,
    "experiment_report": experiments,
}

# Which upstream partition belongs to which is in the specs. Dagster has no mapping between dynamic partition sets that also
# works in backfills, so the edge carries lineage and no partitions; readiness is checked in the step.
_NO_PARTITIONS = dg.SpecificPartitionsPartitionMapping([])


def lineage(asset: str) -> dg.AssetDep:
    """Make the edge from an upstream asset to an ordinary asset."""
    return dg.AssetDep(asset, partition_mapping=_NO_PARTITIONS)


def lineage_input() -> dg.AssetIn:
    """Make the edge from an upstream asset to a graph-backed asset, which takes no `deps`."""
    return dg.AssetIn(dagster_type=dg.Nothing, partition_mapping=_NO_PARTITIONS)
