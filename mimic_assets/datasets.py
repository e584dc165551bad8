"""TFRecord datasets: one step plans, one or more encode the shards, one publishes them together."""

from collections.abc import Iterator
from contextlib import ExitStack
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
from mimic_assets.contrasts import pin_published
from mimic_assets.failures import fails_clearly
from mimic_assets.live import hold, note_version
from mimic_assets.partitions import lineage_input, tfrecord_datasets
from mimic_assets.pictures import picture
from mimic_assets.previews import head_entries, preview_of_dataset
from mimic_assets.quality import CONTRACT, DISJOINT, check_spec, contract_result, disjoint_result, outs, published
from mimic_assets.shown import data_version_tag, metadata, said_of
from mimic_core import datasets, outcomes, plots
from mimic_core.distributions import FeatureSample, add_samples, describe, sample_features, with_missing_replaced
from mimic_core.filters import check_filter
from mimic_core.manifests import seal
from mimic_core.pace import describe_bytes
from mimic_core.sources import OPTIONAL, SPLITS, check_schema, columns_to_read
from mimic_core.specs import DatasetSpec, contrast_folder
from mimic_core.tallies import Tally, add_tallies, tally
from resources.artefacts import ArtefactStore
from resources.compute import SHARDS, needs
from resources.inventory import Inventory
from resources.previews import Previews
from resources.shard_files import writing
from resources.specs import SpecStore
from resources.tables import CONTRAST, SOURCE, Pin, TableStore

CHECKS = [
    check_spec(
        "tfrecord_dataset",
        CONTRACT,
        "One selected choice per decision, no null or repeated keys, finite features, no individual in both splits.",
    ),
    check_spec("tfrecord_dataset", DISJOINT, "No individual has decisions for training and for testing."),
]


@dataclass(frozen=True, kw_only=True)
class BuiltPart:
    """What one step made of its shards; without files where the contract is broken.

    Attributes:
        tally: what it found in them, in numbers of what the files hold.
        sampled_decisions: how many offered more than `max_choices` and had their choices sampled.
        files: manifest entries of their files.
        id_tables: those of their id tables, where the table's ids are text.
        labels: the values of `_alternative`, where the table has it.
        sample: the features of training rows, before choices were sampled; None over a contrast set, which tells of its own.
    """

    tally: Tally
    sampled_decisions: int
    files: list[dict[str, Any]]
    id_tables: list[dict[str, Any]]
    labels: pa.Table
    sample: FeatureSample | None


def pin_source(spec: DatasetSpec, tables: TableStore, artefacts: ArtefactStore) -> Pin:
    """Pin a dataset's source, a table or a contrast set, and check that its columns fit the spec."""
    tables.require_kind(spec.source, SOURCE, CONTRAST)
    pin = tables.pin(spec.source) if tables.kind(spec.source) != CONTRAST else pin_published(spec.source, tables, artefacts)
    schema = tables.schema_of(pin)
    check_schema(schema, spec.features, table=spec.source)
    check_filter(spec.conditions, schema, spec.source)
    return pin


