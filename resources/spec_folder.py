"""The spec folder: config files that people drop, found below one folder, and what was registered from them before."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from enum import StrEnum
from pathlib import Path

import dagster as dg

from mimic_core.errors import CorruptFileError, StorageError
from mimic_core.manifests import seal, unseal
from mimic_core.specs import present_key
from mimic_core.world import Node
from resources.artefacts import ArtefactStore

MARKER = ".mimic-specs"
EXPLANATION = """\
Configs in this folder are registered by mimic. This file tells it that the folder is really there.
Each line below names the document in which a home keeps what was made of the folder.
"""
SUFFIXES = (".json", ".yaml", ".yml")
LAYERS = ".py"
FRESH_SECONDS = 2.0  # whoever writes a file has ended by then
RECORD = "spec-folder.json"
_NOT_FOLLOWED = "{}: this folder is a link, and links to folders are not followed; put the folder itself here, or remove it"
_NOWHERE = "{}: this link leads to nothing that can be read; mount what it leads to, or remove it"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A config file of the folder.

    Attributes:
        path: where it lies.
        layers: the layers file that belongs to it if it is an experiment, or None.
        stamp: changes when one of the two does.
        fresh: whether one of them was changed a moment ago, so that it may be half-written.
        problem: why it cannot be read; then nothing else is known.
    """

    path: Path
    layers: Path | None = None
    stamp: str = ""
    fresh: bool = False
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What was made of a config file.

    Attributes:
        stamp: of what was read; empty to read it again.
        digest: of its bytes, and those of its layers file, when they were registered; else empty.
        keys: the partitions that it defines, or did when it could be read last.
        problem: why it is not registered as it is; empty when it is.
        gone_since: when it was first not found, in seconds since 1970; 0 while it is there.
    """

    stamp: str
    digest: str = ""
    keys: tuple[Node, ...] = ()
    problem: str = ""
    gone_since: float = 0.0


class FirstBuild(StrEnum):
    """What becomes of the first build of a partition."""

    WAITS = "waits"  # to be asked for
    DONE = "done"
    MANUAL = "manual"  # only a person asks for it


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a partition is registered from the folder.

    Attributes:
        digest: of the spec as it was registered from its file last, see `mimic_core.specs.spec_digest`.
        ours: whether it was not registered before its file was; only then is it retired when that is deleted.
        stays: why it stays although its file is gone, as the log has said it; else empty.
    """

    digest: str = ""
    ours: bool = True
    first_build: FirstBuild = FirstBuild.WAITS
    stays: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was made of the whole folder.

    Attributes:
        files: by path relative to the folder; those that are gone until what they defined is retired.
        partitions: those that are registered from it.
    """

    files: Mapping[str, Noted] = field(default_factory=dict)
    partitions: Mapping[Node, Origin] = field(default_factory=dict)

    @property
    def present(self) -> dict[str, Noted]:
        """The files that are there."""
        return {name: noted for name, noted in self.files.items() if not noted.gone_since}

    @property
    def defined(self) -> set[Node]:
        """The partitions that a file defines that is there, or did when it could be read last."""
        return {node for noted in self.present.values() for node in noted.keys}


class SpecFolder(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Config files anywhere below `path`, but hidden ones."""

    path: str

    def find(self, artefacts: ArtefactStore, record: Record) -> dict[str, Found]:
        """Return the config files by their path relative to the folder, which is made if it was never used.

        Raises:
            StorageError: the folder, or one below it, cannot be read; or it held files before, and its marker is gone; or
                what was made of it is gone.
        """
        root = Path(self.path)
        _require_there(root, artefacts, record)
        stats, linked = _entries_below(root)
        now = time.time()
        found = {_below(root, path): Found(path=path, problem=_NOT_FOLLOWED.format(path)) for path in linked}
        for path in sorted(stats):
            if path.suffix in SUFFIXES:
                beside = [path.with_suffix(LAYERS), path.with_name(f"layers{LAYERS}")]
                layers = next((file for file in beside if file in stats), None)
                found[_below(root, path)] = _found(path, layers, stats, now)
        return found


def _found(path: Path, layers: Path | None, stats: Mapping[Path, os.stat_result | None], now: float) -> Found:
    read = {file: stats[file] for file in (path, layers) if file}
    known = [status for status in read.values() if status]
    if len(known) < len(read):
        nowhere = next(file for file, status in read.items() if status is None)
        return Found(path=path, problem=_NOWHERE.format(nowhere))
    return Found(
        path=path,
        layers=layers,
        stamp=" ".join(f"{status.st_mtime_ns} {status.st_size} {status.st_ino}" for status in known),
        fresh=any(abs(now - max(status.st_mtime, status.st_ctime)) < FRESH_SECONDS for status in known),
    )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def require_readable(folder: SpecFolder, artefacts: ArtefactStore) -> None:
    """Check that the spec folder, if it was ever used, is there.

    Raises:
        StorageError: it is not, or what was made of it is gone.
        CorruptFileError: what was made of it is damaged.
    """
    record = read_record(artefacts)
    if record.files or record.partitions:
        _require_there(Path(folder.path), artefacts, record)


