"""Garbage: what lies in the object storage and neither a manifest, nor a registered spec, nor an unfinished run refers to.

Versions are looked for at the depth where mimic puts them; cut-off writes and empty folders below the folders that mimic
names. Whatever else lies there stays.
"""

import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mimic_core.errors import CorruptFileError, MimicError, NotFoundError, StorageError
from mimic_core.manifests import unseal
from mimic_core.specs import PARTITION_SPECS, PartitionSpec, spec_digest
from resources.artefacts import MANIFEST, WRITING, ArtefactStore
from resources.listing import entries_of, files_below, folders_of, size_and_change
from resources.maintenance import Terms
from resources.specs import SpecStore
from resources.trainings import FOLDER as TRAINING

DEPTHS = {
    "-tfrecords": 1,
    "-models": 2,
    "-inferences": 3,
    "-reports": 1,
}  # of a partition's folder below the folder of its space
STEPS = "steps"  # what the steps of a run hand to each other in a cluster, in a folder for each run
OWN = {"contrast-sets", "requests", "source-profiles", "specs", STEPS}  # beside the folders of spaces
VERSION = re.compile(r"\d{8}T\d{6}Z-([0-9a-f]{8})")
SPEC_FILE = re.compile(r"\d{6,}\.json")
ABANDONED_TRAINING = "abandoned training"
SUPERSEDED, ABANDONED, OLD_SPEC, CUT_OFF = "superseded version", "abandoned version", "old spec", "cut-off write"
HANDED_OVER = "handed over by an ended run"


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file or version folder that nothing refers to; its path is relative to the object storage."""

    reason: str
    path: str
    bytes: int

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What garbage collection removed, or would remove.

    Attributes:
        left: why partitions were left alone, a message each.
    """

    garbage: tuple[Garbage, ...]
    left: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """How many bytes that is."""
        return sum(item.bytes for item in self.garbage)


def collect_garbage(artefacts: ArtefactStore, specs: SpecStore, terms: Terms) -> Collected:
    """Remove old version folders, old specs and what killed writers left, and folders that are empty then.

    Raises:
        StorageError: something cannot be removed.
    """
    root = Path(artefacts.root).resolve()  # it may be a link to another disk; below it none is followed
    try:
        with nullcontext() if terms.dry_run else artefacts.locked("garbage"):  # a second call waits, and finds less
            return _collect(artefacts, specs, root, terms)
    except OSError as error:
        if isinstance(error, MimicError):
            raise
        raise StorageError(
            f"{root}: {error}; what is left can be removed later. Check rights, then run this again"
        ) from error


def _collect(artefacts: ArtefactStore, specs: SpecStore, root: Path, terms: Terms) -> Collected:
    garbage: list[Garbage] = []
    left: dict[str, str] = {}
    for folder in _partition_folders(root):
        name = folder.relative_to(root).as_posix()
        with nullcontext() if terms.dry_run else artefacts.locked(name):
            try:
                garbage += _remove(root, _old_versions(artefacts, folder, name, terms), terms)
            except CorruptFileError as error:
                left[name] = str(error)
    for kind in PARTITION_SPECS:
        for key in specs.registered(kind.asset):
            try:
                garbage += _remove(root, _old_specs(artefacts, specs, kind, key, terms), terms)
            except (NotFoundError, FileNotFoundError):
                continue  # it was retired meanwhile
            except MimicError as error:
                left[f"specs/{kind.asset}/{key}"] = str(error)
    garbage += _remove(root, _handed_over(root, terms), terms)
    garbage += _remove(root, _cut_off(root, left, terms), terms)
    if not terms.dry_run:
        _remove_empty_folders(root, {root / item.path for item in garbage}, terms)
    return Collected(garbage=tuple(garbage), left=tuple(dict.fromkeys(left.values())))


def _own_folders(root: Path) -> list[Path]:
    """List the folders directly in the object storage to which mimic gives names."""
    return [folder for folder in folders_of(root) if folder.name in OWN or folder.name.endswith(tuple(DEPTHS))]


def _partition_folders(root: Path) -> Iterator[Path]:
    for space in _own_folders(root):
        for suffix, depth in DEPTHS.items():
            if space.name.endswith(suffix):
                folders = [space]
                for _ in range(depth):
                    folders = [below for folder in folders for below in folders_of(folder)]
                yield from folders


