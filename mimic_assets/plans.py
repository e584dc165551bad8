"""Plans as documents: what is to be built and what is left out, as commands print it here or read it from elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mimic_core.errors import SpecError
from mimic_core.planner import Partition, Plan, expected_seconds
from mimic_core.rebuilds import choose
from mimic_core.selection import Scope, Work, find_partitions, find_work
from mimic_core.world import SOURCE, Node, World

if TYPE_CHECKING:
    import dagster as dg


def plan_document(
    instance: "dg.DagsterInstance", resources: Mapping[str, Any], keys: Sequence[str], failed: bool
) -> dict[str, Any]:
    """Return what `mimic plan` prints, as `described`, with how many builds the sensor would not ask for by itself.

    Raises:
        SpecError: a key means nothing, several partitions, or a source table.
        StorageError: the catalog, or a folder of the object storage, cannot be read.
    """
    from mimic_assets.planning import make_plan

    plan, world = make_plan(instance, resources["inventory"])
    found = described(plan, world, scope_of(keys, failed, plan)(plan))
    return found if keys else found | {"held": held(plan, resources)}


def described(plan: Plan, world: World, scope: Scope) -> dict[str, Any]:
    """Return what would be built of a scope, with the seconds that it may take, what not, and whether there is anything."""
    work = find_work(plan, scope)
    seconds = expected_seconds([partition.node for partition in work.to_build], world)
    rows = [row(partition) | {"seconds": seconds[partition.node]} for partition in work.to_build]
    return {"partitions": rows, "not_built": not_built(work, plan), "empty": not plan.partitions}


def held(plan: Plan, resources: Mapping[str, Any]) -> dict[str, int]:
    """Return how many builds the sensor would hold for approval, and how many it takes for few."""
    from resources.rebuilding import approved

    policy = resources["rebuild_policy"].policy()
    chosen = choose(plan, policy, time.time(), approved(resources["artefacts"]))
    return {"builds": len(chosen.held), "most": policy.max_runs_per_change}


def row(partition: Partition) -> dict[str, Any]:
    """Return what `--json` prints of a partition."""
    return {
        "asset": partition.node.asset,
        "key": partition.node.key,
        "state": str(partition.state),
        "reasons": list(partition.reasons),
    }


def not_built(work: Work, plan: Plan) -> list[dict[str, Any]]:
    """Return what `--json` prints of the partitions that are left out."""
    return [row(plan.partitions[node]) | {"why": str(why)} for node, why in work.left_out.items()]


def scope_of(keys: Sequence[str], failed: bool, plan: Plan) -> Callable[[Plan], Scope]:
    """Return what gives the scope of `mimic rebuild` in a plan: all partitions, or those of some keys and what is above.

    Raises:
        SpecError: a key means nothing, several partitions, or a source table.
    """
    if not keys:
        return lambda _: Scope(failed=failed)
    named = find_partitions(keys, plan.partitions)
    refuse_sources(named)
    return lambda plan: Scope(nodes={*named, *plan.above(named)}, named=set(named), failed=failed)


def refuse_sources(named: Sequence[Node]) -> None:
    """Check that partitions can be built.

    Raises:
        SpecError: one of them is a source table.
    """
    if sources := [node.key for node in named if node.asset == SOURCE]:
        raise SpecError(
            f"{', '.join(sources)}: source tables are imported, not built; "
            f"`mimic build --downstream {sources[0]}` builds what hangs on it"
        )
