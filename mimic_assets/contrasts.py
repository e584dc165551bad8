"""Contrast sets: one step plans, one or more sample, one replaces the whole table with all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa

from mimic_assets.builds import (
    PartTask,
    begin,
    checked_blocks,
    dropped_count,
    manifest,
    note_pinned,
    notes,
    plan_steps,
    table_input,
    whole_outcome,
)
from mimic_assets.choices_shown import choice_sets_shown, paired_shown
from mimic_assets.failures import fails_clearly
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import contrast_sets, lineage_input
from mimic_assets.previews import preview_of
from mimic_assets.quality import CONTRACT, DISJOINT, check_spec, contract_result, disjoint_result, outs, published
from mimic_assets.shown import data_version_tag, metadata, said_of
from mimic_core import contrasts, outcomes
from mimic_core.balance import Balance, add_balances, balance, count_pairs, require_balance
from mimic_core.distributions import FeatureSample, add_samples, describe, sample_features
from mimic_core.errors import NotFoundError
from mimic_core.filters import check_filter
from mimic_core.manifests import fingerprint
from mimic_core.pace import describe_bytes
from mimic_core.profiles import add_alternatives, add_sizes, alternatives_document, choice_set_sizes, count_alternatives
from mimic_core.sources import SPLITS, TRAIN, check_schema, numeric_columns
from mimic_core.specs import ContrastSpec, contrast_folder
from mimic_core.tallies import Tally, add_tallies, tally
from resources.artefacts import ArtefactStore
from resources.compute import SHARDS, needs
from resources.inventory import Inventory
from resources.previews import Previews
from resources.specs import SpecStore
from resources.staging import Staged
from resources.tables import CONTRAST, SOURCE, Pin, TableStore

BALANCE = "contrast_balance"
CHECKS = [
    check_spec(
        "contrast_set", CONTRACT, "One selected choice per decision, no null or repeated keys, no individual in both splits."
    ),
    check_spec("contrast_set", DISJOINT, "No individual of the source has rows for training and for testing."),
    check_spec(
        "contrast_set",
        BALANCE,
        "Each decision is a pair of one selected and one rejected row; each individual has as many as the spec says.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class SampledPart:
    """What one step made of its shards.

    Attributes:
        tally: what it found in them.
        usable_individuals: how many have a decision with a rejected choice.
        pairs: split -> how many were sampled.
        balance: counted from the rows that were written.
        sample: of the training rows of the source, the features as they are; None where there are none.
        sizes: number of choices -> how many decisions of the source offer so many.
        alternatives: counts of the pairs by alternative; None without labels.
        staged: the pairs, which are not all there where the contract is broken.
    """

    tally: Tally
    usable_individuals: int
    pairs: dict[str, int]
    balance: Balance
    sample: FeatureSample | None
    sizes: dict[int, int]
    alternatives: pa.Table | None
    staged: Staged


def pin_source(spec: ContrastSpec, tables: TableStore) -> Pin:
    """Pin a contrast set's source table and check its columns and its destination."""
    tables.require_kind(spec.source, SOURCE)
    tables.require_kind(spec.key, CONTRAST)
    pin = tables.pin(spec.source)
    schema = tables.schema_of(pin)
    check_schema(schema, (), table=spec.source, weights=[spec.sampling.weights] if spec.sampling else [])
    check_filter(spec.conditions, schema, spec.source)
    contrasts.contrast_schema(schema, spec.source, spec.sampling)
    return pin


def pin_published(key: str, tables: TableStore, artefacts: ArtefactStore) -> Pin:
    """Pin the version of a contrast set that its manifest names.

    Raises:
        NotFoundError: the contrast set is not built.
    """
    document = artefacts.manifest(contrast_folder(key))
    if document is None:
        raise NotFoundError(
            f"contrast set {key} is not built; run `mimic log-odds build-contrast CONFIG` for it first "
            "(`mimic status` lists the contrast sets)"
        )
    return tables.pin(key, document["snapshot"])


