"""AWS: its clients, made from the default chain of credentials and settings, and what their failures mean.

Region, profile, endpoints of S3-compatible stores (AWS_ENDPOINT_URL) and checksums (AWS_REQUEST_CHECKSUM_CALCULATION) are
settings of AWS's own, which boto3 reads; mimic has none beside them.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mimic_core.errors import ConflictError, StorageError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

ATTEMPTS = 6  # of a request; waits of up to 20 seconds in between
CONNECT_SECONDS, READ_SECONDS = 10, 60
CONNECTIONS = 32  # of one client, for its threads
# where boto3 found credentials -> Arrow finds them there too, and renews them itself
KNOWN_TO_ARROW = {
    "env",
    "shared-credentials-file",
    "config-file",
    "container-role",
    "iam-role",
    "assume-role-with-web-identity",
}
TAKEN = (409, 412)  # HTTP status of a conditional request whose condition does not hold
LOG_IN = "log in again, such as by `aws sso login --profile PROFILE`, and see that AWS_PROFILE names that profile"
BUSY = "too many requests"
LOOK = "see `mimic doctor`"
DENIED = ("access is denied", "see which role `mimic doctor` finds, and give it the rights of deploy/terraform")
CODES = {  # of an error -> what it means, and what to do
    "AccessDenied": DENIED,
    "AccessDeniedException": DENIED,
    "403": DENIED,
    "400": ("the request is refused", f"the credentials may be out of date: {LOG_IN}; or the bucket is in another region"),
    "NoSuchBucket": ("there is no such bucket", "make it, or mend its name in MIMIC_ARTEFACTS or MIMIC_WAREHOUSE"),
    "SlowDown": (BUSY, f"it was asked {ATTEMPTS} times; do this again later, or with fewer steps at once"),
    "503": (BUSY, f"it was asked {ATTEMPTS} times; do this again later, or with fewer steps at once"),
    "ThrottlingException": (BUSY, f"it was asked {ATTEMPTS} times; do this again later"),
    "ExpiredToken": ("the credentials are out of date", LOG_IN),
    "ExpiredTokenException": ("the credentials are out of date", LOG_IN),
    "InvalidAccessKeyId": ("the credentials are unknown", LOG_IN),
    "InvalidClientTokenId": ("the credentials are unknown", LOG_IN),
    "UnrecognizedClientException": ("the credentials are unknown", LOG_IN),
    "SignatureDoesNotMatch": ("the credentials are wrong", "see that the secret key belongs to the access key"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_DEFAULT_REGION to that of the bucket"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "set AWS_DEFAULT_REGION to that of the bucket"),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set it, such as by NTP"),
    "NotImplemented": (
        "the store does not know a header of this request",
        "for a store that is older than the checksums of S3, set AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
    ),
}


_making = threading.Lock()  # a session makes one client at a time
ARROW_CODES = {"ACCESS_DENIED": "AccessDenied", "NO_SUCH_BUCKET": "NoSuchBucket", "SLOW_DOWN": "SlowDown"}
ARROW_CODES |= {"INVALID_ACCESS_KEY_ID": "InvalidAccessKeyId", "SIGNATURE_DOES_NOT_MATCH": "SignatureDoesNotMatch"}


@lru_cache(maxsize=16)
def client(service: str) -> Any:
    """Return the client of a service, such as `s3`; it is made once for all threads.

    Raises:
        StorageError: there is no region.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    with explaining(service, "cannot be reached"), _making:
        try:
            return _session().client(service, config=config)
        except ValueError as error:
            raise StorageError(f"{service}: {error}; let AWS_ENDPOINT_URL be a URL such as https://STORE") from error


@lru_cache(maxsize=1)
def _session() -> Any:
    """One for all, so that credentials are found once: somebody may have to type a code for them."""
    import boto3

    return boto3.Session()


def forget_clients() -> None:
    """Make clients anew when they are asked for next, as after settings of AWS changed."""
    client.cache_clear()
    _session.cache_clear()


