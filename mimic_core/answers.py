"""Answers: whether each partition is up to date, as the check of that name shows it, and which answers are new."""

import hashlib
from collections.abc import Mapping

from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.report_ages import REPORT
from mimic_core.world import SOURCE, Node, State

COMING = (*IN_FLIGHT, State.WAITING)  # there is nothing to do for these at this moment


def is_alarming(partition: Partition) -> bool:
    """Tell whether a partition is not current, is not being built, and does not wait for others either."""
    asked_for = partition.node.asset == REPORT  # nobody misses a report but who wants one
    return partition.state != State.CURRENT and partition.state not in COMING and not asked_for


def builds_for(partition: Partition, plan: Plan) -> list[Node]:
    """Return the partitions that would be built to make one current, upstream first."""
    above = [plan.partitions[up] for up in partition.upstream if up in plan.partitions]
    found = dict.fromkeys(node for up in above for node in builds_for(up, plan))
    own = partition.node.asset != SOURCE and partition.state != State.CURRENT
    return [*found, *([partition.node] if own else [])]


def unsaid(plan: Plan, said: Mapping[str, str], built: Mapping[Node, str], most: int) -> dict[str, tuple[Partition, str]]:
    """Return partitions whose answer was not said yet, at most some, with its digest, by short names of theirs.

    Args:
        said: short name of a partition -> digest of the answer that was said last.
        built: the partitions for which something is published -> its version, as an answer is about one; of the others only
            those count for which something was said.
    """
    new: dict[str, tuple[Partition, str]] = {}
    for node, partition in plan.partitions.items():
        if node.asset == SOURCE or len(new) == most:
            continue
        name = name_of(node)
        digest = digest_of(partition, built.get(node, ""))
        if (node in built or name in said) and said.get(name) != digest:
            new[name] = partition, digest
    return new


def still_there(plan: Plan, said: Mapping[str, str]) -> dict[str, str]:
    """Return what was said of the partitions that there still are."""
    names = {name_of(node) for node in plan.partitions}
    return {name: digest for name, digest in said.items() if name in names}


def name_of(node: Node) -> str:
    """Return the short name of a partition."""
    return _digest(str(node))


def digest_of(partition: Partition, version: str) -> str:
    """Return a text that is another one whenever the answer is, or is about another version of what is published."""
    if partition.state in IN_FLIGHT:  # whether it is queued or running is on the page of its run
        return _digest(f"in flight {version}")
    return _digest(f"{partition.state} {partition.reasons} {version}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
