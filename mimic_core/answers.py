"""Answers: whether each partition is up to date, as the check of that name shows it, and which answers are new."""

import hashlib
from collections.abc import Mapping, Set

from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.world import SOURCE, Node, State

COMING = (*IN_FLIGHT, State.WAITING)  # there is nothing to do for these at this moment


def is_alarming(partition: Partition) -> bool:
    """Tell whether a partition is not current, is not being built, and does not wait for others either."""
    return partition.state != State.CURRENT and partition.state not in COMING


def builds_for(partition: Partition, plan: Plan) -> list[Node]:
    """Return the partitions that would be built to make one current, upstream first."""
    above = [plan.partitions[up] for up in partition.upstream if up in plan.partitions]
    found = dict.fromkeys(node for up in above for node in builds_for(up, plan))
    own = partition.node.asset != SOURCE and partition.state != State.CURRENT
    return [*found, *([partition.node] if own else [])]


def unsaid(plan: Plan, said: Mapping[str, str], built: Set[Node], most: int) -> dict[str, Partition]:
    """Return partitions whose answer was not said yet, at most some, by short names of theirs.

    Args:
        said: short name of a partition -> digest of the answer that was said last.
        built: the partitions for which something is published; of the others only those count for which something was said.
    """
    new: dict[str, Partition] = {}
    for node, partition in plan.partitions.items():
        if node.asset == SOURCE or len(new) == most:
            continue
        name = name_of(node)
        if (node in built or name in said) and said.get(name) != digest_of(partition):
            new[name] = partition
    return new


def still_there(plan: Plan, said: Mapping[str, str]) -> dict[str, str]:
    """Return what was said of the partitions that there still are."""
    names = {name_of(node) for node in plan.partitions}
    return {name: digest for name, digest in said.items() if name in names}


def name_of(node: Node) -> str:
    """Return the short name of a partition."""
    return _digest(str(node))


def digest_of(partition: Partition) -> str:
    """Return a text that is another one whenever the answer is."""
    return _digest(f"{partition.state} {partition.reasons}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
