"""The planner: which partitions are current, why the others are not, and what would have to be built, in which order.

Pure functions. A partition is current when its manifest was made from its present spec, by the present code, from the
present versions of its inputs, and these are current themselves.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from mimic_core.differences import differences
from mimic_core.world import (
    CODE_VERSIONS,
    SOURCE,
    STAGES,
    Attempt,
    Node,
    Registered,
    State,
    TableState,
    World,
    columns_of,
    wanted_version,
)

IS = {
    "current": "is current",
    "queued": "is queued",
    "running": "is being built",
    "missing": "is not built",
    "out_of_date": "is out of date",
    "waiting": "waits itself",
    "failed": "failed",
}


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What the planner says of one partition.

    Attributes:
        reasons: why it is what it is, for people; empty when it is current.
        version: what a build would make now; empty while an input is missing or not current.
        goal: what it should be made of in the end, also while its inputs are not current; a hash.
        upstream: the partitions that it reads directly.
        changed_at: when a table or spec changed last on which it hangs, in seconds since 1970.
        manual: whether only a person asks for builds.
        will_build: whether it is to be built, now or as soon as the partitions that it reads are.
    """

    node: Node
    state: State
    reasons: tuple[str, ...] = ()
    version: str = ""
    goal: str = ""
    upstream: tuple[Node, ...] = ()
    changed_at: float = 0.0
    manual: bool = False
    will_build: bool = False

    @property
    def ready(self) -> bool:
        """Whether a build could begin now: there is something to do, and all that it reads is current."""
        return bool(self.version) and self.state in (State.MISSING, State.OUT_OF_DATE, State.FAILED)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All partitions with their states, upstream first."""

    partitions: Mapping[Node, Partition]

    @cached_property
    def to_build(self) -> tuple[Partition, ...]:
        """Those that are to be built, upstream first."""
        return tuple(partition for partition in self.partitions.values() if partition.will_build)

    def below(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        """Return the partitions that hang on some partitions, upstream first and without these."""
        found = set(nodes)
        below = []
        for node, partition in self.partitions.items():
            if node not in found and not found.isdisjoint(partition.upstream):
                found.add(node)
                below.append(node)
        return tuple(below)

    def above(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        """Return the partitions on which some partitions hang, upstream first and without these."""
        asked = set(nodes)
        found = set(asked)
        for node in reversed(list(self.partitions)):
            if node in found:
                found.update(self.partitions[node].upstream)
        return tuple(node for node in self.partitions if node in found - asked)


def plan(world: World) -> Plan:
    """Say of every registered partition, and of every source table, what it is and why."""
    found: dict[Node, Partition] = {}
    for name, table in sorted(world.sources.items()):
        found[Node(SOURCE, name)] = _source(name, table)
    for node in sorted(world.registered, key=lambda node: (STAGES.index(node.asset), node.key)):
        found[node] = _partition(node, world, found)
    return Plan(partitions=found)


def expected_seconds(nodes: Iterable[Node], world: World) -> dict[Node, float | None]:
    """Say how long builds may take, in seconds; None where nothing like it was ever built.

    A training that goes on as long as its epochs took, if all are left that there may be. Any other build as long as the
    last one of the partition, else the median of its experiment, else the median of its asset.
    """
    manifests = world.manifests
    families: dict[tuple[str, str], list[float]] = defaultdict(list)
    for node, manifest in manifests.items():
        if "seconds" in manifest:
            families[node.asset, node.key.rpartition("/")[0]].append(manifest["seconds"])
            families[node.asset, "*"].append(manifest["seconds"])
    usual = {family: median(seconds) for family, seconds in families.items()}
    expected = {
        node: manifests.get(node, {}).get(
            "seconds", usual.get((node.asset, node.key.rpartition("/")[0]), usual.get((node.asset, "*")))
        )
        for node in nodes
    }
    for node in expected.keys() & world.unfinished.keys():
        unfinished = world.unfinished[node]
        if unfinished.seconds is not None:
            expected[node] = unfinished.seconds * (unfinished.most - unfinished.epochs)
    return expected


def _source(name: str, table: TableState) -> Partition:
    node = Node(SOURCE, name)
    if table.error:
        return Partition(node=node, state=State.FAILED, reasons=(table.error,), goal=_hash("unreadable", name))
    return Partition(node=node, state=State.CURRENT, version=table.token, changed_at=table.changed_at)


def _partition(node: Node, world: World, found: Mapping[Node, Partition]) -> Partition:
    wants, manifest = world.registered[node], world.manifests.get(node)
    if wants.error:
        return Partition(node=node, state=State.FAILED, reasons=(wants.error,), changed_at=wants.changed_at)
    above = world.upstream(node)
    changed_at = max([wants.changed_at, *(found[up].changed_at for up in above if up in found)])
    goal = _goal(wants, above, world, found)
    blocked = tuple(_blocked(up, found) for up in above if up not in found or found[up].state != State.CURRENT)
    reasons = differences(wants, manifest, world, [up for up in above if up in found and found[up].state == State.CURRENT])
    version = "" if blocked else _version(node, world, changed=bool(reasons))
    # what is to be built below something that never will be waits for a person
    buildable = all(up in found and (found[up].state == State.CURRENT or found[up].will_build) for up in above)
    state, will_build = State.CURRENT, False
    flight, failed = world.in_flight.get(node), world.failed.get(node)
    if flight:
        state, reasons = flight.state, (*reasons, flight.reason or f"run {flight.run_id[:8]} is {flight.state}")
        will_build = True
    elif blocked:
        state, reasons = State.WAITING, (*reasons, *blocked)
        will_build = buildable and not wants.manual
    elif reasons:
        state = State.MISSING if manifest is None else State.OUT_OF_DATE
        will_build = not wants.manual
        if failed and failed.version == version:
            state, will_build = State.FAILED, False
            reasons = (*reasons, _what_failed(failed))
        if unfinished := world.unfinished.get(node):
            reasons = (*reasons, f"a build goes on after epoch {unfinished.epochs:,} of at most {unfinished.most:,}")
    return Partition(
        node=node,
        state=state,
        reasons=reasons,
        version=version,
        goal=goal,
        upstream=above,
        changed_at=changed_at,
        manual=wants.manual,
        will_build=will_build,
    )


def _what_failed(run: Attempt) -> str:
    said = f"run {run.run_id[:8]} {'was canceled' if run.canceled else 'failed'} at this version"
    return f"{said}: {run.reason}" if run.reason else said


def _version(node: Node, world: World, *, changed: bool) -> str:
    # what differs in nothing has the version that is published: hashing all would take half of the planner's time
    return wanted_version(node, world) if changed else str(world.manifests[node]["fingerprint"])


def _blocked(node: Node, found: Mapping[Node, Partition]) -> str:
    if node not in found:
        return f"waits for {node}, which is not there; {'import it' if node.asset == SOURCE else 'register it'}"
    partition = found[node]
    by_hand = " and is refreshed by hand" if partition.manual and partition.ready else ""
    return f"waits for {node}, which {IS[partition.state]}{by_hand}"


def _goal(wants: Registered, above: Sequence[Node], world: World, found: Mapping[Node, Partition]) -> str:
    parts = [str(wants.node), wants.digest, CODE_VERSIONS[wants.node.asset]]
    for up in above:
        table = world.sources.get(up.key) if up.asset == SOURCE else None
        if table is not None and not table.error:
            parts.append(f"{table.token} {columns_of(wants, table)}")
        else:
            parts.append(found[up].goal if up in found else str(up))
    return _hash(*parts)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