@dg.op(ins={"source_table": dg.In(dg.Nothing)}, out=dg.DynamicOut(PartTask))
@fails_clearly
def plan_contrasts(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[PartTask[ContrastSpec]]]:
    """Pin the source table and divide its rows over steps."""
    stored = specs.get(ContrastSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    pin = pin_source(stored.spec, tables)
    hold(context, pin)
    columns = contrasts.contrast_schema(tables.schema_of(pin), pin.name, stored.spec.sampling)
    tables.ensure(stored.spec.key, columns, kind=CONTRAST)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(pin, tables), contrasts.CODE_VERSION)
    return plan_steps(context, build, pin, contrasts.rules(stored.spec), tables)


@dg.op(ins={"task": dg.In(PartTask)}, pool=SHARDS, tags=needs(cpu="1", memory="4Gi"))
@fails_clearly
def sample_part(context: dg.OpExecutionContext, task: PartTask[ContrastSpec], tables: TableStore) -> SampledPart:
    """Read, check and sample the decisions of some shards."""
    spec, rules = task.build.stored.spec, contrasts.rules(task.build.stored.spec)
    schema = tables.schema_of(task.pin)
    tallies: list[Tally] = []
    usable: list[int] = []
    balances: list[Balance] = []
    samples: list[FeatureSample] = []
    sizes: list[dict[int, int]] = []
    alternatives: list[pa.Table | None] = []
    pairs = dict.fromkeys(SPLITS, 0)

    def sampled() -> Iterator[pa.Table]:
        for block in checked_blocks(context, task, rules, tables, schema):
            tallies.append(tally(block, rules, whole=task.part.whole))
            if any(one.outcome.violations for one in tallies):
                continue
            usable.append(contrasts.usable_individuals(block.rows))
            sizes.append(choice_set_sizes(block.rows.counts))
            samples.append(sample_features(block, task.pin.rows, training=True, columns=numeric_columns(schema)))
            counts = []
            for part in contrasts.sample(block, spec):
                counts.append(count_pairs(part))
                alternatives.append(count_alternatives(part))
                train = part[TRAIN].combine_chunks().true_count // 2
                pairs["train"], pairs["test"] = pairs["train"] + train, pairs["test"] + len(part) // 2 - train
                yield part
            balances.append(balance(counts, contrasts.pairs_each(spec)))

    columns = contrasts.contrast_schema(schema, task.pin.name, spec.sampling)
    staged = tables.stage(spec.key, sampled(), task.part.name, columns)
    found = add_tallies(tallies)
    context.log.info(
        f"{task.part.name}: wrote {staged.rows:,} rows ({describe_bytes(staged.bytes)}), "
        f"pairs from {found.outcome.decisions:,} decisions"
    )
    return SampledPart(
        tally=found,
        usable_individuals=sum(usable),
        pairs=pairs,
        balance=add_balances(balances),
        sample=add_samples(samples),
        sizes=add_sizes(sizes),
        alternatives=add_alternatives(alternatives),
        staged=staged,
    )


@dg.op(
    ins={"tasks": dg.In(list), "sampled": dg.In(list)},
    out=outs(CHECKS),
)
@fails_clearly
def publish_contrasts(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[ContrastSpec]],
    sampled: list[SampledPart],
    tables: TableStore,
    artefacts: ArtefactStore,
    previews: Previews,
) -> Iterator[Any]:
    """Add up what the parts found, and replace the whole table if its source keeps the contract."""
    build, pin = tasks[0].build, tasks[0].pin
    found = add_tallies(part.tally for part in sampled)
    outcome = whole_outcome(tasks[0], found, contrasts.rules(build.stored.spec), tables)
    report = outcomes.document(outcome, tasks[0].left_out)
    answers = [contract_result("contrast_set", report), disjoint_result("contrast_set", report, found.individuals)]
    counts = _counts(sampled, found) | dropped_count(tasks[0])
    balanced, each = add_balances(part.balance for part in sampled), contrasts.pairs_each(build.stored.spec)
    staged = [part.staged for part in sampled]
    if not report["violations"]:
        answers.append(_balance_result(balanced, each))
    if report["violations"] or not counts["rows"] or not balanced.kept:
        yield from answers
        for part in staged:
            tables.discard(part)
    outcomes.require_kept(outcome, pin.name)
    contrasts.require_contrasts(counts["individuals"], outcome, pin.name)
    require_balance(balanced, build.stored.spec.key, each)
    document = _publish(context, tasks, sampled, counts, report, tables, artefacts)
    made = tables.pin(build.stored.spec.key, document["snapshot"])
    types = {field.name: str(field.type) for field in tables.schema_of(made)}
    size = sum(part.bytes for part in staged)
    context.log.info(f"table {document['table']}: {said_of(document, size)}")
    shown = metadata(document, document["table"], types, size) | preview_of(made, tables, previews.rows)
    yield dg.Output(None, "result", metadata=_choices(sampled) | shown, tags=data_version_tag(document))
    yield from answers  # before it, Dagster would take them for answers about the build before


