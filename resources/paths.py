"""Paths of people's files: on this machine a `Path`, in S3 one that knows what the listing said of it."""

from pathlib import Path, PurePosixPath
from typing import Any

from mimic_core.errors import TableError
from resources.storage import S3, File, Status, open_storage


class S3Path(PurePosixPath):
    """An object of S3 as `bucket/key`, which people see as its URL.

    Attributes:
        status: what its listing said.
    """

    status: Status
    _exact: str

    @classmethod
    def of(cls, url: str, status: Status) -> "S3Path":
        """Make the path of an object.

        Args:
            url: such as `s3://BUCKET/KEY`.
        """
        path = cls(url.removeprefix(S3))
        path.status, path._exact = status, url.removeprefix(S3)
        return path

    @property
    def key(self) -> str:
        """Bucket and key, as Arrow's file system names it; a path would lose a slash of two."""
        return getattr(self, "_exact", super().__str__())

    def __str__(self) -> str:
        return f"{S3}{self.key}"


def as_path(location: "str | Path") -> "Path | str":
    """Return a location as `listed` takes it: the URL of S3 stays a text, as a `Path` would lose a slash of it."""
    return location if str(location).startswith(S3) else Path(location)


def objects_below(url: str) -> list[S3Path]:
    """List the objects at or below a URL of S3, as `objects_in` does.

    Raises:
        TableError: there is none.
        StorageError: S3 does not answer, or refuses.
    """
    if found := objects_in(url):
        return found
    bucket, _, key = url.removeprefix(S3).rstrip("/").partition("/")
    status = open_storage(f"{S3}{bucket}").status(key) if key else None  # of what is no folder: that may not be asked for
    if status is None:
        raise TableError(f"{url}: there is no such object, and none below it")
    return [S3Path.of(f"{S3}{bucket}/{key}", status)]


def objects_in(url: str) -> list[S3Path]:
    """List the objects below a URL of S3, sorted; hidden ones and those that Spark has not finished are left out.

    Raises:
        StorageError: S3 does not answer, or refuses.
    """
    bucket, _, key = url.removeprefix(S3).rstrip("/").partition("/")
    storage = open_storage(f"{S3}{bucket}")
    found = sorted(storage.files(key), key=lambda file: file.name)
    shown = [file for file in found if not _is_hidden(file, key)]
    return [S3Path.of(storage.url(file.name), status) for file in shown if (status := file.status)]


def size_and_stamp(path: "Path | S3Path") -> tuple[int, Any, float]:
    """Return a file's bytes, what changes when it is written anew, and when it was, in seconds since 1970."""
    if isinstance(path, S3Path):
        return path.status.bytes, path.status.tag, path.status.changed
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_mtime_ns / 1e9


def source_of(path: "Path | S3Path") -> Any:
    """Return what a Parquet reader takes: a path of this machine, or the open object."""
    from resources.arrow_s3 import s3_file_system

    return s3_file_system().open_input_file(path.key) if isinstance(path, S3Path) else path


def file_system_of(path: "Path | S3Path") -> tuple[str, Any]:
    """Return the name of a file in its file system of Arrow, and that."""
    from pyarrow.fs import LocalFileSystem

    from resources.arrow_s3 import s3_file_system

    return (path.key, s3_file_system()) if isinstance(path, S3Path) else (str(path), LocalFileSystem())


def _is_hidden(file: File, folder: str) -> bool:
    parts = file.name[len(folder) :].strip("/").split("/")
    return any(part.startswith(".") or part == "_temporary" for part in parts) or parts[-1] in ("_SUCCESS", "_metadata")
