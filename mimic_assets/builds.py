"""What every build of a partition shares: its pinned inputs, its steps, and its manifest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import dagster as dg
import numpy as np
import pyarrow as pa

from mimic_assets.live import VERSION
from mimic_assets.signs import Signs, spill_told
from mimic_core import contract, outcomes
from mimic_core.identifiers import surrogates
from mimic_core.manifests import build_version
from mimic_core.pace import describe_bytes, describe_seconds
from mimic_core.shards import Part, plan_parts
from mimic_core.sources import INDIVIDUAL, columns_to_read
from mimic_core.specs import InferenceSpec, RunSpec, TableReader
from mimic_core.tallies import Tally, in_both_splits
from resources.artefacts import ArtefactStore
from resources.reading import counted
from resources.specs import P, StoredSpec
from resources.tables import OnRows, Pin, TableStore

R = TypeVar("R", bound=TableReader)

RUN_COLUMNS = ("experiment_name", "run_id")
VERSION_DIGITS = 12  # of a token, shown
MANY_ROWS = 1_000_000  # that take a second to read


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
class PartTask(Generic[P]):
    """What one step builds over a pinned table.

    Attributes:
        part: the shards, and where their rows are.
        run: what an inference needs of its run's manifest; empty for the other stages.
        found: what is wrong with the whole table, where the plan looked at it and nothing is left out; else None.
        dropped: (decisions, 2) ids of the part's decisions to leave out; None where the spec drops none.
        left_out: the same for the whole table, in numbers.
        rows: how many all steps together read, where the table's files say it; else None.
    """

    build: Build[P]
    pin: Pin
    part: Part
    run: dict[str, Any]
    found: tuple[outcomes.Violation, ...] | None = None
    dropped: pa.Table | None = None
    left_out: outcomes.LeftOut | None = None
    rows: int | None = None


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
) -> str:
    """Note on this run which version it makes of the inputs that it pinned, and return that."""
    version = build_version(build.stored.digest, inputs, code_version)
    context.instance.add_run_tags(context.run.run_id, {VERSION: version})
    return version


def plan_steps(
    context: dg.OpExecutionContext,
    build: Build[R],
    pin: Pin,
    rules: contract.Rules,
    tables: TableStore,
    run: dict[str, Any] | None = None,
) -> list[dg.DynamicOutput[PartTask[R]]]:
    """Divide a build over a pinned table into steps; `run` is as in `PartTask`."""
    spec = build.stored.spec
    groups = tables.row_groups(pin)
    rows = None if groups is None else sum(group.rows for group in groups)
    parts = plan_parts(spec.partitions, groups, spec.shards_per_step)
    steps = f"{len(parts)} {'step' if len(parts) == 1 else 'steps'}"
    context.log.info(f"table {pin.name}: {pin.rows:,} rows, version {pin.token[:VERSION_DIGITS]}, to be read by {steps}")
    tasks = [PartTask(build=build, pin=pin, part=part, run=run or {}, rows=rows) for part in parts]
    # a filter, and what is wrong with a decision, may separate rows of it that are in different shards
    if spec.drops or rules.where:
        signs = Signs(context.log.info, f"table {pin.name}")
        checked = _check_whole(pin, rules, tables, signs.at)
        context.log.info(f"table {pin.name}: checked as a whole, in {describe_seconds(signs.seconds)}")
        tasks = _after(checked, tasks, spec.drops)
        for violation in checked.outcome.violations:
            context.log.warning(f"table {pin.name}: {'left out: ' if spec.drops else ''}{violation}")
    return [dg.DynamicOutput(task, mapping_key=task.part.name) for task in tasks]


def checked_blocks(
    context: dg.OpExecutionContext,
    task: PartTask[R],
    rules: contract.Rules,
    tables: TableStore,
    columns: pa.Schema | None = None,
) -> Iterator[contract.Block]:
    """Stream and check the rows of a part; `columns` are those that the rules need, unless told."""
    columns = columns or columns_to_read(tables.schema_of(task.pin), rules.columns, rules.where)
    name = task.part.name

    rows, size, signs = 0, 0, Signs(context.log.info, name)
    for table in tables.blocks(task.pin, columns, task.part, spill_told(context.log.info, name), signs.at):
        rows, size = rows + len(table), size + table.nbytes
        yield contract.check_block(table, rules, task.dropped)
    took = describe_seconds(signs.seconds)
    context.log.info(f"{name}: read {rows:,} rows of table {task.pin.name} ({describe_bytes(size)} in memory), in {took}")


def manifest(build: Build[Any], run_id: str, code_version: str, inputs: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Compose the manifest of a build; its fingerprint covers what defines the rows and nothing else."""
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


def whole_outcome(
    task: PartTask[R],
    found: Tally,
    rules: contract.Rules,
    tables: TableStore,
) -> outcomes.Outcome:
    """Return what the contract found in the whole table; `found` are the tallies of all parts.

    Raises:
        TableError: the parts did not read all of it.
    """
    if task.rows is not None:
        outcomes.require_all_read(found.rows_read, task.rows, task.pin.name)
    outcome = found.outcome
    of_parts = (*in_both_splits(found), *outcome.violations)
    if not of_parts and not task.found:
        return outcome
    # a part takes what another one holds for missing, so the table is described as a whole
    whole = _check_whole(task.pin, rules, tables).outcome.violations if task.found is None else task.found
    return replace(outcome, violations=whole or of_parts)


def dropped_count(task: PartTask[Any]) -> dict[str, int]:
    """Return the count of decisions that were left out; empty where the spec drops none."""
    return {"dropped_decisions": task.left_out.decisions} if task.left_out else {}


def notes(tasks: Sequence[PartTask[Any]]) -> list[str]:
    """Say what is wrong with the decisions that were left out, and where a large table was read many times over."""
    task, steps = tasks[0], len(tasks)
    by_hash = any(shard.span is None and shard.count > 1 for part in tasks for shard in part.part.shards)
    said = []
    if steps > 1 and by_hash and task.pin.rows >= MANY_ROWS:
        said.append(
            f"each of {steps} steps read all {task.pin.rows:,} rows: they are in no order of _individual, their row groups "
            "are too large, or ids are text; import them in that order, or give a larger shards_per_step"
        )
    violations = task.left_out.violations if task.left_out else ()
    return said + [f"left out: {violation}" for violation in violations]


def _check_whole(
    pin: Pin, rules: contract.Rules, tables: TableStore, on_rows: OnRows = lambda *_, **__: None
) -> outcomes.Checked:
    columns = columns_to_read(tables.schema_of(pin), rules.columns, rules.where)

    def read() -> Iterator[pa.RecordBatch]:
        return counted(tables.batches(pin, columns.names), lambda rows: on_rows("checked", rows, pin.rows))

    return contract.check_table(read, pin.rows, rules)


def _after(checked: outcomes.Checked, tasks: list[PartTask[R]], drops: bool) -> list[PartTask[R]]:
    """Tell the steps what the plan found in the whole table."""
    violations = checked.outcome.violations
    if not drops:
        return [replace(task, found=violations) for task in tasks]
    left_out = outcomes.LeftOut(decisions=len(checked.offending), violations=violations)
    return [replace(task, dropped=_of_part(checked.offending, task.part), left_out=left_out) for task in tasks]


def _of_part(decisions: pa.Table, part: Part) -> pa.Table:
    if not len(decisions):
        return decisions
    individual, train = surrogates(decisions[INDIVIDUAL]), np.ones(len(decisions), np.bool_)
    return decisions.filter(pa.array(part.holds(individual, train) | part.holds(individual, ~train)))
