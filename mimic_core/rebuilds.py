"""Rebuilds: which of the partitions that are to be built may be requested at this moment; a pure choice."""

from collections.abc import Set
from dataclasses import dataclass

from mimic_core.planner import Partition, Plan
from mimic_core.world import State

UNFINISHED = (State.QUEUED, State.RUNNING)


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
    to_build = [partition for partition in plan.to_build if partition.state not in UNFINISHED]
    in_flight = sum(partition.state in UNFINISHED for partition in plan.partitions.values())
    asking = [partition for partition in to_build if partition.goal not in approved]
    held = asking if len(asking) > policy.max_runs_per_change else []
    waits = {partition.node for partition in held}
    ready = [partition for partition in to_build if partition.ready and partition.node not in waits]
    quiet = [partition for partition in ready if now - partition.changed_at >= policy.settle_seconds]
    room = max(0, policy.max_in_flight - in_flight)
    return Choice(
        request=tuple(quiet[:room]),
        held=tuple(held),
        settling=tuple(partition for partition in ready if now - partition.changed_at < policy.settle_seconds),
        queued=tuple(quiet[room:]),
    )
