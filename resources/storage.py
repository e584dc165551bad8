"""Storage: the one door to files by name below a root, which is a folder of this machine or a prefix of an S3 bucket.

A name is a relative path with forward slashes. Every write is atomic: a reader sees the old bytes or the new ones, also
after a kill or on a full disk.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

S3 = "s3://"


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a file without reading it.

    Attributes:
        bytes: its size.
        changed: when it was written, in seconds since 1970, by the clock of the storage.
        tag: a text that is another one whenever its bytes may be.
    """

    bytes: int
    changed: float
    tag: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found below a folder.

    Attributes:
        name: below the root.
        look: gives its status.
    """

    name: str
    look: Callable[[], Status | None]

    @property
    def status(self) -> Status | None:
        """What is known of it; None where it vanished meanwhile."""
        return self.look()


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
    def entry(self) -> dict[str, object]:
        """Size and checksum for a manifest."""
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}


class Swapping(Protocol):
    """What leases and appends need of a storage of objects."""

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """Return the bytes of an object and its tag."""

    def swap(self, name: str, data: bytes, tag: str | None) -> str:
        """Write an object in place of the one with a tag."""


class Storage(Protocol):
    """Files by name below a root.

    Whatever of it reads or writes raises StorageError where the storage does not answer, refuses, or is full.
    """

    def url(self, name: str) -> str:
        """Return what people call a file: its path, or its `s3://` URL."""

    def status(self, name: str) -> Status | None:
        """Return what is known of a file; None when there is none."""

    def statuses(self, folders: "list[str]") -> Callable[[str], Status | None]:
        """Return what tells the status of the files below some folders, which may be as old as this call."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    def download(self, name: str, file: BinaryIO) -> None:
        """Copy a file into an open one of this machine; a large one in several parts at once.

        Raises:
            FileNotFoundError: there is none.
        """

    def writing(self, name: str) -> AbstractContextManager[Written]:
        """Write a file piece by piece; it is there when the context ends without an error, unless it was discarded."""

    def append(self, name: str, data: bytes) -> None:
        """Add bytes at the end of a file; other processes may see them some seconds later."""

    def create(self, name: str, data: bytes) -> str:
        """Write a small file unless one is there; returns its tag.

        Raises:
            ConflictError: one is there.
        """

    def swap(self, name: str, data: bytes, tag: str | None) -> str:
        """Write a small file in place of the one with a tag, or where none is if that is None; returns its tag.

        Raises:
            ConflictError: another one is there.
        """

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def discard(self, folder: str) -> None:
        """Remove a folder with all that is in it, if it is there."""

    def rename(self, folder: str, new: str) -> None:
        """Give a folder another name."""

    def files(self, folder: str) -> Iterator[File]:
        """Stream the files below a folder, hidden ones too; what vanishes meanwhile, and symbolic links, are left out."""

    def names(self, folder: str) -> list[str]:
        """List the names of the files directly in a folder, sorted; hidden ones are left out."""

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder, sorted."""

    def is_missing(self, folder: str) -> bool:
        """Tell whether there is no such folder; never, where folders are but the beginnings of names."""

    def tidy(self, folders: "list[str]", removed: "list[str]", before: float) -> None:
        """Remove the folders below some that are empty since something in them was removed, or for long.

        Args:
            removed: what was removed just now.
            before: time before which a folder must have changed last that is empty for another reason.
        """

    def locked(self, name: str) -> AbstractContextManager[Callable[[], None]]:
        """Keep others who ask for the same name waiting within the context; one that dies keeps nobody for long.

        It gives what raises ConflictError where this process was stopped for so long that another one took its turn.
        """


def storage_at(url: str) -> Storage:
    """Return the storage of a root as the URL of a table's folder or of a warehouse names it, `file://` or `s3://`."""
    return open_storage(url.removeprefix("file://"))


@lru_cache(maxsize=64)
def open_storage(root: str) -> Storage:
    """Return the storage of a root: a path of this machine, or `s3://BUCKET/PREFIX`."""
    if root.startswith(S3):
        from resources.s3_storage import S3Storage

        return S3Storage(root)
    from resources.local_storage import LocalStorage

    return LocalStorage(root)
