"""The sensor that rebuilds what is out of date, and the job by which a person approves what it holds."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from mimic_assets.failures import fails_clearly
from mimic_assets.jobs import PLANNED
from mimic_assets.pictures import markdown_table
from mimic_assets.planning import make_plan
from mimic_assets.rebuilding import approve_held, choose_new, forget_built, request_build
from mimic_core.planner import Partition
from mimic_core.rebuilds import Choice, Policy, noticed
from mimic_core.world import State, TableState
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy

NAME = "rebuild_sensor"
NAMED = 5  # partitions in a skip reason


@dataclass(frozen=True, kw_only=True)
class Seen:
    """When the present content of each source table was first seen.

    Attributes:
        since: hash of a table's name and content -> seconds since 1970; 0 where it has settled long since.
    """

    since: Mapping[str, float]

    def updated(self, sources: Mapping[str, TableState], now: float, settle_seconds: float) -> "Seen":
        """Return it for what the tables hold now; in a cursor, of which Dagster keeps many, it must be short."""
        found = {}
        for name, table in sources.items():
            first = self.since.get(_content(name, table), int(now))
            found[_content(name, table)] = first if now - first < settle_seconds else 0
        return Seen(since=found)

    def by_table(self, sources: Mapping[str, TableState]) -> dict[str, float]:
        """Return table -> when its present content was first seen."""
        return {name: self.since[_content(name, table)] for name, table in sources.items()}


def rebuild_sensor(*, running: bool) -> dg.SensorDefinition:
    """Make the sensor; `running` says whether it runs unless somebody switches it."""

    @dg.sensor(
        name=NAME,
        jobs=PLANNED,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=10,
        description="Builds what is out of date or missing, upstream first. Off unless it is switched on here or by "
        "`mimic dev --rebuild`. What waits for approval is approved by the job `approve_rebuild`.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        inventory: Inventory,
        artefacts: ArtefactStore,
        rebuild_policy: RebuildPolicy,
    ) -> dg.SensorResult:
        plan, world = make_plan(context.instance, inventory)
        policy, now = rebuild_policy.policy(), time.time()
        seen = Seen(since=json.loads(context.cursor or "{}")).updated(world.sources, now, policy.settle_seconds)
        plan = noticed(plan, seen.by_table(world.sources), now)
        choice, repeated = choose_new(context.instance, plan, world, policy, now, forget_built(artefacts, plan))
        for partition in repeated:
            context.log.error(
                f"{partition.node} is out of date although its last two builds were to make just this version; it is not "
                f"built again by itself: {'; '.join(partition.reasons)}"
            )
        requests = [request_build(context.instance, each) for each in choice.request]
        unfinished = [each for each in plan.partitions.values() if each.state in (State.QUEUED, State.RUNNING)]
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(why_nothing(choice, repeated, len(unfinished), policy, now)),
            cursor=json.dumps(seen.since),
        )

    return sensor


def why_nothing(choice: Choice, repeated: Sequence[Partition], in_flight: int, policy: Policy, now: float) -> str:
    """Say why nothing is requested."""
    said = []
    if choice.held:
        said.append(
            f"{len(choice.held)} builds wait for approval, because more than {policy.max_runs_per_change} are wanted at "
            f"once: {_some(choice.held)}. To approve them launch the job approve_rebuild"
        )
    if choice.settling:
        last = max(partition.changed_at for partition in choice.settling)
        seconds = max(1, round(policy.settle_seconds - (now - last)))
        said.append(
            f"{len(choice.settling)} builds wait until nothing changed for {policy.settle_seconds:g} seconds, "
            f"{seconds} more: {_some(choice.settling)}"
        )
    if choice.queued:
        said.append(f"{len(choice.queued)} builds wait for {in_flight} in flight, of which {policy.max_in_flight} may be")
    if repeated:
        said.append(f"{len(repeated)} builds would be repeated for ever: {_some(repeated)}; see the log of this tick")
    if not said:
        said.append(f"{in_flight} builds are in flight" if in_flight else "nothing is to be built")
    return "; ".join(said)


@dg.op(name="approve_held_rebuilds", out=dg.Out(dg.Nothing))
@fails_clearly
def approve(
    context: dg.OpExecutionContext, inventory: Inventory, artefacts: ArtefactStore, rebuild_policy: RebuildPolicy
) -> dg.Output[None]:
    """Approve what the sensor holds at this moment; what changes later is held anew."""
    held = approve_held(context.instance, inventory, artefacts, rebuild_policy)
    context.log.info(f"approved {len(held)} builds" if held else "nothing is held")
    rows = [(each.node.asset, each.node.key, "; ".join(each.reasons)) for each in held]
    table = dg.MetadataValue.md(markdown_table([("asset", "partition", "why"), *rows], numbers=False)) if held else "none"
    return dg.Output(None, metadata={"builds": len(held), "approved": table})


@dg.job(
    description="Approve the rebuilds that the sensor rebuild_sensor holds now because there are many. It needs no config.",
    executor_def=dg.in_process_executor,
)
def approve_rebuild() -> None:
    """Approve what is held."""
    approve()


def _some(partitions: Sequence[Partition]) -> str:
    said = [f"{each.node} ({each.reasons[0]})" if each.reasons else str(each.node) for each in partitions[:NAMED]]
    more = len(partitions) - len(said)
    return ", ".join(said) + (f" and {more} more" if more else "")


def _content(name: str, table: TableState) -> str:
    return hashlib.sha256(f"{name} {table.token}".encode()).hexdigest()[:10]
