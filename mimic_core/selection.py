"""Selection: the partitions that a person means by what they type, and which of them are to be built then."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum

from mimic_core.configs import collect
from mimic_core.errors import SpecError, did_you_mean
from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import IN_FLIGHT
from mimic_core.specs import KEY_DIGITS
from mimic_core.world import RUN, SOURCE, STAGES, Node, State

PREFIX = re.compile(r"[0-9a-f]{8,64}")


class LeftOut(StrEnum):
    """Why a partition that is not current is not built."""

    IN_FLIGHT = "being built already"
    FAILED = "failed at this version"
    BY_HAND = "refreshed by hand"
    UNREADABLE = "cannot be read"
    WAITING = "waiting for an input"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a person asks to have built.

    Attributes:
        nodes: nothing but these; None for all.
        named: those that are built also if they are refreshed by hand, or failed at this version.
        failed: whether all that failed at their version are built too.
    """

    nodes: Set[Node] | None = None
    named: Set[Node] = frozenset()
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Work:
    """The partitions of a scope that are not current, upstream first.

    Attributes:
        to_build: those to be built, now or when the partitions that they read are current.
        left_out: those that are not, and why.
    """

    to_build: tuple[Partition, ...]
    left_out: Mapping[Node, LeftOut]


def find_work(plan: Plan, scope: Scope, tried: Set[tuple[Node, str]] = frozenset()) -> Work:
    """Say what of a plan is to be built for somebody who asks for it.

    Args:
        tried: partitions and versions that were tried since that person asked.
    """
    to_build: dict[Node, Partition] = {}
    left_out: dict[Node, LeftOut] = {}
    for node, partition in plan.partitions.items():
        if partition.state == State.CURRENT or (scope.nodes is not None and node not in scope.nodes):
            continue
        if (why := _left_out(partition, plan, scope, tried, to_build)) is None:
            to_build[node] = partition
        else:
            left_out[node] = why
    return Work(to_build=tuple(to_build.values()), left_out=left_out)


def find_partitions(asked: Sequence[str], known: Iterable[Node]) -> list[Node]:
    """Return the partitions that some keys mean, each once, in the order in which they are known.

    Args:
        asked: KEY or ASSET:KEY, or in place of a KEY at least 8 digits that begin the id of one run.

    Raises:
        SpecError: keys that mean no partition or several, all of them named.
    """
    known = list(known)
    found = set(collect(lambda name: _find(name, known), asked))
    return [node for node in known if node in found]


def matching(name: str, known: Sequence[str]) -> list[str]:
    """Return the keys that a name means: itself, or those of runs whose id begins with the digits that it ends with.

    A key has the beginning of a run id; what a name has beyond that is not looked at.

    >>> matching("9b0556be", ["s/e/9b0556be0331", "s/d"])
    ['s/e/9b0556be0331']
    """
    if name in known:
        return [name]
    where, _, digits = name.rpartition("/")
    begins = [key for key in known if PREFIX.fullmatch(digits) and key.rpartition("/")[2].startswith(digits[:KEY_DIGITS])]
    return [key for key in begins if where in ("", key.rpartition("/")[0])]


def _left_out(
    partition: Partition, plan: Plan, scope: Scope, tried: Set[tuple[Node, str]], to_build: Mapping[Node, Partition]
) -> LeftOut | None:
    node, named = partition.node, partition.node in scope.named
    if partition.state in IN_FLIGHT:
        return LeftOut.IN_FLIGHT
    if node.asset == SOURCE or (partition.state == State.FAILED and not partition.version):
        return LeftOut.UNREADABLE
    above = (up for up in partition.upstream if up not in to_build)
    if any(up not in plan.partitions or plan.partitions[up].state != State.CURRENT for up in above):
        return LeftOut.WAITING
    if (node, partition.version) in tried or (partition.state == State.FAILED and not (named or scope.failed)):
        return LeftOut.FAILED
    return LeftOut.BY_HAND if partition.manual and not named else None


def _find(name: str, known: Sequence[Node]) -> Node:
    asset, colon, key = name.partition(":")
    if colon and asset not in STAGES:
        raise SpecError(
            f"{name!r}: there is no asset {asset!r}{did_you_mean(asset, STAGES)}; expected one of {', '.join(STAGES)}"
        )
    key = key if colon else name
    of_assets = [node for node in known if not colon or node.asset == asset]
    found = [node for node in of_assets if node.key == key]
    if not found:
        keys = set(matching(key, [node.key for node in of_assets]))
        begun = [node for node in of_assets if node.key in keys]
        # an inference ends with the id of its run, and a bare id means the run
        found = [node for node in begun if node.asset == RUN] or begun
    if len(found) > 1:
        listed = ", ".join(f"{node.asset}:{node.key}" for node in found)
        raise SpecError(f"{name!r} means several partitions; give one of {listed}")
    if not found:
        raise SpecError(
            f"there is no partition {name!r}{did_you_mean(key, [node.key for node in of_assets])}; expected KEY or "
            "ASSET:KEY as in `mimic status`, or at least 8 digits that begin a run id"
        )
    return found[0]
