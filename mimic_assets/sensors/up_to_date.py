"""The sensor that has the check `up_to_date` answered for every partition whose answer changed, and the job that does it.

A sensor could report the answers itself, but Dagster (1.13) stores one answer without a run for each partition of a check,
and refuses the next one.
"""

from collections.abc import Iterator

import dagster as dg

from mimic_assets.checks import evaluation
from mimic_assets.failures import fails_clearly
from mimic_assets.jobs import ANSWERS
from mimic_assets.live import UNFINISHED
from mimic_assets.planning import make_plan
from mimic_core.answers import digest_of, still_there, unsaid
from mimic_core.planner import Partition, Plan
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.said import read_said, write_said

MOST = 2_000  # answers of a run, each of which is an event


@dg.op(out=dg.Out(dg.Nothing))
@fails_clearly
def answer_checks(context: dg.OpExecutionContext, inventory: Inventory, artefacts: ArtefactStore) -> Iterator[object]:
    """Answer for the partitions whose answer changed."""
    plan, said, new = _changed(context.instance, inventory, artefacts)
    context.log.info(f"{len(new)} answers changed")
    for partition in new.values():
        yield evaluation(partition, plan)
    given = {name: digest_of(partition) for name, partition in new.items()}
    # after the events are stored: what is cut off is said once more
    write_said(artefacts, context.run_id, still_there(plan, said) | given)
    yield dg.Output(None, metadata={"answers": len(new)})


@dg.job(
    name=ANSWERS,
    description="Answer the check up_to_date where the answer changed; the sensor up_to_date_sensor starts it.",
    executor_def=dg.in_process_executor,
)
def answer_up_to_date() -> None:
    """Answer what changed."""
    answer_checks()


@dg.sensor(
    job_name=ANSWERS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Has the check up_to_date answered for the partitions whose answer changed; it builds nothing.",
)
def up_to_date_sensor(
    context: dg.SensorEvaluationContext, inventory: Inventory, artefacts: ArtefactStore
) -> dg.SensorResult:
    """Request a run of the job when there is something to say."""
    if context.instance.get_runs(dg.RunsFilter(job_name=ANSWERS, statuses=UNFINISHED), limit=1):
        return dg.SensorResult(skip_reason=dg.SkipReason("a run that answers is unfinished"))
    _, _, new = _changed(context.instance, inventory, artefacts)
    if not new:
        return dg.SensorResult(skip_reason=dg.SkipReason("no answer changed"))
    return dg.SensorResult(run_requests=[dg.RunRequest(job_name=ANSWERS)])


def _changed(
    instance: dg.DagsterInstance, inventory: Inventory, artefacts: ArtefactStore
) -> tuple[Plan, dict[str, str], dict[str, Partition]]:
    """Return the plan, what was said, and the partitions whose answer is another one now."""
    plan, world = make_plan(instance, inventory)
    run_id, said = read_said(artefacts)
    if instance.get_run_by_id(run_id) is None:
        said = {}  # this instance of Dagster is another one, or lost its past
    return plan, said, unsaid(plan, said, set(world.manifests), MOST)
