"""What every build of a partition shares: its pinned inputs, its manifest, and the metadata that Dagster shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlencode

import dagster as dg
import pyarrow as pa

from mimic_assets.live import VERSION
from mimic_assets.partitions import BY_ASSET
from mimic_core import contract
from mimic_core.identifiers import surrogates
from mimic_core.manifests import build_version
from mimic_core.sources import INDIVIDUAL, Shard, columns_to_read, select_shard, shard_index, shards
from mimic_core.specs import InferenceSpec, RunSpec, TableReader
from mimic_core.world import SOURCE
from resources.artefacts import ArtefactStore
from resources.specs import P, StoredSpec
from resources.tables import Pin, TableStore

R = TypeVar("R", bound=TableReader)

RUN_COLUMNS = ("experiment_name", "run_id")
CONTRACT = "decision_table_contract"


@dataclass(frozen=True, kw_only=True)
class Build(Generic[P]):
    """One build of one partition, decided when it begins and the same in all of its steps.

    Attributes:
        stored: the spec that is built.
        version: name of the new version's folder within the partition's folder.
        replaces: token of what was published when the build began.
        began_at: when that was, in seconds since 1970.
    """

    stored: StoredSpec[P]
    version: str
    replaces: str | None
    began_at: float

    @property
    def folder(self) -> str:
        """The new version's folder."""
        return f"{self.stored.spec.folder}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class ShardTask(Generic[P]):
    """One shard of a build over a pinned table.

    Attributes:
        run: what an inference needs of its run's manifest; empty for the other stages.
        found: what is wrong with the whole table, where the plan looked at it and nothing is left out; else None.
        dropped: (decisions, 2) ids of the shard's decisions to leave out; None where the spec drops none.
        left_out: the same for the whole table, in numbers.
    """

    build: Build[P]
    pin: Pin
    shard: Shard
    run: dict[str, Any]
    found: tuple[contract.Violation, ...] | None = None
    dropped: pa.Table | None = None
    left_out: contract.LeftOut | None = None


def rows_of_run(spec: RunSpec | InferenceSpec) -> dict[str, str]:
    """Return the values of the key columns that all rows of a run have in a table that many runs share."""
    return {name: getattr(spec, name) for name in RUN_COLUMNS}


def begin(stored: StoredSpec[P], artefacts: ArtefactStore, run_id: str) -> Build[P]:
    """Begin a build: name its version folder and note what it is to replace."""
    now = datetime.now(UTC)
    version = f"{now:%Y%m%dT%H%M%SZ}-{run_id[:8]}"
    return Build(stored=stored, version=version, replaces=artefacts.published(stored.spec.folder), began_at=now.timestamp())


def note_pinned(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, build: Build[Any], inputs: dict[str, Any], code_version: str
) -> None:
    """Note on this run which version it makes of the inputs that it pinned."""
    context.instance.add_run_tags(context.run.run_id, {VERSION: build_version(build.stored.digest, inputs, code_version)})


def plan_shards(
    context: dg.OpExecutionContext,
    build: Build[R],
    pin: Pin,
    rules: contract.Rules,
    tables: TableStore,
    run: dict[str, Any] | None = None,
) -> list[dg.DynamicOutput[ShardTask[R]]]:
    """List the shards of a build over a pinned table, one step each; `run` is as in `ShardTask`."""
    spec = build.stored.spec
    context.log.info(f"table {pin.name}: {pin.rows:,} rows, version {pin.token}")
    tasks = [ShardTask(build=build, pin=pin, shard=shard, run=run or {}) for shard in shards(spec.partitions)]
    # a filter, and what is wrong with a decision, may separate rows of it that are in different shards
    if spec.drops or rules.where:
        checked = _check_whole(pin, rules, tables)
        tasks = _after(checked, tasks, spec.drops)
        for violation in checked.outcome.violations:
            context.log.warning(f"table {pin.name}: {'left out: ' if spec.drops else ''}{violation}")
    return [dg.DynamicOutput(task, mapping_key=task.shard.name) for task in tasks]


def checked_shard(
    task: ShardTask[R], rules: contract.Rules, tables: TableStore, columns: pa.Schema | None = None
) -> contract.CheckedShard:
    """Read and check the rows of a shard; `columns` are those that the rules need, unless told."""
    columns = columns or columns_to_read(tables.schema_of(task.pin), rules.features, rules.where)
    rows = select_shard(tables.batches(task.pin, columns.names), columns, task.shard)
    return contract.check_shard(rows, rules, task.dropped)


