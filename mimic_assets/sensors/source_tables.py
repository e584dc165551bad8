"""The sensor that observes the source tables whose content changed."""

import json

import dagster as dg

from mimic_assets.partitions import source_tables
from mimic_assets.registration import add_partitions
from mimic_assets.sources import observed
from mimic_core.world import SOURCE
from resources.inventory import Inventory


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Observes the source tables whose content changed, and adds partitions for new ones.",
)
def source_table_sensor(context: dg.SensorEvaluationContext, inventory: Inventory) -> dg.SensorResult:
    """Report an observation for each table that holds something else than at the last tick."""
    last = json.loads(context.cursor or "{}")
    tables = inventory.sources()
    now = {name: table.error or table.token for name, table in tables.items()}
    changed = [name for name in tables if last.get(name) != now[name]]
    for name in changed:
        if tables[name].error:
            context.log.error(f"table {name} cannot be observed: {tables[name].error}")
    known = set(context.instance.get_dynamic_partitions(str(source_tables.name)))
    if new := [name for name in tables if name not in known]:
        add_partitions(context.instance, SOURCE, new)
    readable = [name for name in changed if not tables[name].error]
    events = [observed(name, tables[name]) for name in readable if _recorded(context.instance, name) != tables[name].token]
    said = f"{len(events)} of {len(tables)} tables changed" if events else f"none of {len(tables)} tables changed"
    return dg.SensorResult(asset_events=events, skip_reason=dg.SkipReason(said), cursor=json.dumps(now))


def _recorded(instance: dg.DagsterInstance, name: str) -> str | None:
    """Return the content that the newest observation of a table names; commands that import observe too."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(SOURCE), asset_partitions=[name])
    for record in instance.fetch_observations(wanted, limit=1).records:
        observation = record.asset_observation
        return observation.tags.get("dagster/data_version") if observation else None
    return None
