"""Model runs: one step trains one model of an experiment, with its epochs observable while it trains."""

from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from mimic_assets.alternatives import alternatives_shown, labelled
from mimic_assets.builds import (
    RUN_COLUMNS,
    Build,
    begin,
    manifest,
    note_pinned,
)
from mimic_assets.coefficients import coefficients_shown
from mimic_assets.epochs import RESULTS_SCHEMA, begin_epochs, replace_epochs, say_unfinished
from mimic_assets.failures import fails_clearly
from mimic_assets.layers_code import require_allowed
from mimic_assets.live import note_version
from mimic_assets.partitions import lineage, model_runs
from mimic_assets.pictures import picture
from mimic_assets.previews import last_epochs_shown
from mimic_assets.run_files import COEFFICIENTS, INDIVIDUALS
from mimic_assets.shown import data_version_tag, metadata, notes_shown, said_of, stored_bytes
from mimic_assets.signs import Signs
from mimic_core import datasets, distribution_plots, plots, runs, splits
from mimic_core.backend import import_keras
from mimic_core.distributions import with_missing_replaced
from mimic_core.errors import NotFoundError
from mimic_core.identifiers import parquet_bytes
from mimic_core.manifests import seal
from mimic_core.pace import describe_bytes, describe_seconds
from mimic_core.run_names import name_run
from mimic_core.sources import SPLITS
from mimic_core.specs import RunSpec
from mimic_core.streams import Stream, watched
from resources.artefacts import ArtefactStore
from resources.compute import TRAINING, needs
from resources.file_cache import Coming
from resources.inventory import Inventory
from resources.previews import Previews
from resources.specs import SpecStore, StoredSpec
from resources.tables import RESULTS, TableStore
from resources.trainings import HISTORY, end_training, epoch_line

if TYPE_CHECKING:
    import pyarrow as pa


@dg.asset(
    partitions_def=model_runs,
    deps=[lineage("tfrecord_dataset")],
    group_name="models",
    kinds={"keras"},
    pool=TRAINING,
    op_tags=needs(gpu=1, cpu="4", memory="16Gi"),
)
@fails_clearly
def model_run(
    context: dg.AssetExecutionContext,
    specs: SpecStore,
    tables: TableStore,
    artefacts: ArtefactStore,
    inventory: Inventory,
    previews: Previews,
) -> dg.MaterializeResult[Any]:
    """A trained log-odds model: a linear one (the conditional logit) or a neural network, with its epochs and its fit.

    - A partition is `space/experiment/` and twelve digits of the run id, a hash of what was set for that model. The job
      `register_experiment` registers one for every model of an experiment.
    - While it trains, its epochs appear as observations. Then its page shows the learning curve and, for each split, the
      negative log-likelihood (`nll`, lower is better), rho-squared and accuracy, and of a linear run the coefficients.
      The columns are those of the results table, which has a row for each epoch.
    - **Next**: materialize `experiment_report` to compare the runs of the experiment, or launch `register_inference`.
    """
    stored = specs.get(RunSpec, context.partition_key)
    note_version(context, stored.spec, inventory)
    spec = stored.spec
    require_allowed(stored.layers, f"the layers file of {spec.key}")
    dataset = dataset_manifest(spec, artefacts)
    tables.ensure(spec.results, RESULTS_SCHEMA, kind=RESULTS, partition_by=RUN_COLUMNS)
    build = begin(stored, artefacts, context.run.run_id)
    version = note_pinned(context, build, _inputs(spec, dataset), runs.CODE_VERSION)
    with ExitStack() as unless_finished:
        unless_finished.callback(say_unfinished, context, spec, version, tables, artefacts)
        trained = _train(context, stored, dataset, version, artefacts)
        document = _publish(context, build, dataset, trained, tables, artefacts)
        unless_finished.pop_all()
    context.log.info(said_of(document))
    shown = {"run_id": spec.run_id} | _shown(trained, document)
    return dg.MaterializeResult(
        metadata=shown
        | metadata(document, artefacts.where(build.folder), _types(RESULTS_SCHEMA))
        | last_epochs_shown(trained.history, previews.rows),
        tags=data_version_tag(document),
    )


def dataset_manifest(spec: RunSpec, artefacts: ArtefactStore) -> dict[str, Any]:
    """Return the manifest of a run's dataset, checked against the run's spec.

    Raises:
        NotFoundError: the dataset is not built.
        SpecError: the dataset lacks a feature, or has decisions larger than the run's `max_choices`.
    """
    dataset = artefacts.manifest(spec.dataset_folder)
    if dataset is None:
        raise NotFoundError(
            f"dataset {spec.dataset_key} is not built; run `mimic log-odds build-dataset CONFIG` for it first "
            "(`mimic status` lists the datasets)"
        )
    splits.feature_columns(dataset["spec"], list(spec.features))
    splits.feature_columns(dataset["spec"], list(spec.columns.inputs), "interactions")
    datasets.require_fits(spec.max_choices, dataset["counts"]["largest_choice_set"], spec.dataset_key)
    return dataset


