"""The source tables: decision tables that were imported or registered, observed for changes of their content."""

import dagster as dg

from mimic_assets.failures import attempt_all
from mimic_assets.partitions import source_tables
from mimic_core.world import TableState
from resources.tables import SOURCE, TableStore


@dg.observable_source_asset(
    partitions_def=source_tables,
    group_name="sources",
    description="Decision tables: one row per choice offered in a decision, one selected. Partition: database.table.",
    tags={"dagster/kind/iceberg": ""},
)
def source_table(context: dg.OpExecutionContext, tables: TableStore) -> dg.DataVersionsByPartition:
    """Observe the content tokens of all imported and registered tables, with their sizes and columns."""
    # the files of a registered table may be gone; a step that fails would lose the observations of the others
    for problem in attempt_all(lambda name: context.log_event(observation(name, tables)), tables.names(SOURCE)):
        context.log.error(problem)
    return dg.DataVersionsByPartition({})  # observed above, because this class takes no metadata


def observation(name: str, tables: TableStore) -> dg.AssetObservation:
    """Say what a source table holds now."""
    pin = tables.pin(name)
    columns = {field.name: {"type": str(field.type)} for field in tables.schema_of(pin)}
    return observed(name, TableState(token=pin.token, rows=pin.rows, columns=columns))


def observed(name: str, table: TableState) -> dg.AssetObservation:
    """Say what a source table holds that was looked at."""
    return dg.AssetObservation(
        asset_key="source_table",
        partition=name,
        metadata={
            "dagster/row_count": table.rows,
            "rows": table.rows,
            "columns": len(table.columns),
            "version": table.token,
            "schema": dg.TableSchema([dg.TableColumn(column, facts["type"]) for column, facts in table.columns.items()]),
        },
        tags={"dagster/data_version": table.token},
    )