def iceberg_properties() -> dict[str, str]:
    """Return what the file system of Arrow, which reads and writes tables, does not find by itself."""
    s3 = client("s3")
    found = {"s3.connect-timeout": str(CONNECT_SECONDS), "s3.request-timeout": str(READ_SECONDS)}
    found["py-io-impl"] = "resources.arrow_s3.Files"
    found["s3.retry-strategy-impl"] = "resources.arrow_s3.Retries"
    if region := s3.meta.region_name:
        found["s3.region"] = region
    if not s3.meta.endpoint_url.endswith(".amazonaws.com"):
        found["s3.endpoint"] = s3.meta.endpoint_url
    return found


def credentials_for_arrow() -> dict[str, str]:
    """Return the present credentials where boto3 finds them in a way that Arrow's own chain may not know; else nothing.

    Raises:
        StorageError: they cannot be had any more, such as after the end of a login.
    """
    with explaining("credentials", "cannot be found"), _making:
        found = _session().get_credentials()
    if found is None or found.method in KNOWN_TO_ARROW:
        return {}
    with explaining("credentials", "cannot be renewed"):
        now = found.get_frozen_credentials()
    keys = {"s3.access-key-id": now.access_key, "s3.secret-access-key": now.secret_key, "s3.session-token": now.token}
    return {name: key for name, key in keys.items() if key}


@contextmanager
def explaining(place: str, failed: str, advice: str = "") -> Iterator[None]:
    """Turn what a client of AWS, or Arrow's, raises within the context into an error that says what to do.

    Args:
        advice: what holds now.

    Raises:
        ConflictError: the condition of a request does not hold.
        StorageError: anything else.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and (arrow := arrow_meaning(error)):
            raise StorageError(f"{place}: {failed}: {'; '.join(filter(None, [arrow, advice]))}") from error
        if not type(error).__module__.startswith(("boto3", "botocore", "s3transfer")):  # whose import takes a while
            raise
        if _is_taken(error):
            raise ConflictError(f"{place}: another writer was first") from error
        what, todo = meaning(error)
        said = "; ".join(filter(None, [what, advice, todo]))
        raise StorageError(f"{place}: {failed}: {said}") from error


def arrow_meaning(error: OSError) -> str | None:
    """Return what an error of Arrow's S3 file system means, and what to do; None where it is another one.

    >>> arrow_meaning(OSError("When reading: AWS Error ACCESS_DENIED during HeadObject operation: No response body."))
    'access is denied; see which role `mimic doctor` finds, and give it the rights of deploy/terraform'
    """
    found = arrow_refusal(error)
    return "; ".join(filter(None, found)) if found else None


def arrow_refusal(error: OSError) -> tuple[str, str] | None:
    """Return what an error of Arrow's S3 file system means, and what to do if that is known; None where it is none."""
    found = re.search(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during (\w+) operation(.*)", str(error))
    if not found:
        return None
    return CODES.get(ARROW_CODES.get(found[1], found[2] or ""), (f"{found[1]} during {found[3]}{found[4]}", ""))


def _is_taken(error: Exception) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and status_of(error) in TAKEN


def meaning(error: Exception) -> tuple[str, str]:
    """Return what an error of a client means, and what to do."""
    from botocore import exceptions as known
    from botocore.exceptions import ClientError, HTTPClientError, NoRegionError
    from botocore.exceptions import ConnectionError as NoConnection

    said = str(error).rstrip(".")
    if isinstance(error, ClientError):
        return CODES.get(code_of(error), (said, LOOK))
    if isinstance(error, known.NoCredentialsError | known.SSOError | known.TokenRetrievalError | known.LoginError):
        return said, LOG_IN
    if isinstance(error, known.PartialCredentialsError | known.CredentialRetrievalError):
        return said, LOG_IN
    if isinstance(error, known.ProfileNotFound):
        return said, "set AWS_PROFILE to one that `aws configure list-profiles` names"
    if isinstance(error, NoRegionError):
        return "no region is set", "set AWS_DEFAULT_REGION, or `region` of the profile"
    if isinstance(error, NoConnection | HTTPClientError):
        return said, "check the network and AWS_ENDPOINT_URL, then run this again"
    return said, LOOK


def code_of(error: "ClientError") -> str:
    """Return the code of a refusal, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: "ClientError") -> int:
    """Return the HTTP status of a refusal."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
