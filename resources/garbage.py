"""Garbage: what lies in the object storage and neither a manifest, nor a registered spec, nor an unfinished run refers to.

Versions are looked for at the depth where mimic puts them; cut-off writes and empty folders below the folders that mimic
names. Whatever else lies there stays.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mimic_core.errors import CorruptFileError, MimicError, NotFoundError, StorageError
from mimic_core.manifests import unseal
from mimic_core.specs import PARTITION_SPECS, PartitionSpec, spec_digest
from resources.artefacts import MANIFEST, RETIRED, ArtefactStore
from resources.local_storage import WRITING
from resources.maintenance import Terms
from resources.specs import SpecStore
from resources.storage import File
from resources.trainings import FOLDER as TRAINING
from resources.trainings import HISTORY, PUBLISHED

DEPTHS = {
    "-tfrecords": 1,
    "-models": 2,
    "-inferences": 3,
    "-reports": 1,
}  # of a partition's folder below the folder of its space
STEPS = "steps"  # what the steps of a run hand to each other in a cluster, in a folder for each run
IN_S3 = "storage"  # the folder of these folders, as dagster-aws has them
OWN = {"contrast-sets", "requests", "source-profiles", "specs", STEPS}  # beside the folders of spaces
VERSION = re.compile(r"\d{8}T\d{6}Z-([0-9a-f]{8})")
RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OF_TRAINING = re.compile(rf"{HISTORY}|{PUBLISHED}|checkpoint-.*|{re.escape(WRITING)}.*")
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
    try:
        with nullcontext() if terms.dry_run else artefacts.locked("garbage"):  # a second call waits, and finds less
            return _collect(artefacts, specs, terms)
    except OSError as error:
        if isinstance(error, MimicError):
            raise
        raise StorageError(
            f"{artefacts.root}: {error}; what is left can be removed later. Check rights, then run this again"
        ) from error


def _collect(artefacts: ArtefactStore, specs: SpecStore, terms: Terms) -> Collected:
    garbage: list[Garbage] = []
    left: dict[str, str] = {}
    emptied: list[str] = []
    own = [name for name in artefacts.storage.folders("") if name in OWN or name.endswith(tuple(DEPTHS))]
    for name, files in _partitions(artefacts, own):
        try:
            garbage += _collect_versions(artefacts, name, files, terms)
            emptied += _forget_retired(artefacts, name, files, garbage, terms)
        except CorruptFileError as error:
            left[name] = str(error)
    for kind in PARTITION_SPECS:
        for key, versions in specs.versions(kind.asset).items():
            try:
                garbage += _remove(artefacts, _old_specs(artefacts, specs, kind, key, versions, terms), terms)
            except (NotFoundError, FileNotFoundError):
                continue  # it was retired meanwhile
            except MimicError as error:
                left[f"specs/{kind.asset}/{key}"] = str(error)
    garbage += _remove(artefacts, _handed_over(artefacts, terms), terms)
    garbage += _remove(artefacts, _cut_off(artefacts, own, left, terms), terms)
    if not terms.dry_run:
        artefacts.storage.tidy(own, [item.path for item in garbage] + emptied, terms.in_use.before(terms.grace))
    return Collected(garbage=tuple(garbage), left=tuple(dict.fromkeys(left.values())))


def _partitions(artefacts: ArtefactStore, own: Sequence[str]) -> Iterator[tuple[str, list[File]]]:
    """Give every folder of a partition with the files below it."""
    for space in own:
        depth = next((depth for suffix, depth in DEPTHS.items() if space.endswith(suffix)), None)
        if depth is not None:
            yield from _by_folder(artefacts.storage.files(space), depth + 1).items()


def _by_folder(files: Iterable[File], depth: int) -> Mapping[str, list[File]]:
    """Part files by the folder at a depth below the root in which they are; others are left out."""
    found = defaultdict(list)
    for file in files:
        parts = file.name.split("/", depth)
        if len(parts) > depth:
            found["/".join(parts[:depth])].append(file)
    return found


def _collect_versions(artefacts: ArtefactStore, name: str, files: list[File], terms: Terms) -> list[Garbage]:
    found = _old_versions(artefacts, name, files, terms)
    if not found or terms.dry_run:
        return found
    with artefacts.locked(name):  # nobody publishes meanwhile; what was found before it is looked at again
        return _remove(artefacts, _old_versions(artefacts, name, list(artefacts.storage.files(name)), terms), terms)


def _forget_retired(
    artefacts: ArtefactStore, name: str, files: list[File], garbage: Sequence[Garbage], terms: Terms
) -> list[str]:
    """Remove the note that a partition is retired, where nothing else of it is left; returns what was removed."""
    gone = [item.path for item in garbage if item.path.startswith(f"{name}/")]
    left = [file for file in files if not any(file.name.startswith(f"{path}/") for path in gone)]
    if terms.dry_run or [file.name for file in left] != [f"{name}/{RETIRED}"]:
        return []
    _, changed = _content(left)
    if changed >= terms.in_use.before(terms.grace):
        return []
    artefacts.remove(left[0].name)
    return [left[0].name]


def _old_versions(artefacts: ArtefactStore, name: str, files: list[File], terms: Terms) -> list[Garbage]:
    """List the version folders of a partition that its manifest does not name and no unfinished run writes or reads.

    Args:
        name: folder of the partition.
        files: below it.
    """
    before = terms.in_use.before(terms.grace)
    manifest = artefacts.manifest(name)
    # a retired run went out of use when its manifest was taken out of the folder
    last = [file for file in files if file.name == f"{name}/{MANIFEST if manifest else RETIRED}"]
    _, published = _content(last)
    writing = {run[:8] for run in terms.in_use.runs}
    found = []
    for folder, content in _by_folder(files, name.count("/") + 2).items():
        version, (size, changed) = folder.rpartition("/")[2], _content(content)
        if version == TRAINING:
            mine = all(OF_TRAINING.fullmatch(file.name.removeprefix(f"{folder}/")) for file in content)
            found += [Garbage(reason=ABANDONED_TRAINING, path=folder, bytes=size)] if mine and changed < before else []
            continue
        match = VERSION.fullmatch(version)
        if match is None or match[1] in writing or (manifest is not None and manifest["version"] == version):
            continue
        if max(published, changed) < before:
            # by the second in which they began: two builds within one second are told apart by a hash only
            older = manifest is not None and version.split("-")[0] <= manifest["version"].split("-")[0]
            found.append(Garbage(reason=SUPERSEDED if older else ABANDONED, path=folder, bytes=size))
    return found


def _content(files: Iterable[File]) -> tuple[int, float]:
    """Return the bytes of files, and when they changed last; 0 without any."""
    facts = [status for file in files if (status := file.status) is not None]
    return sum(status.bytes for status in facts), max((status.changed for status in facts), default=0.0)


def _handed_over(artefacts: ArtefactStore, terms: Terms) -> list[Garbage]:
    """List what steps handed to each other in runs that ended, and from which no unfinished run goes on."""
    before, found = terms.in_use.before(terms.grace), []
    steps, storage = list(artefacts.storage.files(STEPS)), f"{STEPS}/{IN_S3}/"
    in_s3 = [file for file in steps if file.name.startswith(storage)]
    for depth, files in ((2, [file for file in steps if not file.name.startswith(storage)]), (3, in_s3)):
        for folder, content in _by_folder(files, depth).items():
            size, changed = _content(content)
            run = folder.rpartition("/")[2]
            if RUN.fullmatch(run) and run not in terms.in_use.runs and changed < before:
                found.append(Garbage(reason=HANDED_OVER, path=folder, bytes=size))
    return found


def _old_specs(
    artefacts: ArtefactStore, specs: SpecStore, kind: type[PartitionSpec], key: str, versions: list[File], terms: Terms
) -> list[Garbage]:
    """List the versions of a spec that are neither the newest nor the one that is built."""
    if len(versions) < 2:
        return []
    manifest = artefacts.manifest(specs.get(kind, key).spec.folder)
    before, found = terms.in_use.before(terms.grace), []
    for file, newer in pairwise(versions):
        document = unseal(artefacts.read(file.name), artefacts.where(file.name))
        built = manifest is not None and manifest["spec_digest"] == spec_digest(document["spec"], document["layers"])
        mine, next_one = file.status, newer.status
        if not built and mine is not None and next_one is not None and next_one.changed < before:
            found.append(Garbage(reason=OLD_SPEC, path=file.name, bytes=mine.bytes))
    return found


def _cut_off(artefacts: ArtefactStore, own: Sequence[str], left: Mapping[str, str], terms: Terms) -> list[Garbage]:
    """List the files that writers were killed over, except in partitions that were left alone."""
    before, found = terms.in_use.before(terms.grace), []
    for file in (file for top in own for file in artefacts.storage.files(top)):
        writing = file.name.rpartition("/")[2].startswith(WRITING)
        if writing and not any(file.name.startswith(f"{name}/") for name in left):
            status = file.status
            if status is not None and status.changed < before:
                found.append(Garbage(reason=CUT_OFF, path=file.name, bytes=status.bytes))
    return found


def _remove(artefacts: ArtefactStore, garbage: list[Garbage], terms: Terms) -> list[Garbage]:
    for item in garbage if not terms.dry_run else ():
        if item.reason in (OLD_SPEC, CUT_OFF):
            artefacts.remove(item.path)
        else:
            artefacts.storage.discard(item.path)
    return garbage
