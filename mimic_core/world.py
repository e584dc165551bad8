"""The world: everything that the planner knows, and the version that follows from it for a build.

A build is defined by its spec, the code of its stage, and the versions of its inputs, as manifests record them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from mimic_core import contrasts, datasets, inferences, runs
from mimic_core.manifests import build_version
from mimic_core.sources import KEYS, OPTIONAL
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, PartitionSpec, RunSpec

SOURCE, CONTRAST, DATASET, RUN, INFERENCE = STAGES = (
    "source_table",
    "contrast_set",
    "tfrecord_dataset",
    "model_run",
    "inference_table",
)
CODE_VERSIONS = {
    CONTRAST: contrasts.CODE_VERSION,
    DATASET: datasets.CODE_VERSION,
    RUN: runs.CODE_VERSION,
    INFERENCE: inferences.CODE_VERSION,
}


class Node(NamedTuple):
    """A partition of an asset."""

    asset: str
    key: str

    def __str__(self) -> str:
        return f"{self.asset} {self.key}"


class State(StrEnum):
    """What a partition is."""

    CURRENT = "current"
    QUEUED = "queued"
    RUNNING = "running"
    MISSING = "missing"  # nothing is published
    OUT_OF_DATE = "out_of_date"
    WAITING = "waiting"  # for an upstream partition that is not current
    FAILED = "failed"  # at the version that it should have; a new version starts again


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What a table holds now, or in the version that a manifest names.

    Attributes:
        token: content token; empty where the table cannot be read.
        columns: column -> `{"id", "type"}`, as manifests describe inputs.
        error: why it cannot be read; empty when it can.
        changed_at: when that came to be, in seconds since 1970.
        rows: how many there are.
    """

    token: str = ""
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    error: str = ""
    changed_at: float = 0.0
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What a registered spec says about its partition.

    Attributes:
        digest: version of the spec, see `mimic_core.specs.spec_digest`.
        document: what the user set, as JSON; parsed where it is needed, because there may be very many.
        folder: of the partition in the object storage.
        table: the table that it reads, or empty.
        columns: columns of that table which it uses beside keys and flags; None for all.
        upstream: the partition that it reads beside the table, or None.
        manual: whether only a person asks for builds.
        changed_at: when the spec was registered, in seconds since 1970.
        error: why the spec cannot be read; then nothing else is known.
    """

    node: Node
    digest: str = ""
    document: str = "{}"
    folder: str = ""
    table: str = ""
    columns: tuple[str, ...] | None = ()
    upstream: Node | None = None
    manual: bool = False
    changed_at: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A run that builds, or built, a partition.

    Attributes:
        state: QUEUED, RUNNING or FAILED.
        version: what it was to make; empty where it was never told.
        reason: why it failed, or what it waits for where it is not there yet; empty where that is not known.
        canceled: whether somebody ended it.
    """

    run_id: str
    state: State
    version: str = ""
    reason: str = ""
    canceled: bool = False


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A training that ended before it was finished, and goes on when its run is built.

    Attributes:
        epochs: that are finished.
        most: epochs that there will be at most.
        seconds: how long one took; None where nobody measured it.
    """

    epochs: int
    most: int
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that the planner knows.

    Attributes:
        sources: the source tables by name.
        registered: what the registered specs say, by partition.
        manifests: what is published, by partition, its `spec` as JSON; one that is damaged is `{"error": why}`.
        contrasts: the tables of the published contrast sets, by name.
        in_flight: the unfinished run of a partition, or one that was asked for.
        failed: the run that made the version of a partition fail.
        broken: what keeps people from building of a source table of which nothing is built, where somebody looked into it.
        unfinished: the training after whose epochs a build of a run goes on.
    """

    sources: Mapping[str, TableState]
    registered: Mapping[Node, Registered]
    manifests: Mapping[Node, Mapping[str, Any]]
    contrasts: Mapping[str, TableState] = field(default_factory=dict)
    in_flight: Mapping[Node, Attempt] = field(default_factory=dict)
    failed: Mapping[Node, Attempt] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    unfinished: Mapping[Node, Unfinished] = field(default_factory=dict)

    def upstream(self, node: Node) -> tuple[Node, ...]:
        """Return the partitions that a partition reads directly."""
        wants = self.registered[node]
        found = [wants.upstream] if wants.upstream else []
        if wants.table:
            written = Node(CONTRAST, wants.table)
            reads_contrasts = node.asset == DATASET and wants.table not in self.sources and written in self.registered
            found.append(written if reads_contrasts else Node(SOURCE, wants.table))
        return tuple(found)


def registered(spec: PartitionSpec, digest: str, changed_at: float = 0.0) -> Registered:
    """Say what a spec tells about its partition.

    Args:
        digest: version of the spec with what is stored beside it.
        changed_at: when it was registered, in seconds since 1970.
    """
    reads: dict[str, Any] = {}
    match spec:
        case ContrastSpec():
            reads = {"table": spec.source, "columns": None}
        case DatasetSpec():
            reads = {"table": spec.source, "columns": _used(spec)}
        case RunSpec():
            reads = {"upstream": Node(DATASET, spec.dataset_key)}
        case InferenceSpec():
            reads = {"table": spec.source, "columns": _used(spec), "upstream": Node(RUN, spec.run_key)}
    return Registered(
        node=Node(spec.asset, spec.key),
        digest=digest,
        document=json.dumps(spec.document),
        folder=spec.folder,
        manual=spec.refresh == "manual",
        changed_at=changed_at,
        **reads,
    )


def expected_inputs(node: Node, world: World) -> dict[str, Any] | None:
    """Return the inputs that a build would record in its manifest now; None when one of them is not there."""
    inputs = {above.asset: input_of(above, world.registered[node], world) for above in world.upstream(node)}
    return None if None in inputs.values() else inputs


def wanted_version(node: Node, world: World) -> str:
    """Return the fingerprint of what a build would make now; empty when an input is not there."""
    inputs = expected_inputs(node, world)
    if inputs is None:
        return ""
    digest = world.registered[node].digest
    return build_version(digest, inputs, CODE_VERSIONS[node.asset])


def input_of(above: Node, wants: Registered, world: World) -> dict[str, Any] | None:
    """Return what a build would record of an input; None when it is not there."""
    if above.asset in (SOURCE, CONTRAST):
        table = (world.sources if above.asset == SOURCE else world.contrasts).get(above.key)
        if table is None or table.error:
            return None
        return {"name": above.key, "token": table.token, "columns": columns_of(wants, table)}
    manifest = world.manifests.get(above)
    return None if manifest is None or "error" in manifest else {"key": above.key, "fingerprint": manifest["fingerprint"]}


def columns_of(wants: Registered, table: TableState) -> dict[str, Any]:
    """Return the columns of a table that a build records, as `mimic_core.sources.columns_to_read` chooses them."""
    if wants.columns is None:
        return {name: dict(facts) for name, facts in table.columns.items()}
    names = dict.fromkeys((*KEYS, *(name for name in OPTIONAL if name in table.columns), *wants.columns))
    return {name: dict(table.columns[name]) if name in table.columns else None for name in names}


def _used(spec: DatasetSpec | InferenceSpec) -> tuple[str, ...]:
    return (*spec.features, *(condition.column for condition in spec.conditions))
