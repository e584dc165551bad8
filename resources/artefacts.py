"""Artefacts: the object storage that holds TFRecords, models, specs and manifests, as folders below one root.

Every write is atomic: a reader sees the old bytes or the new ones, also after a kill or on a full disk.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import dagster as dg

from mimic_core.errors import ConflictError, CorruptFileError, NotFoundError, StorageError
from mimic_core.manifests import seal, unseal, verify

if TYPE_CHECKING:
    from typing_extensions import Buffer

MANIFEST = "manifest.json"
LOCKS = ".locks"
WRITING = ".writing-"  # begins the names of files that are being written


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The right to publish one version of one partition.

    Attributes:
        done: the manifest, where this very version is published already, or one that is as good.
        publish: takes the new manifest; everything that it names must be stored before.
    """

    done: dict[str, Any] | None
    publish: Callable[[dict[str, Any]], None]


class Written:
    """A file that is being written.

    Attributes:
        discarded: whether it is to be forgotten.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._size = file, hashlib.sha256(), 0
        self.discarded = False

    def write(self, data: "Buffer") -> None:
        """Append bytes."""
        self._digest.update(data)
        self._size += self._file.write(data)

    @property
    def entry(self) -> dict[str, Any]:
        """Size and checksum for a manifest."""
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}


class ArtefactStore(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Files by name below `root`; a name is a relative path with forward slashes."""

    root: str

    def path(self, name: str) -> Path:
        """Return where a name lies on this machine."""
        return Path(self.root) / name

    def read(self, name: str, entry: dict[str, Any] | None = None) -> bytes:
        """Read a file, and verify it against its manifest entry.

        Raises:
            NotFoundError: it is not there.
            CorruptFileError: it is not the file that the entry describes.
        """
        path = self.path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: this file is gone; build again what it belongs to") from error
        return data if entry is None else verify(data, entry, str(path))

    def write(self, name: str, chunks: "Iterable[Buffer]") -> dict[str, Any]:
        """Write a file atomically and return its size and checksum for a manifest.

        Raises:
            StorageError: the bytes could not be stored; nothing is left behind.
        """
        with self.writing(name) as file:
            for chunk in chunks:
                file.write(chunk)
        return file.entry

    @contextmanager
    def writing(self, name: str) -> "Iterator[Written]":
        """Write a file piece by piece; it is there when the context ends, unless it was discarded.

        Raises:
            StorageError: the bytes could not be stored; nothing is left behind.
        """
        with self._temporary(name) as (file, temporary):
            written = Written(file)
            yield written
            if not written.discarded:
                _sync(file)
                Path(temporary).replace(self.path(name))

    def append(self, name: str, data: bytes) -> None:
        """Add bytes at the end of a file; after a kill, but not after an error, a part of them may be there.

        Raises:
            StorageError: the bytes could not be stored.
        """
        path = self.path(name)
        with _explaining(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    file.truncate(before)
                    raise

    def create(self, name: str, data: bytes) -> None:
        """Write a file unless one is there.

        Raises:
            ConflictError: one is there.
        """
        try:
            with self._temporary(name) as (file, temporary):
                file.write(data)
                _sync(file)
                os.link(temporary, self.path(name))
        except FileExistsError as error:
            raise ConflictError(f"{self.path(name)}: another writer was first") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.path(name).unlink(missing_ok=True)

    def discard(self, folder: str) -> None:
        """Remove a folder that nothing refers to."""
        shutil.rmtree(self.path(folder), ignore_errors=True)

    def names(self, folder: str) -> list[str]:
        """List the names of the files directly in a folder, sorted."""
        path = self.path(folder)
        if not path.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))

    def manifest(self, folder: str) -> dict[str, Any] | None:
        """Return the manifest of what is published in a folder; None when nothing is.

        Raises:
            CorruptFileError: the manifest is damaged.
        """
        path = self.path(f"{folder}/{MANIFEST}")
        return unseal(path.read_bytes(), str(path)) if path.is_file() else None

    def published(self, folder: str) -> str | None:
        """Return a token of what is published in a folder, for `publishing`."""
        path = self.path(f"{folder}/{MANIFEST}")
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    @contextmanager
    def publishing(
        self, folder: str, version: str, replaces: str | None, fingerprint: str | None = None
    ) -> "Iterator[Publication]":
        """Publish by compare-and-swap, within the context that this gives.

        A step that is executed again after it published finds its own manifest and has nothing more to do.

        Args:
            folder: of the partition.
            version: the new version's folder within it.
            replaces: what `published` said when the build began.
            fingerprint: of this build, where one with the same that was published since is as good; else None.

        Raises:
            ConflictError: another build published since, and not as good a one; the new version's folder is removed.
        """
        with self.locked(folder):
            manifest = self._intact_manifest(folder)
            if manifest is not None and manifest["version"] == version:
                yield Publication(done=manifest, publish=lambda _: None)
                return
            if self.published(folder) != replaces:
                self.discard(f"{folder}/{version}")
                if manifest is not None and fingerprint is not None and manifest["fingerprint"] == fingerprint:
                    yield Publication(done=manifest, publish=lambda _: None)
                    return
                raise ConflictError(
                    f"{self.path(folder)}: another build published a newer version while this one ran; "
                    "this one was discarded. Build again if it should be replaced"
                )
            yield Publication(done=None, publish=lambda document: self._publish(folder, document))

    @contextmanager
    def locked(self, folder: str) -> Iterator[None]:
        """Keep others from publishing a partition, or from removing its versions, within the context that this gives."""
        locks = self.path(LOCKS)
        locks.mkdir(parents=True, exist_ok=True)
        # the kernel drops this lock when a process dies
        with (locks / hashlib.sha256(folder.encode()).hexdigest()[:24]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def unpublish(self, folder: str) -> None:
        """Remove the manifest of a partition, and with it what readers find; the files of its versions stay."""
        with self.locked(folder):
            self.remove(f"{folder}/{MANIFEST}")

    def _intact_manifest(self, folder: str) -> dict[str, Any] | None:
        try:
            return self.manifest(folder)
        except CorruptFileError:
            return None  # it is about to be replaced

    def _publish(self, folder: str, document: dict[str, Any]) -> None:
        version = self.path(f"{folder}/{document['version']}")
        gone = [file["path"] for file in document.get("files", ()) if not (version / file["path"]).is_file()]
        if gone:  # a build that is executed again long after it failed
            raise NotFoundError(f"{version}: {len(gone)} files of this build are gone, such as {gone[0]}; start it again")
        self.write(f"{folder}/{MANIFEST}", [seal(document)])

    @contextmanager
    def _temporary(self, name: str) -> Iterator[tuple[Any, str]]:
        path = self.path(name)
        with _explaining(path):
            handle, temporary = _make_beside(path)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file, temporary
            finally:
                Path(temporary).unlink(missing_ok=True)


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{path}: could not be written: {error.strerror or error}; what was there before is unchanged. "
            "Check free space and rights, then run this again"
        ) from error


def _make_beside(path: Path) -> tuple[int, str]:
    for _ in range(3):  # the folder is removed in between only if it was empty for long
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return tempfile.mkstemp(dir=path.parent, prefix=WRITING)
    return tempfile.mkstemp(dir=path.parent, prefix=WRITING)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