@dg.graph_asset(
    partitions_def=contrast_sets,
    group_name="contrasts",
    kinds={"iceberg", "parquet"},
    ins={"source_table": lineage_input()},
    check_specs=CHECKS,
)
def contrast_set(source_table: Any) -> Any:
    """Pairs of one selected and one rejected choice, sampled evenly or by weights: small choice sets of a large table.

    - A partition is a table, `database.table`, such as `haven.example_log_odds_contrasts`. It is a decision table itself,
      in which every decision has two choices, and `_old_decision` and `_old_choice` name the rows of the source table.
    - It is registered by the job `register_contrast_set`, and built from its source table alone.
    - **Next**: launch `register_dataset` with this table and `max_choices` 2, and train on it.
    """
    tasks = plan_contrasts(source_table=source_table)
    return published(CHECKS, publish_contrasts(tasks.collect(), tasks.map(sample_part).collect()))


def _publish(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[ContrastSpec]],
    sampled: list[SampledPart],
    counts: dict[str, int],
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    build, pin, spec = tasks[0].build, tasks[0].pin, tasks[0].build.stored.spec
    schema = tables.schema_of(pin)
    inputs, staged = _inputs(pin, tables), [part.staged for part in sampled]
    # the number of shards does not change the rows, so it must not make anything below out of date
    token = fingerprint({"sampling": spec.deciding, "inputs": inputs, "code_version": contrasts.CODE_VERSION})[:24]
    publishing = artefacts.publishing(spec.folder, build.version, build.replaces)
    with tables.discarding(spec.key, staged), publishing as publication:
        if publication.done:
            return publication.done
        document = manifest(
            build,
            context.run_id,
            contrasts.CODE_VERSION,
            inputs,
            counts=counts,
            contract=report,
            table=spec.key,
            notes=notes(tasks),
            distributions=describe(add_samples(part.sample for part in sampled), numeric_columns(schema)),
        )
        publication.prepare(document)  # what cannot be published must fail before the table changes
        columns = contrasts.contrast_schema(schema, pin.name, spec.sampling)
        document["snapshot"] = tables.replace(spec.key, staged, None, columns=columns, token=token).snapshot
        publication.publish(document)
    return document


def _choices(sampled: list[SampledPart]) -> dict[str, Any]:
    """Return the pictures of the choice sets that were sampled from, and of what the pairs are."""
    alternatives = add_alternatives(part.alternatives for part in sampled)
    sizes = add_sizes(part.sizes for part in sampled)
    return choice_sets_shown(list(sizes.items()), "source_") | paired_shown(alternatives_document(alternatives))


def _inputs(pin: Pin, tables: TableStore) -> dict[str, Any]:
    return {"source_table": table_input(pin, tables.schema_of(pin), tables)}


def _balance_result(found: Balance, pairs_each: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.kept,
        asset_key="contrast_set",
        check_name=BALANCE,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "share selected": found.selected / found.rows if found.rows else 0.0,
            "pairs": found.pairs,
            "broken pairs": found.broken_pairs,
            "pairs of each individual": pairs_each,
            "individuals": found.individuals,
            "individuals with another number": found.uneven_individuals,
        },
    )


def _counts(sampled: list[SampledPart], found: Tally) -> dict[str, int]:
    pairs = {split: sum(part.pairs[split] for part in sampled) for split in SPLITS}
    usable = sum(part.usable_individuals for part in sampled)
    return {
        "rows": 2 * sum(pairs.values()),
        "decisions": sum(pairs.values()),
        **{f"{split}_decisions": pairs[split] for split in SPLITS},
        "individuals": usable,
        "source_decisions": found.outcome.decisions,
        "skipped_decisions": found.outcome.single_choice_decisions,
        "skipped_individuals": sum(found.individuals.values()) - usable,
    }
