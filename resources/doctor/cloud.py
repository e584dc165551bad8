"""AWS: clients that give up soon, who is asking, and what a refusal means to whom."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from typing import Any

from mimic_core.errors import StorageError
from resources import aws
from resources.doctor.findings import Finding, ok, one_line, skipped, wrong

ABOUT = "identity"
AMAZON = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
UNFIT = ("Expired", "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClient", "SignatureDoesNotMatch")
SOURCES = {  # of credentials, as botocore calls them
    "env": "AWS_ACCESS_KEY_ID of the environment",
    "sso": "SSO",
    "shared-credentials-file": "the file of credentials",
    "config-file": "the file of profiles",
    "assume-role": "a role that the profile takes",
    "assume-role-with-web-identity": "the role of a service account",
    "iam-role": "the role of this machine",
    "container-role": "the role of this container or pod",
    "custom-process": "the program that the profile names",
    "login": "`aws login`",
}
INSTEAD = {  # of advice to ask the doctor
    aws.DENIED[1]: "give who asks (`identity`, above) the rights of deploy/terraform",
    aws.LOOK: "see that AWS_ENDPOINT_URL, region and network lead to the server that is meant",
}
RENEW = {
    "env": "renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or unset them to use a profile",
    "assume-role-with-web-identity": "see the annotation eks.amazonaws.com/role-arn of the service account, and whom the "
    "role trusts (deploy/terraform)",
    "iam-role": "see that this machine has a role",
    "container-role": "see that this container or pod has a role",
}


class Clocks:
    """How far the clocks of servers are ahead of this machine's, in seconds, by the server."""

    def __init__(self) -> None:
        self.ahead: dict[str, float] = {}

    def tell(self, server: str, date: str | None) -> None:
        """Take what a server says in the header `Date` of its answer, whose seconds are whole."""
        if date:
            self.ahead[server] = parsedate_to_datetime(date).timestamp() + 0.5 - time.time()


class Cloud:
    """AWS as the default chain of credentials and settings finds it.

    Attributes:
        clocks: told the time of every answer.
        variables: names of the variables of AWS that are set.
    """

    def __init__(self, clocks: Clocks, variables: frozenset[str] = frozenset()) -> None:
        self.clocks, self.variables = clocks, variables
        self.client = lru_cache(self._client)

    @cached_property
    def session(self) -> Any:
        """What holds region, profile and credentials.

        Raises:
            StorageError: the profile is not there.
        """
        import boto3

        with aws.explaining(ABOUT, "cannot be told"):
            return boto3.Session()

    def _client(self, service: str, checksums: str | None = None) -> Any:
        """Make a client that gives up after seconds; nobody would wait for one that tries as often as others.

        Args:
            checksums: when they are sent; None for what is set.
        """
        from botocore.config import Config

        options: dict[str, Any] = {"connect_timeout": 3, "read_timeout": 5, "retries": {"total_max_attempts": 2}}
        if checksums:
            options |= {"request_checksum_calculation": checksums, "response_checksum_validation": checksums}
        with aws.explaining(service, "cannot be reached"):
            try:
                made = self.session.client(service, config=Config(**options))
            except ValueError as error:  # as botocore says that an endpoint is no URL
                raise StorageError(f"{service}: {error}; let AWS_ENDPOINT_URL be a URL such as https://STORE") from error

        def hear(http_response: Any, **_: object) -> None:
            self.clocks.tell(service.upper(), http_response.headers.get("Date"))

        made.meta.events.register("after-call", hear)
        return made

    def is_amazon(self, service: str) -> bool:
        """Tell whether a service is that of AWS, and not of another store."""
        return str(self.client(service).meta.endpoint_url).endswith(AMAZON)

    @property
    def knows_who_asks(self) -> bool:
        """Whether who asks may be asked for: AWS knows nothing of those who use another store."""
        return self.is_amazon("s3") or not self.is_amazon("sts")

    @property
    def log_in(self) -> str:
        """What to do where credentials are of no use."""
        profile = self.session.profile_name
        again = f"run `aws sso login --profile {profile}`"
        found = self.session.get_credentials()
        if found is None or found.method == "sso":
            named = "AWS_PROFILE" in self.variables
            return again if named else f"{again}, or set AWS_PROFILE to the profile that you log in by"
        renew = RENEW.get(found.method, f"renew the credentials of the profile {profile}")
        return f"{renew}; if the profile is one of SSO, {again}"

    def meaning(self, error: Exception) -> tuple[str, str]:
        """Return what an error of a client means, and what to do.

        Raises:
            Exception: the error itself, where it is none of AWS.
        """
        if not type(error).__module__.startswith(("boto3", "botocore")):
            raise error
        what, do = aws.meaning(error)
        if do == aws.LOG_IN:
            do = self.log_in
        elif what == aws.BUSY:
            what, do = f"{what} ({aws.code_of(error)})", "do this again later, or let fewer steps run at once"
        else:
            do = INSTEAD.get(do, do)
        return one_line(what), do


def identity(cloud: Cloud, *, needed: bool) -> Iterator[Finding]:
    """Look who asks, in which region, and by which credentials.

    Args:
        needed: whether AWS itself is used, and not only a store like S3.
    """
    session = cloud.session
    if session.region_name:
        yield ok("region", session.region_name)
    elif needed:
        hint = "; AWS_REGION is set, which boto3 does not read" if "AWS_REGION" in cloud.variables else ""
        yield wrong("region", f"none is set{hint}", "set AWS_DEFAULT_REGION, or `region` of the profile")
    try:
        yield _identity(cloud, needed=needed)
    except Exception as error:
        what, do = cloud.meaning(error)
        yield wrong(ABOUT, what, do)


def _identity(cloud: Cloud, *, needed: bool) -> Finding:
    from botocore.exceptions import ClientError

    credentials = cloud.session.get_credentials()
    if credentials is None:
        return wrong(ABOUT, "there are no credentials", cloud.log_in)
    credentials.get_frozen_credentials()  # which those of SSO fetch
    source = SOURCES.get(credentials.method, credentials.method)
    if credentials.method not in ("env", "iam-role", "container-role"):
        source += f" (profile {cloud.session.profile_name})"
    if not needed:
        return skipped(ABOUT, f"by {source}; the store of AWS_ENDPOINT_URL is asked below, as only AWS says who asks")
    try:
        answer = cloud.client("sts").get_caller_identity()
    except ClientError as error:
        if cloud.is_amazon("sts") or aws.code_of(error).startswith(UNFIT):
            raise
        return skipped(ABOUT, f"by {source}; the server of AWS_ENDPOINT_URL does not say who asks: {aws.code_of(error)}")
    return ok(ABOUT, f"{answer['Arn']}, by {source}")


def explained(about: str, cloud: Cloud, error: Exception, place: str) -> Finding:
    """Turn what a client raises into a finding.

    Raises:
        Exception: the error itself, where it is none of AWS.
    """
    if isinstance(error, StorageError):
        raise error
    what, do = cloud.meaning(error)
    return wrong(about, f"{place}: {what}", do)
