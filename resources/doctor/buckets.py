"""Buckets: whether one can be used as mimic uses it, tried with a small object that is removed again."""

import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from resources import aws
from resources.doctor.cloud import INSTEAD, Cloud, explained
from resources.doctor.findings import Finding, ok, one_line, skipped, warning, wrong
from resources.storage import S3

PROBES = ".mimic-doctor"  # folder of the objects that are tried
LEFT_FOR = timedelta(hours=1)  # after which no look goes on
ARROW = (
    "as boto3 reaches it, Arrow finds other credentials, or another region: set AWS_DEFAULT_REGION to that of the bucket, "
    "and give keys by AWS_ACCESS_KEY_ID and the others, which both read"
)
OTHER_STORE = "take a store that knows conditional puts, as S3 does; without them two builds overwrite each other's results"


class Bucket:
    """A place in S3 that a setting names.

    Attributes:
        name: of the bucket.
    """

    def __init__(self, cloud: Cloud, variable: str, url: str) -> None:
        self._cloud, self._variable, self._url = cloud, variable, url
        self.name, _, prefix = url.removeprefix(S3).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._reached = False

    def look(self) -> Iterator[Finding]:
        """Look whether it is there, in which region, and whether objects can be listed, written, swapped and removed."""
        from botocore.exceptions import ClientError

        try:
            found = self._s3.list_objects_v2(Bucket=self.name, Prefix=self._prefix, MaxKeys=1)
        except Exception as error:
            yield explained(self._variable, self._cloud, error, f"{self._url} cannot be listed")
            if not (isinstance(error, ClientError) and aws.code_of(error) == "AccessDenied"):
                return
        else:
            self._reached = True
            yield from self._region(found)
        yield from self._objects()

    def arrow(self) -> Iterator[Finding]:
        """Look whether Arrow, which reads and writes tables by a client of its own, reaches it too."""
        from pyarrow.fs import FileSelector
        from pyiceberg.io.pyarrow import PyArrowFileIO

        about = f"{self._variable} by Arrow"
        if not self._reached:
            yield skipped(about, "boto3 does not reach it either, see above")
            return
        properties = (
            aws.iceberg_properties() | aws.credentials_for_arrow() | {"s3.connect-timeout": "3", "s3.request-timeout": "5"}
        )
        properties.pop("s3.retry-strategy-impl", None)  # which tries for longer than anybody waits for the doctor
        files = PyArrowFileIO(properties)
        place = FileSelector(f"{self.name}/{self._prefix}".rstrip("/"), allow_not_found=True)
        try:
            files.fs_by_scheme("s3", self.name).get_file_info(place)
        except OSError as error:
            what, do = aws.arrow_refusal(error) or (str(error), "")
            do = INSTEAD.get(do, do) or ARROW
            yield wrong(about, f"{self._url} cannot be listed by Arrow: {one_line(what)}", do)
        else:
            yield ok(about, f"{self._url} is reached by Arrow too")

    @property
    def _s3(self) -> Any:
        return self._cloud.client("s3")

    def _region(self, answer: dict[str, Any]) -> Iterator[Finding]:
        there = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        here = self._s3.meta.region_name
        if there and there != here and self._cloud.is_amazon("s3"):
            do = f"set AWS_DEFAULT_REGION={there}, or `region` of the profile"
            yield wrong(self._variable, f"{self._url} is in {there}, and requests go to {here}, as tables' do", do)
        else:
            yield ok(self._variable, f"{self._url} can be listed{f', in {there}' if there else ''}")

    def _objects(self) -> Iterator[Finding]:
        folder = f"{self._prefix}{PROBES}/"
        with suppress(Exception):  # said below
            self._remove_old(folder)
        key = f"{folder}{uuid.uuid4().hex}"
        try:
            yield self._written(key)
        except Exception as error:
            yield self._unwritable(key, error)
        try:
            self._s3.delete_object(Bucket=self.name, Key=key)
        except Exception as error:
            yield explained(self._variable, self._cloud, error, f"{S3}{self.name}/{key} cannot be removed")

    def _remove_old(self, folder: str) -> None:
        """Remove what looks left that were given up."""
        for each in self._s3.list_objects_v2(Bucket=self.name, Prefix=folder).get("Contents", ()):
            if each["LastModified"] < datetime.now(UTC) - LEFT_FOR:
                self._s3.delete_object(Bucket=self.name, Key=each["Key"])

    def _written(self, key: str) -> Finding:
        """Do with an object what a commit does."""
        tag = self._put(key, b"first", IfNoneMatch="*")
        ignored = None
        if tag is None:
            ignored = "refuses a put with If-None-Match where no object is"
        elif self._put(key, b"second", IfNoneMatch="*") is not None:
            ignored = "replaces an object although If-None-Match forbids it"
        elif self._put(key, b"second", IfMatch='"00000000000000000000000000000000"') is not None:
            ignored = "replaces an object although If-Match names another one"
        elif self._put(key, b"second", IfMatch=tag) is None:
            ignored = "refuses to replace the very object that If-Match names"
        elif self._s3.get_object(Bucket=self.name, Key=key)["Body"].read() != b"second":
            ignored = "gives back other bytes than were written"
        if ignored:
            return wrong(self._variable, f"the store of {self._url} {ignored}", OTHER_STORE)
        return ok(self._variable, "objects are written, read, put only where none is, swapped and removed")

    def _put(self, key: str, data: bytes, **condition: str) -> str | None:
        """Put an object under a condition; returns its tag, or None where the condition was not met."""
        from botocore.exceptions import ClientError

        try:
            return str(self._s3.put_object(Bucket=self.name, Key=key, Body=data, **condition)["ETag"])
        except ClientError as error:
            if aws.status_of(error) in aws.TAKEN:
                return None
            raise

    def _unwritable(self, key: str, error: Exception) -> Finding:
        """Say why an object cannot be written; a store that refuses a header is tried without."""
        from botocore.exceptions import ClientError

        place = f"{self._url}: objects cannot be written and read"
        if isinstance(error, ClientError) and aws.status_of(error) in (400, 501):
            where: dict[str, Any] = {"Bucket": self.name, "Key": key, "Body": b"third"}
            with suppress(ClientError):
                self._cloud.client("s3", "when_required").put_object(**where, IfNoneMatch="*")
                do = "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
                return wrong(self._variable, f"{place}: the store refuses the checksums of newer clients", do)
            with suppress(ClientError):
                self._cloud.client("s3", "when_required").put_object(**where)
                return wrong(self._variable, f"{place}: the store does not know conditional puts", OTHER_STORE)
        return explained(self._variable, self._cloud, error, place)

    def kept(self) -> Iterator[Finding]:
        """Look how the bucket keeps its objects, where the role may: that of the pods may not."""
        from botocore.exceptions import ClientError

        about = f"bucket {self.name}"
        if not self._reached:
            return
        unread, fine, lacking = [], [], []
        for what, request, is_well, found, do in KEPT:
            try:
                well = is_well(getattr(self._s3, request)(Bucket=self.name))
            except ClientError as error:
                if aws.status_of(error) != 404:
                    unread.append(what)
                    continue
                well = False  # it was never set
            if well:
                fine.append(what)
            else:
                lacking.append((found, do))
        if lacking:
            founds, todos = zip(*lacking, strict=True)
            yield warning(about, ", ".join(founds), f"{', '.join(todos)} if its data matter, as deploy/terraform does")
        if fine:
            yield ok(about, f"has {', '.join(fine)}")
        if unread:
            yield skipped(about, f"{', '.join(unread)}: not told to this role, or by this store")


def _has_versions(answer: dict[str, Any]) -> bool:
    return answer.get("Status") == "Enabled"


def _is_encrypted(answer: dict[str, Any]) -> bool:
    return bool(answer.get("ServerSideEncryptionConfiguration", {}).get("Rules"))


def _is_private(answer: dict[str, Any]) -> bool:
    return all(answer.get("PublicAccessBlockConfiguration", {}).values())


KEPT = (  # what is good, how it is asked for, how an answer is judged, what is said without it, and what to do
    ("versions", "get_bucket_versioning", _has_versions, "keeps no versions", "switch versioning on"),
    ("encryption", "get_bucket_encryption", _is_encrypted, "is not encrypted", "set an encryption by default"),
    ("no public access", "get_public_access_block", _is_private, "may be opened to all", "block public access"),
)
