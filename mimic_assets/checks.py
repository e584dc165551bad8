"""The check `up_to_date` of every asset: a sensor answers it when the answer changes, and a person may ask at any time."""

from typing import Any

import dagster as dg

from mimic_assets.failures import attempt, fails_clearly
from mimic_assets.partitions import BY_ASSET, UP_TO_DATE
from mimic_assets.planning import plan_with_reports
from mimic_core.answers import builds_for, is_alarming, name_of
from mimic_core.errors import NotFoundError
from mimic_core.planner import Partition, Plan
from mimic_core.report_ages import REPORT
from mimic_core.world import CODE_VERSIONS, Node, State
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.said import forget

NO_REASON = "made from its present spec and the present versions of its inputs"
OF_BUILDS = (
    "Whether the partition is what its spec and the present versions of its inputs would make. Red: it is to be built. "
    "Yellow: it is being built, or waits for another partition. The sensor up_to_date_sensor keeps it."
)
OF_REPORTS = (
    "Whether the report is of the runs that are trained now. Yellow: materialize it when you want it to be. The sensor "
    "up_to_date_sensor keeps it, once there is a report."
)


def up_to_date_check(asset: str) -> dg.AssetChecksDefinition:
    """Make the check that says whether the partitions of an asset are up to date."""

    @dg.asset_check(
        asset=asset,
        name=UP_TO_DATE,
        partitions_def=BY_ASSET[asset],
        description=OF_REPORTS if asset == REPORT else OF_BUILDS,
    )
    @fails_clearly
    def check(context: dg.AssetCheckExecutionContext, inventory: Inventory, artefacts: ArtefactStore) -> dg.AssetCheckResult:
        planned, problem = attempt(plan_with_reports, context.instance, inventory, context.run.run_id)
        if planned is None:  # whoever materializes in the UI has this executed too, and that build is done
            return dg.AssetCheckResult(
                check_name=UP_TO_DATE, passed=False, severity=dg.AssetCheckSeverity.WARN, description=problem
            )
        plan, _ = planned
        node = Node(asset, context.partition_key)
        if node not in plan.partitions:
            raise NotFoundError(f"{node} is not registered; register it, or remove the partition in Dagster")
        forget(artefacts, name_of(node))  # the sensor knows nothing of this answer, which may be another one than its last
        return dg.AssetCheckResult(check_name=UP_TO_DATE, **_shown(plan.partitions[node], plan))

    return check


def evaluation(partition: Partition, plan: Plan) -> dg.AssetCheckEvaluation:
    """Say whether a partition is up to date, as an event."""
    asset, key = partition.node
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset), check_name=UP_TO_DATE, partition=key, **_shown(partition, plan)
    )


def _shown(partition: Partition, plan: Plan) -> dict[str, Any]:
    builds = "\n".join(f"- {node}" for node in builds_for(partition, plan))
    return {
        "passed": partition.state == State.CURRENT,
        "severity": dg.AssetCheckSeverity.ERROR if is_alarming(partition) else dg.AssetCheckSeverity.WARN,
        "description": "; ".join(partition.reasons) or NO_REASON,
        "metadata": {
            "state": partition.state.value,
            "reasons": "; ".join(partition.reasons) or "none",
            "would be built": dg.MetadataValue.md(builds) if builds else "nothing",
        },
    }


CHECKS = [up_to_date_check(asset) for asset in (*CODE_VERSIONS, REPORT)]
