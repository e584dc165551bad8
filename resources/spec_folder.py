"""The spec folder: config files that people drop, found below one folder, and what was registered from them before."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dagster as dg

from mimic_core.errors import StorageError
from mimic_core.manifests import seal, unseal
from mimic_core.world import Node
from resources.artefacts import ArtefactStore

MARKER = ".mimic-specs"
EXPLANATION = "Configs in this folder are registered by mimic. This file tells it that the folder is really there.\n"
SUFFIXES = (".json", ".yaml", ".yml")
LAYERS = ".py"
FRESH_SECONDS = 2.0  # whoever writes a file has ended by then
RECORD = "spec-folder.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A config file of the folder.

    Attributes:
        path: where it lies.
        layers: the layers file that belongs to it if it is an experiment, or None.
        stamp: changes when one of the two does.
        fresh: whether one of them was changed a moment ago, so that it may be half-written.
    """

    path: Path
    layers: Path | None
    stamp: str
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What was made of a config file.

    Attributes:
        stamp: of what was read; empty to read it again.
        digest: of its bytes, and those of its layers file, when they were registered; else empty.
        keys: the partitions that it defines, or did when it could be read last.
        problem: why it is not registered as it is; empty when it is.
    """

    stamp: str
    digest: str = ""
    keys: tuple[Node, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was made of the whole folder.

    Attributes:
        files: by path relative to the folder.
        partitions: those that are registered from it, and whether each was ever built.
    """

    files: Mapping[str, Noted] = field(default_factory=dict)
    partitions: Mapping[Node, bool] = field(default_factory=dict)


class SpecFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Config files anywhere below `path`, but hidden ones."""

    path: str

    def find(self, record: Record) -> dict[str, Found]:
        """Return the config files by their path relative to the folder, which is made if it was never used.

        Raises:
            StorageError: the folder, or one below it, cannot be read; or it held files before, and its marker is gone.
        """
        root = Path(self.path)
        _require_there(root, used=bool(record.files or record.partitions))
        stats = dict(_files_below(root))
        now, found = time.time(), {}
        for path in sorted(stats):
            if path.suffix in SUFFIXES:
                beside = [path.with_suffix(LAYERS), path.with_name(f"layers{LAYERS}")]
                layers = next((file for file in beside if file in stats), None)
                read = [stats[file] for file in (path, layers) if file]
                found[path.relative_to(root).as_posix()] = Found(
                    path=path,
                    layers=layers,
                    stamp=" ".join(f"{status.st_mtime_ns} {status.st_size} {status.st_ino}" for status in read),
                    fresh=any(abs(now - max(status.st_mtime, status.st_ctime)) < FRESH_SECONDS for status in read),
                )
        return found


def read_record(artefacts: ArtefactStore) -> Record:
    """Return what was made of the spec folder so far.

    Raises:
        CorruptFileError: the document is damaged.
    """
    path = artefacts.path(RECORD)
    if not path.is_file():
        return Record()
    document = unseal(artefacts.read(RECORD), str(path))
    files = {
        name: Noted(**said | {"keys": tuple(Node(*key) for key in said["keys"])}) for name, said in document["files"].items()
    }
    return Record(files=files, partitions={Node(asset, key): built for asset, key, built in document["partitions"]})


def write_record(artefacts: ArtefactStore, record: Record) -> None:
    """Keep what was made of the spec folder."""
    partitions = [[*node, built] for node, built in sorted(record.partitions.items())]
    files = {name: asdict(noted) | {"keys": [list(key) for key in noted.keys]} for name, noted in record.files.items()}
    artefacts.write(RECORD, [seal({"files": files, "partitions": partitions})])


def problems(artefacts: ArtefactStore) -> dict[str, str]:
    """Return why files of the spec folder are not registered, by their path relative to it.

    Raises:
        CorruptFileError: the document is damaged.
    """
    return {name: noted.problem for name, noted in read_record(artefacts).files.items() if noted.problem}


def _require_there(root: Path, *, used: bool) -> None:
    marker = root / MARKER
    try:
        if not used and not marker.exists():
            root.mkdir(parents=True, exist_ok=True)
            marker.write_text(EXPLANATION, encoding="utf-8")
        marker.stat()
    except FileNotFoundError as error:
        raise StorageError(
            f"{root}: this spec folder held files before, and now it has no {MARKER}; mount it again, or, if it is the "
            f"right folder, make an empty file {MARKER} in it. Until then nothing is registered or retired"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{error.filename}: the spec folder cannot be read: {error.strerror}; check rights and mounts, or set "
            "MIMIC_SPECS to another folder"
        ) from error


def _files_below(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        # pathlib would leave out what it may not list without a word
        for folder, folders, names in os.walk(root, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(folder) / name for name in names if not name.startswith(".")):
                with suppress(FileNotFoundError):  # removed at this moment, or a link that leads nowhere
                    yield path, path.stat()
    except OSError as error:
        raise StorageError(
            f"{error.filename}: the spec folder cannot be read: {error.strerror}; check rights and mounts"
        ) from error


def _refuse(error: OSError) -> None:
    raise error