def read_record(artefacts: ArtefactStore) -> Record:
    """Return what was made of the spec folder so far.

    Raises:
        CorruptFileError: the document is damaged.
    """
    where = artefacts.where(RECORD)
    if artefacts.status(RECORD) is None:
        return Record()
    try:
        document = unseal(artefacts.read(RECORD), where)
    except CorruptFileError as error:
        said = str(error).removesuffix("; build it again")
        raise CorruptFileError(f"{said}; put it back from a backup, or {_begin_anew(where)}") from error
    files = {
        name: Noted(**said | {"keys": tuple(_node(*node) for node in said["keys"])})
        for name, said in document["files"].items()
    }
    partitions = {
        _node(asset, key): Origin(digest=digest, ours=ours, first_build=FirstBuild(first_build), stays=stays)
        for asset, key, digest, ours, first_build, stays in document["partitions"]
    }
    return Record(files=files, partitions=partitions)


def _node(asset: str, key: str) -> Node:
    return Node(asset, present_key(asset, key))  # a home of an earlier version has others here


def write_record(artefacts: ArtefactStore, record: Record) -> None:
    """Keep what was made of the spec folder."""
    partitions = [[*node, *astuple(origin)] for node, origin in sorted(record.partitions.items())]
    files = {name: asdict(noted) | {"keys": [list(key) for key in noted.keys]} for name, noted in record.files.items()}
    artefacts.write(RECORD, [seal({"files": files, "partitions": partitions})])


def problems(artefacts: ArtefactStore) -> dict[str, str]:
    """Return why files of the spec folder are not registered, by their path relative to it.

    Raises:
        CorruptFileError: the document is damaged.
    """
    return {name: noted.problem for name, noted in read_record(artefacts).present.items() if noted.problem}


def overruled(artefacts: ArtefactStore, digests: Mapping[Node, str]) -> dict[str, str]:
    """Return which files of the spec folder say something else than what was registered after them.

    Args:
        digests: of the specs that are registered, see `mimic_core.specs.spec_digest`.

    Raises:
        CorruptFileError: the document is damaged.
    """
    record = read_record(artefacts)
    found = {}
    for name, noted in record.present.items():
        for node in () if noted.problem else noted.keys:
            if node in record.partitions and digests.get(node) != record.partitions[node].digest:
                was = "was registered with another spec" if node in digests else "was retired"
                found[name] = f"{node} {was} since, which counts; change the file if it should"
    return found


def _require_there(root: Path, artefacts: ArtefactStore, record: Record) -> None:
    marker, document = root / MARKER, artefacts.where(RECORD)
    used = bool(record.files or record.partitions)
    try:
        if not used and not marker.exists():
            root.mkdir(parents=True, exist_ok=True)
            marker.write_text(EXPLANATION, encoding="utf-8")
        known = document in marker.read_text(encoding="utf-8", errors="replace").splitlines()
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
    recorded = artefacts.status(RECORD) is not None
    gone = document if not recorded and (record.partitions or known) else ""
    if record.partitions and not gone and artefacts.storage.is_missing("specs"):
        gone = artefacts.where("specs")
    if gone:
        raise StorageError(
            f"{gone}: is gone, although this home used the spec folder {root}; mount or put back {artefacts.root}, or, "
            f"if it is lost, {_begin_anew(document)}. Until then nothing is registered, built or retired"
        )
    if not known:
        if not recorded:
            write_record(artefacts, record)
        # a folder that one may only read does without
        with suppress(OSError), marker.open("a", encoding="utf-8") as file:
            file.write(f"{document}\n")


def _begin_anew(document: str) -> str:
    return (
        f"delete {document} and the line that names it in {MARKER} of the spec folder: then every file is registered anew, "
        "and what is registered already stays when its file is deleted"
    )


def _entries_below(root: Path) -> tuple[dict[Path, os.stat_result | None], list[Path]]:
    """Return the files, None for a link that leads nowhere, and the folders that are links."""
    files: dict[Path, os.stat_result | None] = {}
    linked: list[Path] = []
    try:
        # pathlib would leave out what it may not list without a word
        for folder, folders, names in os.walk(root, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            linked += [path for path in (Path(folder) / name for name in folders) if path.is_symlink()]
            for path in (Path(folder) / name for name in names if not name.startswith(".")):
                with suppress(FileNotFoundError):  # removed at this moment
                    files[path] = _status(path)
    except OSError as error:
        raise StorageError(
            f"{error.filename}: the spec folder cannot be read: {error.strerror}; check rights and mounts"
        ) from error
    return files, linked


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        if path.is_symlink():
            return None
        raise


def _refuse(error: OSError) -> None:
    raise error
