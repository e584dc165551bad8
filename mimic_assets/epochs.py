"""Epochs of a run: observed and kept while it trains, and in the results table at its end, whatever that is."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from mimic_assets.builds import RUN_COLUMNS, rows_of_run
from mimic_assets.failures import attempt
from mimic_assets.run_files import read_history
from mimic_assets.shown import number_shown
from mimic_assets.signs import Signs
from mimic_core import checkpoints
from mimic_core.specs import RunSpec
from resources.artefacts import ArtefactStore
from resources.tables import RESULTS, TableStore
from resources.trainings import (
    append_epoch,
    begin_training,
    end_training,
    epochs_are_published,
    epochs_so_far,
    epochs_to_go_on_after,
    note_published,
    read_checkpoint,
    write_checkpoint,
)

if TYPE_CHECKING:
    from mimic_core.history import Epoch
    from mimic_core.training import Progress

OBSERVED = ("loss", "val_loss", "val_accuracy")  # of an epoch; history.jsonl has all of it
# of many short epochs the first of a training are observed, and then one each second: every one is an event on the pages
ALWAYS_OBSERVED = 10
SECONDS_BETWEEN_EPOCHS = 1.0
RESULTS_SCHEMA = pa.schema(
    [
        ("experiment_name", pa.string()),
        ("run_id", pa.string()),
        ("epoch", pa.int32()),
        ("loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("exported", pa.bool_()),
        ("val_accuracy", pa.float64()),
        ("seconds", pa.float64()),
        ("learning_rate", pa.float64()),
        ("finished", pa.bool_()),
    ]
)


def begin_epochs(context: dg.AssetExecutionContext, spec: RunSpec, version: str, artefacts: ArtefactStore) -> "Progress":
    """Look for a checkpoint of this build, and return what tells and keeps the epochs of a training that goes on after it.

    Args:
        version: of the build; a checkpoint of another one is of no use.
    """
    from mimic_core.training import Progress

    data, where = read_checkpoint(artefacts, spec.folder, version)
    resume, problem = attempt(checkpoints.load, data, where) if data is not None else (None, "")
    if problem:
        context.log.warning(problem)

    def start(done: "list[Epoch]") -> None:
        begin_training(artefacts, spec.folder, version, [asdict(epoch) for epoch in done])
        if done:
            context.log.info(f"goes on after epoch {len(done)}, from the checkpoint of a training that was cut off: {where}")

    def keep(checkpoint: bytes) -> None:
        _, problem = attempt(write_checkpoint, artefacts, spec.folder, version, checkpoint)
        if problem:
            context.log.warning(f"no checkpoint of this epoch: {problem}")

    observed_at, told = 0.0, 0

    def tell(epoch: "Epoch") -> None:
        nonlocal observed_at, told
        told += 1
        _, problem = attempt(append_epoch, artefacts, spec.folder, asdict(epoch))
        if problem:
            context.log.warning(problem)
        now = time.monotonic()
        if told <= ALWAYS_OBSERVED or epoch.epoch == spec.model.epochs or now >= observed_at + SECONDS_BETWEEN_EPOCHS:
            context.log_event(_observation(context, epoch))
            observed_at = now

    signs = Signs(context.log.info)

    def say(number: int, done: int, total: int) -> None:
        signs.at(f"epoch {number}:", done, total, "decisions")

    return Progress(
        on_begin=start,
        on_decisions=say,
        on_epoch=tell,
        on_checkpoint=keep,
        resume=resume,
        warn=context.log.warning,
        clock=time.monotonic,
    )


def replace_epochs(tables: TableStore, spec: RunSpec, history: Sequence[Mapping[str, Any]], *, finished: bool) -> None:
    """Replace the rows of a run in the results table.

    Args:
        history: a dict of `mimic_core.history.Epoch` for each epoch.
        finished: whether the training ended as it should.

    Raises:
        ConflictError, StorageError: the table could not be changed.
    """
    key = rows_of_run(spec)
    rows = pa.Table.from_pylist([key | dict(epoch) | {"finished": finished} for epoch in history], schema=RESULTS_SCHEMA)
    staged = [tables.stage(spec.results, [rows])]
    with tables.discarding(spec.results, staged):
        tables.replace(spec.results, staged, key)


def publish_unfinished(spec: RunSpec, tables: TableStore, artefacts: ArtefactStore) -> int:
    """Put the epochs of a training that failed or was killed into the results table; returns how many.

    Where a version of the run is published the rows are those of that version, also if the training failed after it had
    replaced them; none are counted then. Nothing is done where all this is done already, and where there is no epoch.

    Raises:
        ConflictError, StorageError: the table could not be changed.
        CorruptFileError: the manifest or the history of the published version is damaged.
    """
    with artefacts.locked(spec.folder) as require_turn:  # nobody publishes meanwhile
        history = epochs_so_far(artefacts, spec.folder)
        if not history or epochs_are_published(artefacts, spec.folder):
            return 0
        tables.ensure(spec.results, RESULTS_SCHEMA, kind=RESULTS, partition_by=RUN_COLUMNS)
        manifest = artefacts.manifest(spec.folder)
        require_turn()
        if manifest is None:
            replace_epochs(tables, spec, history, finished=False)
            note_published(artefacts, spec.folder)
            return len(history)
        replace_epochs(tables, spec, read_history(spec, manifest, artefacts), finished=True)
        if read_checkpoint(artefacts, spec.folder, manifest["fingerprint"])[0] is not None:
            end_training(artefacts, spec.folder)  # another build of the same version was faster
        else:
            note_published(artefacts, spec.folder)
        return 0


def say_unfinished(
    context: dg.AssetExecutionContext, spec: RunSpec, version: str, tables: TableStore, artefacts: ArtefactStore
) -> None:
    """Publish the epochs of the training that ends now, before it is finished, and say what is kept of it.

    Args:
        version: of the build.
    """
    published, problem = attempt(publish_unfinished, spec, tables, artefacts)
    if problem:
        context.log.warning(f"the epochs so far are not in table {spec.results}: {problem}")
    elif published:
        context.log.info(f"table {spec.results} has the {published:,} finished epochs, as not finished")
    kept = 0
    with suppress(OSError):  # what cannot be read here hides nothing of why the training ended
        kept = len(epochs_to_go_on_after(artefacts, spec.folder, version))
    if kept:
        said = f"ended after epoch {kept:,} of at most {spec.model.epochs:,}; building it again goes on from there"
        # not a line of the log: this is on the page of the partition too
        context.log_event(dg.AssetObservation(context.asset_key, description=said, partition=context.partition_key))


def _observation(context: dg.AssetExecutionContext, epoch: "Epoch") -> dg.AssetObservation:
    values = {name: getattr(epoch, name) for name in OBSERVED}
    numbers = {name: number_shown(float(value)) for name, value in values.items() if value is not None}
    losses = ", ".join(f"{name} {numbers[name]:.4f}" for name in ("loss", "val_loss") if name in numbers)
    return dg.AssetObservation(
        asset_key=context.asset_key,
        partition=context.partition_key,
        description=f"epoch {epoch.epoch}: {losses}",
        metadata=numbers | {"epoch": epoch.epoch},
    )
