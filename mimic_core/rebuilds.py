"""Rebuilds: which of the partitions that are to be built may be requested at this moment; a pure choice."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from mimic_core.planner import Partition, Plan
from mimic_core.world import SOURCE, Node, State

IN_FLIGHT = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How eagerly the platform rebuilds.

    Attributes:
        settle_seconds: of quiet after a change of a table or spec before anything that hangs on it is built.
        max_in_flight: builds that are queued or running at the same moment.
        max_runs_per_change: more than these builds wait until a person approves them.
    """

    settle_seconds: float = 30
    max_in_flight: int = 4
    max_runs_per_change: int = 100


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to request now, and what not.

    Attributes:
        request: to be requested now, in this order.
        held: that wait for a person's approval; empty when there are not too many.
        settling: that could be built but for a change a moment ago.
        queued: that could be built but for those in flight.
    """

    request: tuple[Partition, ...]
    held: tuple[Partition, ...]
    settling: tuple[Partition, ...]
    queued: tuple[Partition, ...]


def choose(plan: Plan, policy: Policy, now: float, approved: Set[str] = frozenset()) -> Choice:
    """Choose what to request: only what is ready and quiet, upstream first, never more than the policy allows.

    Args:
        now: in seconds since 1970.
        approved: goals of the partitions that a person approved.
    """
    to_build = [partition for partition in plan.to_build if partition.state not in IN_FLIGHT]
    in_flight = sum(partition.state in IN_FLIGHT for partition in plan.partitions.values())
    asking = [partition for partition in to_build if partition.goal not in approved]
    held = asking if len(asking) > policy.max_runs_per_change else []
    waits = {partition.node for partition in held}
    ready = [partition for partition in to_build if partition.ready and partition.node not in waits]
    quiet = [partition for partition in ready if is_quiet(partition, policy, now)]
    room = max(0, policy.max_in_flight - in_flight)
    return Choice(
        request=tuple(quiet[:room]),
        held=tuple(held),
        settling=tuple(partition for partition in ready if not is_quiet(partition, policy, now)),
        queued=tuple(quiet[room:]),
    )


def is_quiet(partition: Partition, policy: Policy, now: float) -> bool:
    """Tell whether nothing changed lately on which a partition hangs; a time far in the future says nothing."""
    return abs(now - partition.changed_at) >= policy.settle_seconds


def noticed(plan: Plan, seen: Mapping[str, float], now: float) -> Plan:
    """Return a plan in which no source table changed before its present content was seen for the first time.

    A table that was rolled back, or files that kept their times, say that they changed long ago; and where a clock is wrong,
    that they will.

    Args:
        seen: source table -> when its present content was first seen, in seconds since 1970.
        now: in seconds since 1970.
    """
    found: dict[Node, Partition] = {}
    for node, partition in plan.partitions.items():
        above = [found[up].changed_at for up in partition.upstream if up in found]
        first = seen.get(node.key, 0.0) if node.asset == SOURCE else 0.0
        own = partition.changed_at if partition.changed_at <= now else 0.0
        found[node] = replace(partition, changed_at=max(own, first, *above))
    return Plan(partitions=found)


def first_builds(plan: Plan, unbuilt: Set[Node], policy: Policy, now: float) -> list[Partition]:
    """Choose which partitions that were never built, nor failed to be, are built for the first time now.

    Args:
        unbuilt: those that wait for it.
        now: in seconds since 1970.
    """
    in_flight = sum(partition.state in IN_FLIGHT for partition in plan.partitions.values())
    ready = [each for each in plan.to_build if each.node in unbuilt and each.state == State.MISSING and each.ready]
    quiet = [each for each in ready if is_quiet(each, policy, now)]
    return quiet[: max(0, policy.max_in_flight - in_flight)]