@dg.op(ins={"source_table": dg.In(dg.Nothing), "contrast_set": dg.In(dg.Nothing)}, out=dg.DynamicOut(PartTask))
@fails_clearly
def plan_dataset(
    context: dg.OpExecutionContext, specs: SpecStore, tables: TableStore, artefacts: ArtefactStore, inventory: Inventory
) -> list[dg.DynamicOutput[PartTask[DatasetSpec]]]:
    """Pin the source and divide its rows over steps."""
    stored = specs.get(DatasetSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    pin = pin_source(stored.spec, tables, artefacts)
    hold(context, pin)
    build = begin(stored, artefacts, context.run_id)
    note_pinned(context, build, _inputs(stored.spec, pin, tables), datasets.CODE_VERSION)
    return plan_steps(context, build, pin, datasets.rules(stored.spec), tables)


@dg.op(ins={"task": dg.In(PartTask)}, pool=SHARDS, tags=needs(cpu="1", memory="4Gi"))
@fails_clearly
def build_dataset_part(
    context: dg.OpExecutionContext, task: PartTask[DatasetSpec], tables: TableStore, artefacts: ArtefactStore
) -> BuiltPart:
    """Read, check and encode the decisions of some shards."""
    spec, folder = task.build.stored.spec, task.build.folder
    rules, tallies, labels, sampled = datasets.rules(spec), [], datasets.join_labels([], task.pin.name), 0
    features: list[FeatureSample] = []
    with ExitStack() as stack:
        files = [stack.enter_context(writing(shard, spec, folder, artefacts)) for shard in task.part.shards]
        kept = True
        for whole in checked_blocks(context, task, rules, tables):
            block = datasets.within_max_choices(whole, spec)
            sampled += int((block.rows.counts < whole.rows.counts).sum())
            tallies.append(tally(block, rules, whole=task.part.whole))
            kept = kept and not block.outcome.violations
            if kept:
                # not of the block, where a large decision has its selected choice and only some of the others
                if task.pin.kind != CONTRAST:
                    features.append(sample_features(whole, task.pin.rows, training=True))
                labels = datasets.join_labels([labels, datasets.labels(block)], task.pin.name)  # at once: they are few
                for place, rows in datasets.by_shard(block, task.part):
                    files[place].add(rows)
                for place, ids in datasets.ids_by_shard(block, task.part):
                    files[place].add_ids(ids)
        for file in files if not kept else ():
            file.discard()
    entries = [file.entry for file in files] if kept else []
    for entry in entries:
        context.log.info(f"wrote {entry['path']}: {entry['decisions']:,} decisions, {describe_bytes(entry['bytes'])}")
    id_tables = [entry for file in files if kept for entry in file.write_ids(folder, artefacts)]
    return BuiltPart(
        tally=add_tallies(tallies),
        sampled_decisions=sampled,
        files=entries,
        id_tables=id_tables,
        labels=labels,
        sample=add_samples(features),
    )


@dg.op(
    ins={"tasks": dg.In(list), "built": dg.In(list)},
    out=outs(CHECKS),
)
@fails_clearly
def publish_dataset(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[DatasetSpec]],
    built: list[BuiltPart],
    tables: TableStore,
    artefacts: ArtefactStore,
    previews: Previews,
) -> Iterator[Any]:
    """Add up what the parts found, and publish their shards if the table keeps the contract."""
    build, pin = tasks[0].build, tasks[0].pin
    found = add_tallies(part.tally for part in built)
    outcome = whole_outcome(tasks[0], found, datasets.rules(build.stored.spec), tables)
    report = outcomes.document(outcome, tasks[0].left_out)
    answers = [contract_result("tfrecord_dataset", report), disjoint_result("tfrecord_dataset", report, found.individuals)]
    counts = _counts(found, built, build.stored.spec) | dropped_count(tasks[0])
    if report["violations"] or not counts["train_individuals"]:
        yield from answers
        artefacts.discard(build.folder)
    outcomes.require_kept(outcome, pin.name)
    datasets.require_trainable(counts["train_individuals"], outcome.rows, pin.name)
    document = _publish(context, tasks, built, counts, report, tables, artefacts)
    context.log.info(said_of(document))
    features = build.stored.spec.features
    shown = metadata(document, artefacts.where(build.folder), dict.fromkeys(features, "float32"))
    shown |= _shards_shown(document["files"])
    if previews.rows:
        with artefacts.local_folder(build.folder, head_entries(document)) as folder:
            shown |= preview_of_dataset(folder, len(features), previews.rows)
    yield dg.Output(None, "result", metadata=shown, tags=data_version_tag(document))
    yield from answers  # before it, Dagster would take them for answers about the build before


