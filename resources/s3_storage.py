"""S3 storage: objects below a prefix of a bucket, by boto3.

What is committed is one small object, put only where none is, or where the one is that was read (If-None-Match, If-Match);
large files are uploaded in parts with checksums, and are there when the last part is. Folders are beginnings of names.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from tenacity import Retrying, retry_if_exception, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from mimic_core.errors import ConflictError, SpecError, StorageError
from resources.aws import client, code_of, explaining, status_of
from resources.leases import lease
from resources.s3_appends import Appends
from resources.storage import S3, File, Status, Written

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

UNWRITTEN = "what was there before is unchanged"
IN_MEMORY = 2**23  # bytes of a file that is being written; a larger one waits in a temporary file
PART_BYTES = 2**24
PARTS_AT_ONCE = 4
MOST_REMOVED = 1000  # objects that one request may remove
MORE_ATTEMPTS = 5  # at what the client does not try again
WITHOUT_CHECKSUM = ("MissingContentMD5", "InvalidRequest", "InvalidDigest", "NotImplemented")  # says an older store


class S3Storage:
    """Objects by name below a prefix; see `resources.storage.Storage` for the methods."""

    def __init__(self, root: str) -> None:
        self._bucket, _, prefix = root.removeprefix(S3).rstrip("/").partition("/")
        self._root = f"{S3}{self._bucket}/{prefix}".rstrip("/")
        if not self._bucket:
            raise SpecError(f"{root}: expected s3://BUCKET or s3://BUCKET/PREFIX")
        self._prefix = f"{prefix}/" if prefix else ""
        self._appends = Appends(self)

    def url(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self._root}/{name}" if name else self._root

    def status(self, name: str) -> Status | None:
        """Return what is known of an object; None when there is none."""
        try:
            with self._reading(name):
                return _status(self._s3.head_object(**self._at(name)))
        except FileNotFoundError:
            return None

    def statuses(self, folders: list[str]) -> Callable[[str], Status | None]:
        """Return what tells the status of objects, listed when the first of a folder is asked for."""
        listed: dict[str, dict[str, Status]] = {}
        lock = threading.Lock()

        def look(name: str) -> Status | None:
            folder = next((folder for folder in folders if name.startswith(f"{folder}/")), None)
            if folder is None:
                return self.status(name)
            with lock:
                if folder not in listed:
                    listed[folder] = dict(self._listed(f"{folder}/"))
                return listed[folder].get(name)

        return look

    def read(self, name: str) -> bytes:
        """Return the bytes of an object."""
        self._appends.flush(name)
        with self._reading(name):
            return bytes(self._whole(name)[0])

    def download(self, name: str, file: BinaryIO) -> None:
        """Copy an object into an open file."""
        with self._reading(name):
            self._s3.download_fileobj(self._bucket, self._key(name), file, Config=_transfer())

    @contextmanager
    def writing(self, name: str) -> Iterator[Written]:
        """Write an object piece by piece."""
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
                written = Written(file)  # type: ignore[arg-type]
                yield written
                if not written.discarded:
                    self._appends.forget(name)
                    file.seek(0)
                    with self._writing(name):
                        self._s3.upload_fileobj(file, self._bucket, self._key(name), Config=_transfer())
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"{self.url(name)}: could not be written: {tempfile.gettempdir()}: {error.strerror or error}; {UNWRITTEN}. "
                "Make room there, or let TMPDIR name a folder with more"
            ) from error

    def append(self, name: str, data: bytes) -> None:
        """Add bytes at the end of an object, by writing all of it anew; others see them some seconds later."""
        self._appends.add(name, data)

    def create(self, name: str, data: bytes) -> str:
        """Write a small object unless one is there."""
        return self.swap(name, data, None)

    def swap(self, name: str, data: bytes, tag: str | None) -> str:
        """Write a small object in place of the one with a tag, or where none is."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": f'"{tag}"'}
        try:
            with self._writing(name):
                return _tag(self._put(name, data, condition))
        except (ConflictError, FileNotFoundError) as error:
            # the answer to a request may be lost, which then is made again, and finds its own object
            if (mine := self._tag_of(name, data)) is not None:
                return mine
            raise ConflictError(f"{self.url(name)}: another writer was first") from error

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        self._appends.forget(name)
        with self._writing(name, "could not be removed"):
            self._s3.delete_object(**self._at(name))

    def discard(self, folder: str) -> None:
        """Remove all objects below a folder."""
        self._appends.forget(_below(folder))
        keys = [self._key(name) for name, _ in self._listed(_below(folder))]
        for first in range(0, len(keys), MOST_REMOVED):
            with self._writing(folder, "could not be removed"):
                errors = self._remove_all(keys[first : first + MOST_REMOVED])
            if errors:
                raise StorageError(
                    f"{S3}{self._bucket}/{errors[0]['Key']}: could not be removed: {errors[0]['Message']}, and "
                    f"{len(errors) - 1:,} others; do this again later"
                )

    def rename(self, folder: str, new: str) -> None:
        """Copy the objects of a folder into another one, then remove them, the last one last: until then it is as it was."""
        names = sorted(name for name, _ in self._listed(f"{folder}/"))
        for name in names:
            with self._writing(name):
                source = {"Bucket": self._bucket, "Key": self._key(name)}
                self._s3.copy_object(**self._at(f"{new}/{name[len(folder) + 1 :]}"), CopySource=source)
        for name in names:
            self.remove(name)

    def files(self, folder: str) -> Iterator[File]:
        """Stream the objects below a folder."""
        for name, status in self._listed(_below(folder)):
            yield File(name, partial(_given, status))

    def names(self, folder: str) -> list[str]:
        """List the names of the objects directly in a folder."""
        pages = self._pages(_below(folder), "/")
        names = [each["Key"].rpartition("/")[2] for page in pages for each in page.get("Contents", ())]
        return sorted(name for name in names if name and not name.startswith("."))

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder."""
        pages = self._pages(_below(folder), "/")
        return sorted(each["Prefix"].split("/")[-2] for page in pages for each in page.get("CommonPrefixes", ()))

    def is_missing(self, folder: str) -> bool:
        """Say no: there are no folders."""
        del folder
        return False

    def tidy(self, folders: list[str], removed: list[str], before: float) -> None:
        """Do nothing: there are no folders that could be empty."""

    def locked(self, name: str) -> AbstractContextManager[Callable[[], None]]:
        """Keep others who ask for the same name waiting within the context."""
        return lease(self, name)

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """Return the bytes of a small object and its tag, both of one version.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._reading(name):
            return self._whole(name)

    # ---- requests

    @property
    def _s3(self) -> Any:
        return client("s3")

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(name)}

    def _put(self, name: str, data: bytes, condition: dict[str, str]) -> dict[str, Any]:
        put = partial(self._s3.put_object, **self._at(name), Body=data, **condition)
        answer: dict[str, Any] = _attempts(retry_if_exception(_is_undecided))(put)
        return answer

    def _remove_all(self, keys: list[str]) -> list[dict[str, Any]]:
        """Remove objects by one request, or by one each where the store is too old for its checksum; returns the errors."""
        from botocore.exceptions import ClientError

        try:
            objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            errors: list[dict[str, Any]] = self._s3.delete_objects(Bucket=self._bucket, Delete=objects).get("Errors", [])
        except ClientError as error:
            if code_of(error) not in WITHOUT_CHECKSUM:
                raise
            for key in keys:
                self._s3.delete_object(Bucket=self._bucket, Key=key)
            return []
        return errors

    def _whole(self, name: str) -> tuple[bytes, str]:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        data, tag = b"", ""
        # the client tries again what has no answer, but not an answer that breaks off
        for attempt in _attempts(retry_if_exception_type((HTTPClientError, IncompleteReadError))):
            answer = self._s3.get_object(**self._at(name))
            with attempt:
                data, tag = answer["Body"].read(), _tag(answer)
        return data, tag

    def _tag_of(self, name: str, data: bytes) -> str | None:
        """Return the tag of an object that holds these very bytes; None where it holds others."""
        try:
            found, tag = self.read_tagged(name)
        except FileNotFoundError:
            return None
        return tag if found == data else None

    def _pages(self, beginning: str, delimiter: str = "") -> Iterator[dict[str, Any]]:
        pages = self._s3.get_paginator("list_objects_v2")
        with explaining(self.url(beginning), "cannot be listed"):
            yield from pages.paginate(Bucket=self._bucket, Prefix=self._key(beginning), Delimiter=delimiter)

    def _listed(self, beginning: str) -> Iterator[tuple[str, Status]]:
        for page in self._pages(beginning):
            for each in page.get("Contents", ()):
                if not each["Key"].endswith("/"):  # which a console makes for a folder
                    name = each["Key"][len(self._prefix) :]
                    yield name, Status(each["Size"], each["LastModified"].timestamp(), _tag(each))

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        from botocore.exceptions import ClientError

        with explaining(self.url(name), "cannot be read"):
            try:
                yield
            except ClientError as error:
                if _is_absence(error):
                    raise FileNotFoundError(self.url(name)) from error
                raise

    @contextmanager
    def _writing(self, name: str, failed: str = "could not be written") -> Iterator[None]:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import ClientError

        with explaining(self.url(name), failed, UNWRITTEN):
            try:
                yield
            except S3UploadFailedError as error:
                raise (error.__context__ if isinstance(error.__context__, ClientError) else error) from error
            except ClientError as error:
                if _is_absence(error):  # of the object that should have been there
                    raise FileNotFoundError(self.url(name)) from error
                raise


def _below(folder: str) -> str:
    return f"{folder}/" if folder else ""


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE)


def _attempts(which: Any) -> Retrying:
    wait = wait_random_exponential(0.2, max=10)
    return Retrying(retry=which, stop=stop_after_attempt(MORE_ATTEMPTS), wait=wait, reraise=True)


def _is_undecided(error: BaseException) -> bool:
    """Tell whether S3 did not look at a condition, as another request for the object was in progress."""
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and code_of(error) == "ConditionalRequestConflict"


def _is_absence(error: "ClientError") -> bool:
    return status_of(error) == 404 and code_of(error) != "NoSuchBucket"


def _status(answer: dict[str, Any]) -> Status:
    return Status(answer["ContentLength"], answer["LastModified"].timestamp(), _tag(answer))


def _tag(answer: dict[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')


def _given(status: Status) -> Status:
    return status