def manifest(build: Build[Any], run_id: str, code_version: str, inputs: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Compose the manifest of a build; its fingerprint covers everything that defines the result and nothing else."""
    spec, now = build.stored.spec, datetime.now(UTC)
    return {
        "asset": spec.asset,
        "key": spec.key,
        "version": build.version,
        "fingerprint": build_version(build.stored.digest, inputs, code_version),
        "built_at": now.isoformat(timespec="milliseconds"),
        "seconds": round(now.timestamp() - build.began_at, 3),
        "dagster_run_id": run_id,
        "code_version": code_version,
        "spec": spec.document,
        "spec_digest": build.stored.digest,
        "inputs": inputs,
        **facts,
    }


def table_input(pin: Pin, columns: pa.Schema, tables: TableStore) -> dict[str, Any]:
    """Describe a pinned table as an input: its content and the columns that the build uses, not the others."""
    ids = tables.field_ids(pin)
    return {
        "name": pin.name,
        "token": pin.token,
        "columns": {field.name: {"id": ids.get(field.name), "type": str(field.type)} for field in columns},
    }


def metadata(document: dict[str, Any], location: str, columns: dict[str, str]) -> dict[str, Any]:
    """Return what Dagster shows of a build: counts, location, input versions, columns, metrics."""
    numbers = document["counts"] | document.get("metrics", {})
    return {
        **({"dagster/row_count": numbers["rows"]} if "rows" in numbers else {}),
        **{name: _number(value) for name, value in numbers.items() if value is not None},
        "version": document["version"],
        "dagster/uri": location,
        "upstream": dg.MetadataValue.md(_upstream(document["inputs"])),
        "inputs": dg.MetadataValue.json(document["inputs"]),
        "spec": dg.MetadataValue.json(document["spec"]),
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()]),
    }


def whole_outcome(
    task: ShardTask[R],
    parts: Iterable[contract.Outcome],
    across: Sequence[contract.Violation],
    rules: contract.Rules,
    tables: TableStore,
) -> contract.Outcome:
    """Return what the contract found in the whole table.

    Args:
        parts: what it found in the shards.
        across: broken rules that no shard can see.
    """
    outcome = contract.add_up(parts)
    of_shards = (*across, *outcome.violations)
    if not of_shards and not task.found:
        return outcome
    # a shard takes what another one holds for missing, so the table is described as a whole
    whole = _check_whole(task.pin, rules, tables).outcome.violations if task.found is None else task.found
    return replace(outcome, violations=whole or of_shards)


def contract_check(asset: str, description: str) -> dg.AssetCheckSpec:
    """Declare the check by which an asset shows what the contract found."""
    return dg.AssetCheckSpec(CONTRACT, asset=asset, description=description, partitions_def=BY_ASSET[asset])


def contract_result(asset: str, report: dict[str, Any]) -> dg.AssetCheckResult:
    """Return what that check shows of one build; decisions that were left out are a warning."""
    return dg.AssetCheckResult(
        passed=not report["violations"] and not report["left_out"],
        asset_key=asset,
        check_name=CONTRACT,
        severity=dg.AssetCheckSeverity.ERROR if report["violations"] else dg.AssetCheckSeverity.WARN,
        metadata={
            "broken rules": _listed(report["violations"]),
            "left out": _listed(report["left_out"]),
            "dropped decisions": report["dropped_decisions"],
            "outcome": dg.MetadataValue.json(report),
        },
    )


def dropped_count(task: ShardTask[Any]) -> dict[str, int]:
    """Return the count of decisions that were left out; empty where the spec drops none."""
    return {"dropped_decisions": task.left_out.decisions} if task.left_out else {}


def dropped_notes(task: ShardTask[Any]) -> list[str]:
    """Say what is wrong with the decisions that were left out."""
    return [f"left out: {violation}" for violation in task.left_out.violations] if task.left_out else []


class PartOfSplit(Protocol):
    """What a step made of its shard."""

    @property
    def shard(self) -> Shard: ...

    @property
    def individuals(self) -> pa.Array: ...


def individuals_of(parts: Sequence[PartOfSplit], split: str) -> pa.Array:
    """Return (individuals,) the ids that the shards of a split hold."""
    return pa.concat_arrays([part.individuals for part in parts if part.shard.split == split])


def data_version_tag(document: dict[str, Any]) -> dict[str, str]:
    """Return the tag by which Dagster keeps a data version: the manifest's fingerprint."""
    return {"dagster/data_version": document["fingerprint"]}


def _check_whole(pin: Pin, rules: contract.Rules, tables: TableStore) -> contract.Checked:
    columns = columns_to_read(tables.schema_of(pin), rules.features, rules.where)
    return contract.check_table(lambda: tables.batches(pin, columns.names), pin.rows, rules)


def _after(checked: contract.Checked, tasks: list[ShardTask[R]], drops: bool) -> list[ShardTask[R]]:
    """Tell the shards what the plan found in the whole table."""
    violations = checked.outcome.violations
    if not drops:
        return [replace(task, found=violations) for task in tasks]
    left_out = contract.LeftOut(decisions=len(checked.offending), violations=violations)
    return [replace(task, dropped=_of_shard(checked.offending, task.shard), left_out=left_out) for task in tasks]


def _listed(violations: Sequence[dict[str, Any]]) -> str:
    return "; ".join(str(contract.Violation(**violation)) for violation in violations) or "none"


def _of_shard(decisions: pa.Table, shard: Shard) -> pa.Table:
    mine = shard_index(surrogates(decisions[INDIVIDUAL]), shard.count) == shard.index if len(decisions) else []
    return decisions.filter(pa.array(mine, pa.bool_()))


def _upstream(inputs: dict[str, Any]) -> str:
    """Link the pages of the partitions that a build read, with the beginnings of the versions that it used."""
    rows = ["| asset | partition | version |", "|---|---|---|"]
    for asset, facts in inputs.items():
        key, version = facts.get("name", facts.get("key")), facts.get("token", facts.get("fingerprint"))
        # tables are observed and have no page for each partition
        page = urlencode({"view": "events" if asset == SOURCE else "partitions", "partition": key})
        rows.append(f"| {asset} | [{key}](/assets/{asset}?{page}) | {version[:12]} |")
    return "\n".join(rows)


def _number(value: Any) -> int | float:
    # a NumPy number in event metadata cannot be stored; the manifest has all digits
    return int(value) if isinstance(value, int) else float(f"{value:.6g}")
