"""Trainings: what a run has trained so far, in a folder beside its versions, until it is published.

`history.jsonl` has a line for each finished epoch, and `checkpoint-VERSION` what a training of this version needs to go on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from mimic_core.errors import NotFoundError
from resources.artefacts import ArtefactStore

FOLDER = "training"  # within the folder of a run
HISTORY, PUBLISHED = "history.jsonl", "published"  # the latter names the history whose epochs are in the results table
VERSION_DIGITS = 16  # of a build's version, in the name of its checkpoint
FEW = 10  # runs, which are looked at one by one instead of with all of their space
K = TypeVar("K")


def read_checkpoint(artefacts: ArtefactStore, run: str, version: str) -> tuple[bytes | None, str]:
    """Return the checkpoint of a build, None where there is none, and where it lies.

    Args:
        run: folder of the run.
        version: of the build, see `mimic_core.manifests.build_version`.
    """
    name = _checkpoint(run, version)
    return artefacts.read(name) if artefacts.status(name) else None, artefacts.where(name)


def begin_training(artefacts: ArtefactStore, run: str, version: str, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Forget what earlier trainings left, but for the checkpoint of this version where it goes on after some epochs.

    Raises:
        StorageError: the history cannot be written.
    """
    kept = _checkpoint(run, version) if epochs else None
    for name in artefacts.names(f"{run}/{FOLDER}"):
        if f"{run}/{FOLDER}/{name}" != kept:
            artefacts.remove(f"{run}/{FOLDER}/{name}")
    artefacts.write(f"{run}/{FOLDER}/{HISTORY}", map(epoch_line, epochs))


def write_checkpoint(artefacts: ArtefactStore, run: str, version: str, data: bytes) -> None:
    """Store the checkpoint of a build in place of an earlier one.

    Raises:
        StorageError: it cannot be written; the earlier one stays.
    """
    artefacts.write(_checkpoint(run, version), [data])


def append_epoch(artefacts: ArtefactStore, run: str, epoch: Mapping[str, Any]) -> None:
    """Add an epoch to the history of a training.

    Raises:
        StorageError: it cannot be written.
    """
    artefacts.append(f"{run}/{FOLDER}/{HISTORY}", epoch_line(epoch))


def epochs_so_far(artefacts: ArtefactStore, run: str) -> list[dict[str, Any]]:
    """Return the finished epochs of a training that is not published, each once.

    A line that is not whole does not count. Two trainings at once write the same epochs, each a line of its own.
    """
    lines: list[bytes] = []
    with suppress(NotFoundError):  # also of a training that begins anew in this moment
        lines = artefacts.read(f"{run}/{FOLDER}/{HISTORY}").splitlines(keepends=True)
    epochs = {}
    for line in lines:
        with suppress(ValueError):  # half a line, of a write that was cut off
            epoch = json.loads(line)
            epochs[epoch["epoch"]] = epoch
    return [epochs[number] for number in sorted(epochs)]


def epochs_of(artefacts: ArtefactStore, runs: Mapping[K, str]) -> dict[K, list[dict[str, Any]]]:
    """Return the finished epochs of those of some runs that have any, in few requests where most have none.

    Args:
        runs: anything -> folder of a run.
    """
    folders = {folder.split("/")[0] if len(runs) > FEW else f"{folder}/{FOLDER}" for folder in runs.values()}
    look = artefacts.storage.statuses(sorted(folders))
    begun = {key: folder for key, folder in runs.items() if look(f"{folder}/{FOLDER}/{HISTORY}")}
    found = {key: epochs_so_far(artefacts, folder) for key, folder in begun.items()}
    return {key: epochs for key, epochs in found.items() if epochs}


def epochs_to_go_on_after(artefacts: ArtefactStore, run: str, version: str) -> list[dict[str, Any]]:
    """Return the finished epochs after which a build of a version goes on; none where there is no checkpoint of it."""
    return epochs_so_far(artefacts, run) if artefacts.status(_checkpoint(run, version)) else []


def epochs_are_published(artefacts: ArtefactStore, run: str) -> bool:
    """Tell whether `note_published` was called since the last epoch."""
    name = f"{run}/{FOLDER}/{PUBLISHED}"
    return artefacts.status(name) is not None and artefacts.read(name).decode() == _digest(artefacts, run)


def note_published(artefacts: ArtefactStore, run: str) -> None:
    """Note that the epochs so far are in the results table.

    Raises:
        StorageError: that cannot be written.
    """
    artefacts.write(f"{run}/{FOLDER}/{PUBLISHED}", [_digest(artefacts, run).encode()])


def end_training(artefacts: ArtefactStore, run: str) -> None:
    """Remove what a training left beside the versions of its run, one of which has it all now."""
    artefacts.discard(f"{run}/{FOLDER}")


def _checkpoint(run: str, version: str) -> str:
    return f"{run}/{FOLDER}/checkpoint-{version[:VERSION_DIGITS]}"


def _digest(artefacts: ArtefactStore, run: str) -> str:
    return hashlib.sha256(artefacts.read(f"{run}/{FOLDER}/{HISTORY}")).hexdigest()


def epoch_line(epoch: Mapping[str, Any]) -> bytes:
    """Return the line of an epoch in a history."""
    return f"{json.dumps(epoch)}\n".encode()
