"""Spec files: which kind of config a document is, and what follows from the files that there are; pure choices."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mimic_core.errors import SpecError
from mimic_core.planner import Plan
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, PartitionSpec
from mimic_core.world import Node

TELLING: tuple[tuple[str, type[PartitionSpec]], ...] = (
    ("destination_table", ContrastSpec),
    ("models", ExperimentSpec),
    ("run_id", InferenceSpec),
    ("upload_table", InferenceSpec),
    ("max_choices", DatasetSpec),
    ("dataset", DatasetSpec),
)


def kind_of(document: Mapping[str, Any], where: str) -> type[PartitionSpec]:
    """Tell by its keys which config a document is.

    Raises:
        SpecError: it has none of the keys that tell.

    >>> kind_of({"models": [], "dataset": "d"}, "my.json").__name__
    'ExperimentSpec'
    """
    for name, kind in TELLING:
        if name in document:
            return kind
    raise SpecError(
        f"{where}: this is no config of mimic: it has none of the keys {', '.join(name for name, _ in TELLING)}; "
        "mend it, or move it out of the spec folder"
    )


def claimed_twice(claims: Mapping[str, Collection[Node]]) -> dict[str, str]:
    """Say which files define a partition that another file defines too.

    Args:
        claims: file -> the partitions that it defines.
    """
    files: dict[Node, list[str]] = defaultdict(list)
    for name, nodes in claims.items():
        for node in nodes:
            files[node].append(name)
    return {
        name: f"{' and '.join(names)} define {node}; leave it in one of them"
        for node, names in files.items()
        if len(names) > 1
        for name in names
    }


def may_retire(gone: Collection[Node], plan: Plan) -> tuple[list[Node], dict[Node, str]]:
    """Choose which partitions can be taken out of use: those that nothing needs that stays, and that no run builds.

    Args:
        gone: whose specs were taken away.

    Returns:
        Those that can, downstream first, and why each of the others cannot.
    """
    below: dict[Node, list[Node]] = defaultdict(list)
    for node, partition in plan.partitions.items():
        for up in partition.upstream:
            if up in gone:
                below[up].append(node)
    can: list[Node] = []
    cannot: dict[Node, str] = {}
    for node in reversed(_in_order(gone, plan)):
        if needed := [str(other) for other in below[node] if other not in can]:
            cannot[node] = f"{node} stays registered: {', '.join(needed[:5])} {'need' if len(needed) > 1 else 'needs'} it"
        elif node in plan.partitions and plan.partitions[node].state in IN_FLIGHT:
            cannot[node] = f"{node} stays registered until its run has ended"
        else:
            can.append(node)
    return can, cannot


def _in_order(nodes: Collection[Node], plan: Plan) -> Sequence[Node]:
    return [*(node for node in nodes if node not in plan.partitions), *(node for node in plan.partitions if node in nodes)]
