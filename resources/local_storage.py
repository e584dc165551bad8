"""Local storage: files below a folder of this machine, or of a volume that machines share."""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mimic_core.errors import ConflictError, StorageError
from resources.listing import entries_of, files_below, folders_of
from resources.storage import File, Status, Written

LOCKS = ".locks"
WRITING = ".writing-"  # begins the names of files that are being written


class LocalStorage:
    """Files by name below a folder; see `resources.storage.Storage` for the methods."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return str(self._path(name))

    def status(self, name: str) -> Status | None:
        """Return what is known of a file; None when there is none."""
        return _status(f"{self._root}/{name}")

    def statuses(self, folders: list[str]) -> Callable[[str], Status | None]:
        """Return what tells the status of files, as it is when it is asked."""
        del folders  # they are not listed
        return self.status

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return self._path(name).read_bytes()

    def download(self, name: str, file: BinaryIO) -> None:
        """Copy a file into an open one."""
        with self._path(name).open("rb") as source:
            shutil.copyfileobj(source, file)

    @contextmanager
    def writing(self, name: str) -> Iterator[Written]:
        """Write a file piece by piece."""
        with self._temporary(name) as (file, temporary):
            written = Written(file)
            yield written
            if not written.discarded:
                _sync(file)
                Path(temporary).replace(self._path(name))

    def append(self, name: str, data: bytes) -> None:
        """Add bytes at the end of a file; after a kill, but not after an error, a part of them may be there."""
        path = self._path(name)
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

    def create(self, name: str, data: bytes) -> str:
        """Write a small file unless one is there."""
        try:
            with self._temporary(name) as (file, temporary):
                file.write(data)
                _sync(file)
                os.link(temporary, self._path(name))
        except FileExistsError as error:
            raise ConflictError(f"{self._path(name)}: another writer was first") from error
        return self._tag(name) or ""

    def swap(self, name: str, data: bytes, tag: str | None) -> str:
        """Write a small file in place of another one; who writes it otherwise must hold the same lock."""
        if self._tag(name) != tag:
            raise ConflictError(f"{self._path(name)}: another writer was first")
        with self.writing(name) as file:
            file.write(data)
        return self._tag(name) or ""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def discard(self, folder: str) -> None:
        """Remove a folder with all that is in it, if it is there."""
        shutil.rmtree(self._path(folder), onerror=_refuse)

    def rename(self, folder: str, new: str) -> None:
        """Give a folder another name."""
        old, path = self._path(folder), self._path(new)
        try:
            old.rename(path)
        except OSError as error:
            raise StorageError(f"{old}: cannot be renamed to {path}: {error.strerror}; check rights and mounts") from error

    def files(self, folder: str) -> Iterator[File]:
        """Stream the files below a folder."""
        root = self._root.resolve()  # it may be a link to another disk; below it none is followed
        with _reading():
            for entry in files_below(root / folder):
                yield File(entry.path[len(str(root)) + 1 :], partial(_status_of, entry))

    def names(self, folder: str) -> list[str]:
        """List the names of the files directly in a folder."""
        with _reading():
            found = entries_of(self._root.resolve() / folder)
            return sorted(entry.name for entry in found if entry.is_file() and not entry.name.startswith("."))

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder."""
        with _reading():
            return [path.name for path in folders_of(self._root.resolve() / folder)]

    def is_missing(self, folder: str) -> bool:
        """Tell whether there is no such folder."""
        return not self._path(folder).is_dir()

    def tidy(self, folders: list[str], removed: list[str], before: float) -> None:
        """Remove the folders below some that are empty since something in them was removed, or for long."""
        root = self._root.resolve()
        emptied = {parent for name in removed for parent in (root / name).parents if root in parent.parents}
        for top in folders:
            for name, _, _ in os.walk(root / top, topdown=False, followlinks=False):
                folder = Path(name)
                if folder.is_symlink():
                    continue
                with suppress(OSError):  # it is not empty, or gone
                    if not any(True for _ in entries_of(folder)) and (folder in emptied or folder.stat().st_mtime < before):
                        folder.rmdir()

    @contextmanager
    def locked(self, name: str) -> Iterator[Callable[[], None]]:
        """Keep others who ask for the same name waiting within the context."""
        locks = self._path(LOCKS)
        locks.mkdir(parents=True, exist_ok=True)
        # the kernel drops this lock when a process dies
        with (locks / hashlib.sha256(name.encode()).hexdigest()[:24]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lambda: None  # it stays with a process that is stopped

    def _path(self, name: str) -> Path:
        return self._root / name

    def _tag(self, name: str) -> str | None:
        status = self.status(name)
        return status.tag if status else None

    @contextmanager
    def _temporary(self, name: str) -> Iterator[tuple[Any, str]]:
        path = self._path(name)
        with _explaining(path):
            handle, temporary = _make_beside(path)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file, temporary
            finally:
                Path(temporary).unlink(missing_ok=True)


def _refuse(_: object, path: str, found: tuple[type[BaseException], BaseException, object]) -> None:
    """Raise what keeps a file from being removed; that somebody else removed it is none."""
    if not isinstance(found[1], FileNotFoundError | NotADirectoryError):
        reason = getattr(found[1], "strerror", None) or found[1]
        raise StorageError(f"{path}: could not be removed: {reason}; check rights, then run this again") from found[1]


def _status(path: str) -> Status | None:
    with _reading(path):
        try:
            return _as_status(os.stat(path))  # noqa: PTH116  ten times the speed of a Path
        except (FileNotFoundError, NotADirectoryError):
            return None


def _status_of(entry: "os.DirEntry[str]") -> Status | None:
    with suppress(FileNotFoundError):
        return _as_status(entry.stat(follow_symlinks=False))
    return None


def _as_status(found: os.stat_result) -> Status:
    return Status(found.st_size, found.st_mtime, f"{found.st_mtime_ns} {found.st_size} {found.st_ino}")


@contextmanager
def _reading(path: str = "") -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, StorageError):
        raise
    except OSError as error:
        where = error.filename or path
        raise StorageError(f"{where}: cannot be read: {error.strerror}; check rights and mounts") from error


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
