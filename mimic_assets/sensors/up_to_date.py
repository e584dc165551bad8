"""The sensor that keeps the overview and the check `up_to_date`, and the job that answers this where its answer changed.

A sensor could report the answers itself, but Dagster (1.13) stores one answer without a run for each partition of a check,
and refuses the next one. Of the overview it stores as many as are reported, so that takes no run.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg

from mimic_assets.checks import evaluation
from mimic_assets.failures import fails_clearly
from mimic_assets.jobs import ANSWERS
from mimic_assets.live import UNFINISHED
from mimic_assets.overview import overview_shown
from mimic_assets.planning import plan_with_reports
from mimic_assets.rebuilding import REASON
from mimic_assets.targets import about_newest
from mimic_core.answers import still_there, unsaid
from mimic_core.overview import compose
from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.world import World
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.said import read_said, write_said

MOST = 2_000  # answers of a run, each of which is an event
WHILE_BUILDING = 50  # seconds; the daemon ticks every 30, so that no change waits for more than a minute


@dg.op(out=dg.Out(dg.Nothing))
@fails_clearly
def answer_checks(context: dg.OpExecutionContext, inventory: Inventory, artefacts: ArtefactStore) -> Iterator[object]:
    """Answer for the partitions whose answer changed."""
    plan, _, said, new = _changed(context.instance, inventory, artefacts)
    context.log.info(f"{len(new):,} answers changed")
    for partition, _ in new.values():
        yield about_newest(evaluation(partition, plan), context.instance)
    given = {name: digest for name, (_, digest) in new.items()}
    # after the events are stored: what is cut off is said once more
    write_said(artefacts, context.run_id, still_there(plan, said) | given)
    yield dg.Output(None, metadata={"answers": len(new)})


@dg.job(
    name=ANSWERS,
    description="Answer the check up_to_date where the answer changed. The sensor up_to_date_sensor launches it.",
    executor_def=dg.in_process_executor,
)
def answer_up_to_date() -> None:
    """Answer what changed."""
    answer_checks()


@dg.sensor(
    job_name=ANSWERS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Refreshes the asset overview, and has the check up_to_date answered for the partitions whose answer "
    "changed; it builds nothing. While something is built both are done once a minute.",
)
def up_to_date_sensor(
    context: dg.SensorEvaluationContext, inventory: Inventory, artefacts: ArtefactStore
) -> dg.SensorResult:
    """Report the overview, and request a run of the job, where there is something to say."""
    before, now = Done.read(context.cursor), time.time()
    plan, world, _, new = _changed(context.instance, inventory, artefacts)
    shown = overview_shown(compose(plan, world))
    refreshes = before.may_show(digest_of_overview(shown), plan, now)
    after = replace(before, shown=digest_of_overview(shown), shown_at=now) if refreshes else before
    seen = [dg.AssetMaterialization("overview", metadata=shown)] if refreshes else []
    answers = context.instance.get_runs(dg.RunsFilter(job_name=ANSWERS, statuses=UNFINISHED), limit=1)
    if answers:
        said = "a run that answers is unfinished"
    elif not new:
        said = "no answer changed"
    elif not before.may_answer(plan, now):
        said = f"{len(new):,} answers changed; while something is built they are given once a minute"
    else:
        request = dg.RunRequest(job_name=ANSWERS, tags={REASON: _why(new)})
        after = replace(after, answered_at=now)
        return dg.SensorResult(run_requests=[request], asset_events=seen, cursor=after.text())
    return dg.SensorResult(skip_reason=dg.SkipReason(said), asset_events=seen, cursor=after.text())


@dataclass(frozen=True, kw_only=True)
class Done:
    """What the sensor did last, as its cursor keeps it.

    Attributes:
        shown: digest of the overview.
        shown_at, answered_at: when it was reported, and a run was requested, in seconds since 1970.
    """

    shown: str = ""
    shown_at: float = 0.0
    answered_at: float = 0.0

    @classmethod
    def read(cls, cursor: str | None) -> "Done":
        """Read it from a cursor, which is empty at first."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def text(self) -> str:
        """Write it as a cursor."""
        return json.dumps(asdict(self))

    def may_show(self, digest: str, plan: Plan, now: float) -> bool:
        """Tell whether an overview is a new one and may be reported now."""
        return digest != self.shown and _is_time(self.shown_at, plan, now)

    def may_answer(self, plan: Plan, now: float) -> bool:
        """Tell whether a run may be requested now."""
        return _is_time(self.answered_at, plan, now)


def digest_of_overview(shown: Mapping[str, Any]) -> str:
    """Return a text that is another one whenever an overview shows something else."""
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def _is_time(last: float, plan: Plan, now: float) -> bool:
    """Tell whether it is long enough ago; while something is built each of its steps would be one more event and run."""
    building = any(partition.state in IN_FLIGHT for partition in plan.partitions.values())
    return not building or abs(now - last) >= WHILE_BUILDING


def _why(new: Mapping[str, tuple[Partition, str]]) -> str:
    first, _ = next(iter(new.values()))
    more = f" and {len(new) - 1:,} more" if len(new) > 1 else ""
    return f"the answer changed for {first.node}{more}"


def _changed(
    instance: dg.DagsterInstance, inventory: Inventory, artefacts: ArtefactStore
) -> tuple[Plan, World, dict[str, str], dict[str, tuple[Partition, str]]]:
    """Return the plan and what it was made from, what was said, and what `unsaid` finds now."""
    plan, world = plan_with_reports(instance, inventory)
    run_id, said = read_said(artefacts)
    if instance.get_run_by_id(run_id) is None:
        said = {}  # this instance of Dagster is another one, or lost its past
    published = {node: str(manifest.get("version", "")) for node, manifest in world.manifests.items()}
    return plan, world, said, unsaid(plan, said, published, MOST)