@dg.graph_asset(
    partitions_def=tfrecord_datasets,
    group_name="datasets",
    kinds={"tensorflow", "tfrecord"},
    ins={"source_table": lineage_input(), "contrast_set": lineage_input()},
    check_specs=CHECKS,
)
def tfrecord_dataset(source_table: Any, contrast_set: Any) -> Any:
    """The decisions of a table as files to train from: sharded TFRecord files, one `tf.train.Example` for each decision.

    - A partition is `space/dataset`, such as `mimic-log-odds/example-dataset`. It is registered by the job
      `register_dataset`, and reads one source table or one contrast set.
    - The features are float32, missing values filled in as its spec says; training and test individuals are in files of
      their own. A page of a partition shows how many decisions there are, and what a build left out.
    - **Next**: launch `register_experiment` to train models on it.
    """
    tasks = plan_dataset(source_table=source_table, contrast_set=contrast_set)
    return published(CHECKS, publish_dataset(tasks.collect(), tasks.map(build_dataset_part).collect()))


def _publish(
    context: dg.OpExecutionContext,
    tasks: list[PartTask[DatasetSpec]],
    built: list[BuiltPart],
    counts: dict[str, int],
    report: dict[str, Any],
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    build, pin, spec = tasks[0].build, tasks[0].pin, tasks[0].build.stored.spec
    files = sorted((file for part in built for file in part.files), key=_in_order)
    id_tables = sorted((ids for part in built for ids in part.id_tables), key=_in_order)
    inputs = _inputs(spec, pin, tables)
    with artefacts.publishing(spec.folder, build.version, build.replaces) as publication:
        if publication.done:
            return publication.done
        optional = [name for name in OPTIONAL if name in tables.schema_of(pin).names]
        labels = datasets.join_labels([part.labels for part in built], pin.name)
        sealed = seal(datasets.schema_document(spec, files, id_tables, optional, datasets.listed_labels(labels)))
        document = manifest(
            build,
            context.run_id,
            datasets.CODE_VERSION,
            inputs,
            counts=counts,
            contract=report,
            schema={"path": "schema.json", **artefacts.write(f"{build.folder}/schema.json", [sealed])},
            files=files,
            id_tables=id_tables,
            notes=notes(tasks) + datasets.sampled_note(counts.get("sampled_decisions", 0), spec),
            distributions=_distributions(spec, pin, built, artefacts),
        )
        publication.publish(document)
    return document


def _inputs(spec: DatasetSpec, pin: Pin, tables: TableStore) -> dict[str, Any]:
    columns = columns_to_read(tables.schema_of(pin), spec.features, spec.conditions)
    return {"contrast_set" if pin.kind == CONTRAST else "source_table": table_input(pin, columns, tables)}


def _distributions(spec: DatasetSpec, pin: Pin, built: list[BuiltPart], artefacts: ArtefactStore) -> dict[str, Any] | None:
    """Return how the features of the training rows are distributed; None where that is not known.

    Of a contrast set those of its source, as half of its own rows are selected ones, unlike any table to which a run on it
    is applied.
    """
    if pin.kind != CONTRAST:
        return describe(add_samples(part.sample for part in built), spec.features)
    below = artefacts.manifest(contrast_folder(spec.source))
    if below is None or below["snapshot"] != pin.snapshot or spec.conditions:  # built anew meanwhile, or other rows
        return None
    return with_missing_replaced(below.get("distributions"), spec.features, spec.missing_values_map)


def _shards_shown(files: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = [file["decisions"] for file in files]
    numbers = {"shards": len(sizes), "smallest_shard_decisions": min(sizes), "largest_shard_decisions": max(sizes)}
    return numbers | {"shard_sizes": picture("shard_sizes", plots.shard_sizes(files))}


def _in_order(entry: dict[str, Any]) -> tuple[bool, str]:
    """Sort files by split, training first, and shard."""
    return "test" in entry["path"], entry["path"]


def _counts(found: Tally, built: list[BuiltPart], spec: DatasetSpec) -> dict[str, int]:
    samples = spec.overflow == "sample"
    return {
        "rows": sum(found.rows.values()),
        "decisions": found.outcome.decisions,
        **{f"{split}_decisions": found.decisions[split] for split in SPLITS},
        **{f"{split}_individuals": found.individuals[split] for split in SPLITS},
        "single_choice_decisions": found.outcome.single_choice_decisions,
        "largest_choice_set": min(found.outcome.largest_choice_set, spec.max_choices),
        **({"sampled_decisions": sum(part.sampled_decisions for part in built)} if samples else {}),
    }