def _old_versions(artefacts: ArtefactStore, folder: Path, name: str, terms: Terms) -> list[Garbage]:
    """List the version folders of a partition that its manifest does not name and no unfinished run writes or reads."""
    before = terms.in_use.before(terms.grace)
    manifest = artefacts.manifest(name)
    # a retired run went out of use when its manifest was taken out of the folder
    published = (folder / MANIFEST if manifest else folder).stat().st_mtime
    writing = {run[:8] for run in terms.in_use.runs}
    found = []
    for version in folders_of(folder):
        if version.name == TRAINING:
            found += _old_training(version, f"{name}/{TRAINING}", before)
            continue
        match = VERSION.fullmatch(version.name)
        if match is None or match[1] in writing or (manifest is not None and manifest["version"] == version.name):
            continue
        size, changed = _content(version)
        if max(published, changed) < before:
            # by the second in which they began: two builds within one second are told apart by a hash only
            older = manifest is not None and version.name.split("-")[0] <= manifest["version"].split("-")[0]
            found.append(Garbage(reason=SUPERSEDED if older else ABANDONED, path=f"{name}/{version.name}", bytes=size))
    return found


def _old_training(folder: Path, name: str, before: float) -> list[Garbage]:
    """List what a training left that was cut off and did not go on for long."""
    size, changed = _content(folder)
    return [Garbage(reason=ABANDONED_TRAINING, path=name, bytes=size)] if changed < before else []


def _content(folder: Path) -> tuple[int, float]:
    """Return the bytes of the files below a folder, and when they changed last; of an empty one, when it did."""
    facts = [fact for fact in map(size_and_change, files_below(folder)) if fact is not None]
    with suppress(FileNotFoundError):
        return sum(size for size, _ in facts), max((when for _, when in facts), default=folder.stat().st_mtime)
    return 0, math.inf  # its build discarded it meanwhile


def _handed_over(root: Path, terms: Terms) -> list[Garbage]:
    """List what steps handed to each other in runs that ended, and from which no unfinished run goes on."""
    before, found = terms.in_use.before(terms.grace), []
    for folder in folders_of(root / STEPS):
        size, changed = _content(folder)
        if folder.name not in terms.in_use.runs and changed < before:
            found.append(Garbage(reason=HANDED_OVER, path=f"{STEPS}/{folder.name}", bytes=size))
    return found


def _old_specs(
    artefacts: ArtefactStore, specs: SpecStore, kind: type[PartitionSpec], key: str, terms: Terms
) -> list[Garbage]:
    """List the versions of a spec that are neither the newest nor the one that is built."""
    folder = f"specs/{kind.asset}/{key}"
    names = [name for name in artefacts.names(folder) if SPEC_FILE.fullmatch(name)]
    if len(names) < 2:
        return []
    manifest = artefacts.manifest(specs.get(kind, key).spec.folder)
    before, found = terms.in_use.before(terms.grace), []
    for name, newer in pairwise(names):
        path = f"{folder}/{name}"
        document = unseal(artefacts.read(path), str(artefacts.path(path)))
        built = manifest is not None and manifest["spec_digest"] == spec_digest(document["spec"], document["layers"])
        if not built and artefacts.path(f"{folder}/{newer}").stat().st_mtime < before:
            found.append(Garbage(reason=OLD_SPEC, path=path, bytes=artefacts.path(path).stat().st_size))
    return found


def _cut_off(root: Path, left: dict[str, str], terms: Terms) -> list[Garbage]:
    """List the files that writers were killed over, except in partitions that were left alone."""
    before, found = terms.in_use.before(terms.grace), []
    for top in _own_folders(root):
        for entry in files_below(top):
            path = Path(entry.path).relative_to(root).as_posix()
            fact = size_and_change(entry)
            mine = entry.name.startswith(WRITING) and not any(path.startswith(f"{name}/") for name in left)
            if mine and fact is not None and fact[1] < before:
                found.append(Garbage(reason=CUT_OFF, path=path, bytes=fact[0]))
    return found


def _remove(root: Path, garbage: list[Garbage], terms: Terms) -> list[Garbage]:
    for item in garbage if not terms.dry_run else ():
        path = root / item.path
        with suppress(FileNotFoundError):  # somebody else collects garbage too
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return garbage


def _remove_empty_folders(root: Path, removed: set[Path], terms: Terms) -> None:
    """Remove folders that this made empty, and those that were empty for long."""
    emptied = {folder for path in removed for folder in path.parents if folder != root and root in folder.parents}
    before = terms.in_use.before(terms.grace)
    for top in _own_folders(root):
        for name, _, _ in os.walk(top, topdown=False, followlinks=False):
            folder = Path(name)
            if folder.is_symlink():
                continue
            with suppress(OSError):  # it is not empty, or gone
                if not any(True for _ in entries_of(folder)) and (folder in emptied or folder.stat().st_mtime < before):
                    folder.rmdir()
