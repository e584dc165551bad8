"""The source tables: decision tables that were imported, observed for changes of their content."""

import dagster as dg

from mimic_assets.partitions import source_tables
from resources.tables import SOURCE, TableStore


@dg.observable_source_asset(
    partitions_def=source_tables,
    group_name="sources",
    description="Decision tables: one row per choice offered in a decision, one selected. Partition: database.table.",
    tags={"dagster/kind/iceberg": ""},
)
def source_table(tables: TableStore) -> dg.DataVersionsByPartition:
    """Observe the content tokens of all imported tables."""
    pins = [tables.pin(name) for name in tables.names(SOURCE)]
    return dg.DataVersionsByPartition({pin.name: pin.token for pin in pins})
