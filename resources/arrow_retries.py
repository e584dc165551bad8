"""How often Arrow's S3 file system makes a request again; pyiceberg finds the class by its name."""

from pyarrow.fs import AwsStandardS3RetryStrategy

from resources.aws import ATTEMPTS


class Retries(AwsStandardS3RetryStrategy):  # type: ignore[misc]
    """As often as clients of boto3 do."""

    def __init__(self) -> None:
        super().__init__(max_attempts=ATTEMPTS)
