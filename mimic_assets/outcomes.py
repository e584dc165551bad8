"""Outcomes: what came of partitions that somebody had built, with the numbers that a command prints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mimic_core.run_names import name_run
from mimic_core.specs import PartitionSpec, RunSpec

if TYPE_CHECKING:
    from resources.artefacts import ArtefactStore

OF_TABLE = ("coefficients", "not_identified", "separated", "withheld")  # what is told of a table of coefficients


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its Dagster run id (None where there was none), and what went wrong (None when nothing did)."""

    run_id: str | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one partition: the object that `--json` prints."""

    asset: str
    key: str
    status: str
    dagster_run_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    location: str | None = None
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    coefficients: list[dict[str, Any]] = field(default_factory=list)
    not_identified: list[str] = field(default_factory=list)
    separated: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def name_model(spec: PartitionSpec) -> str | None:
    """Name the model of a run with its seed, which tells it from others better than its id; None for other partitions."""
    if not isinstance(spec, RunSpec):
        return None
    return name_run(spec) + (f", seed {spec.model.seed}" if not spec.model.linear else "")


def registered(specs: Sequence[PartitionSpec]) -> list[Outcome]:
    """Return what came of specs that were registered and not built."""
    return [Outcome(**_named(spec), status="registered") for spec in specs]


def outcome_of(spec: PartitionSpec, ended: Ended, artefacts: "ArtefactStore") -> Outcome:
    """Return what came of a partition whose run ended, with what is published of it."""
    from mimic_assets.coefficients import read_table

    facts: dict[str, Any] = _named(spec) | {"dagster_run_id": ended.run_id}
    if ended.error is not None:
        return Outcome(**facts, status="failed", error=ended.error)
    document = artefacts.manifest(spec.folder)
    if document is None:
        return Outcome(**facts, status="failed", error=f"{spec.folder}: it was removed after it had been built")
    table = read_table(spec, document, artefacts) if isinstance(spec, RunSpec) else None
    return Outcome(
        **facts,
        status="built",
        **{name: table[name] for name in OF_TABLE if table},
        counts=document["counts"],
        location=document.get("table") or artefacts.where(f"{spec.folder}/{document['version']}"),
        metrics=document.get("metrics", {}),
        effects=document.get("effects", []),
        notes=document.get("notes", []),
    )


def _named(spec: PartitionSpec) -> dict[str, Any]:
    return {"asset": spec.asset, "key": spec.key, "run_id": getattr(spec, "run_id", None), "model": name_model(spec)}