def _train(
    context: dg.AssetExecutionContext,
    stored: StoredSpec[RunSpec],
    dataset: dict[str, Any],
    version: str,
    artefacts: ArtefactStore,
) -> runs.TrainedRun:
    spec, signs = stored.spec, Signs(context.log.info)
    source, entries = f"{spec.dataset_folder}/{dataset['version']}", [dataset["schema"], *dataset["files"]]
    with artefacts.coming_folder(source, entries, partial(signs.at, "dataset: fetched", unit="bytes")) as coming:
        if not spec.model.linear:
            import_keras()  # which takes seconds, while the first files come
        train, test = (_open(coming, split, spec, signs) for split in SPLITS)
        size, took = describe_bytes(stored_bytes(dataset)), describe_seconds(signs.seconds)
        context.log.info(
            f"dataset {spec.dataset_key}, version {dataset['version']}: {train.decisions:,} training and "
            f"{test.decisions:,} test decisions, {size}, opened in {took}"
        )
        most = f", at most {spec.model.epochs:,} epochs of batches of {spec.model.batch_size:,}"
        context.log.info(f"trains {name_run(spec)}{'' if spec.model.linear else most}")
        return runs.train(
            spec,
            stored.layers,
            train,
            test,
            contrasts="contrast_set" in dataset["inputs"],
            progress=begin_epochs(context, spec, version, artefacts),
        )


def _open(coming: Coming, split: str, spec: RunSpec, signs: Signs) -> Stream:
    verified = partial(signs.at, f"{split} split: verified", unit="bytes")
    inputs = list(spec.columns.inputs)
    stream = splits.read_stream(coming.folder, split, inputs, splits.MOST_IN_MEMORY, verified, coming.wait)
    done = partial(signs.at, f"{split} split: gone through", total=stream.decisions, unit="decisions")
    return watched(stream, done)


def _publish(
    context: dg.AssetExecutionContext,
    build: Build[RunSpec],
    dataset: dict[str, Any],
    trained: runs.TrainedRun,
    tables: TableStore,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    spec = build.stored.spec
    with artefacts.local_folder(f"{spec.dataset_folder}/{dataset['version']}", [dataset["schema"]]) as folder:
        labels = splits.alternative_labels(splits.read_schema(folder))
    config = spec.document | {"missing_values_map": dataset["spec"].get("missing_values_map", {})}
    history = [asdict(epoch) for epoch in trained.history]
    contents = {
        "config.json": [seal(config)],
        "layers.py": [build.stored.layers.encode()],
        "model.keras": [trained.model],
        HISTORY: map(epoch_line, history),
        INDIVIDUALS: [parquet_bytes(trained.individuals)],
    }
    if trained.coefficients is not None:
        contents[COEFFICIENTS] = [seal(trained.coefficients)]
    with artefacts.publishing(spec.folder, build.version, build.replaces) as publication:
        if publication.done:
            return publication.done
        files = [{"path": name, **artefacts.write(f"{build.folder}/{name}", chunks)} for name, chunks in contents.items()]
        document = manifest(
            build,
            context.run.run_id,
            runs.CODE_VERSION,
            _inputs(spec, dataset),
            counts={"epochs": len(history)},
            metrics=runs.metrics(trained),
            notes=trained.notes + [f"dataset: {note}" for note in dataset.get("notes", [])],
            features=list(spec.columns.inputs),
            missing_values_map=config["missing_values_map"],
            alternatives=labelled(trained.alternatives, labels),
            calibration=trained.calibration,
            distributions=with_missing_replaced(dataset.get("distributions"), spec.columns.inputs, {}),
            alternative_shares={labels[number]: share for number, share in (trained.shares or {}).items()},
            files=files,
        )
        publication.prepare(document)  # what cannot be published must fail before the table changes
        replace_epochs(tables, spec, history, finished=True)
        publication.publish(document)
    end_training(artefacts, spec.folder)
    return document


def _inputs(spec: RunSpec, dataset: dict[str, Any]) -> dict[str, Any]:
    return {"tfrecord_dataset": {"key": spec.dataset_key, "fingerprint": dataset["fingerprint"]}}


def _shown(trained: runs.TrainedRun, document: dict[str, Any]) -> dict[str, Any]:
    """Return what people look at: the picture of the epochs, tables, and notes."""
    linear = trained.coefficients is not None
    shown = {
        "learning_curve": picture(
            "learning_curve", plots.learning_curve(trained.history, "iteration" if linear else "epoch")
        )
    }
    if trained.calibration:
        shown["calibration"] = picture("calibration", distribution_plots.calibration(trained.calibration))
    if trained.coefficients is not None:
        shown |= coefficients_shown(trained.coefficients)
    shown |= alternatives_shown(document["alternatives"])
    return shown | notes_shown(document["notes"])


def _types(schema: "pa.Schema") -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}
