"""The sensor that answers the check `up_to_date` for every partition whose answer changed."""

import dagster as dg

from mimic_assets.checks import evaluation
from mimic_assets.planning import make_plan
from mimic_core.answers import digest_of, unsaid
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.said import read_said, write_said

MOST = 500  # evaluations in a tick, each of which Dagster stores as an event


@dg.sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Answers the check up_to_date of the partitions whose answer changed; it starts nothing.",
)
def up_to_date_sensor(
    context: dg.SensorEvaluationContext, inventory: Inventory, artefacts: ArtefactStore
) -> dg.SensorResult:
    """Report the answers that were not reported yet."""
    plan, world = make_plan(context.instance, inventory)
    said = read_said(artefacts, context.cursor)
    new = unsaid(plan, said, set(world.manifests), MOST)
    if not new:
        return dg.SensorResult(skip_reason=dg.SkipReason("no answer changed"))
    cursor = write_said(artefacts, context.cursor, said, {name: digest_of(each) for name, each in new.items()})
    events = [evaluation(partition, plan) for partition in new.values()]
    return dg.SensorResult(asset_events=events, skip_reason=dg.SkipReason(f"{len(events)} answers changed"), cursor=cursor)
