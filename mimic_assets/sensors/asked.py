"""The sensor whose dry runs answer the questions of commands elsewhere; by itself it never runs."""

import dagster as dg

from mimic_assets.asked import answer
from mimic_assets.posted import ANSWERS
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy
from resources.spec_folder import SpecFolder
from resources.specs import SpecStore


@dg.sensor(
    name=ANSWERS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=3600,
    description="Answers `mimic --server` commands, which evaluate it with their question as cursor, as Test Sensor does. "
    "There is no need to switch it on.",
)
def answer_commands(
    context: dg.SensorEvaluationContext,
    specs: SpecStore,
    artefacts: ArtefactStore,
    inventory: Inventory,
    spec_folder: SpecFolder,
    rebuild_policy: RebuildPolicy,
) -> dg.SkipReason:
    """Answer the question that the cursor holds; the answer is the reason why nothing is launched."""
    if not context.cursor:
        return dg.SkipReason("nothing was asked")
    resources = {"specs": specs, "artefacts": artefacts, "inventory": inventory, "spec_folder": spec_folder}
    return dg.SkipReason(answer(context.cursor, context.instance, resources | {"rebuild_policy": rebuild_policy}))
