"""Arrow's S3 file system, which reads and writes tables: made of the settings and credentials that boto3 finds.

pyiceberg finds the classes by their names, see `resources.aws.iceberg_properties`.
"""

from functools import lru_cache
from typing import Any

from pyarrow.fs import AwsStandardS3RetryStrategy
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from resources.aws import ATTEMPTS, credentials_for_arrow, iceberg_properties


class Retries(AwsStandardS3RetryStrategy):  # type: ignore[misc]
    """As often as clients of boto3 do."""

    def __init__(self) -> None:
        super().__init__(max_attempts=ATTEMPTS)


class Files(PyArrowFileIO):
    """The files of tables, opened with the credentials that hold when they are opened: some last for an hour."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.fs_by_scheme = self._initialize_fs  # which is kept for good otherwise

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> Any:
        return s3_file_system() if scheme.startswith("s3") else super()._initialize_fs(scheme, netloc)


def s3_file_system() -> Any:
    """Return Arrow's file system for S3.

    Raises:
        StorageError: there are no credentials any more, or no region.
    """
    return _file_system(tuple(sorted((iceberg_properties() | credentials_for_arrow()).items())))


@lru_cache(maxsize=1)
def _file_system(properties: tuple[tuple[str, str], ...]) -> Any:
    return PyArrowFileIO(dict(properties)).fs_by_scheme("s3", None)
