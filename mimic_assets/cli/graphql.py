"""GraphQL: one question by HTTP, with the headers of a proxy, time limits, another try, and errors in words."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import click
import requests

from mimic_assets.cli.servers import HEADER, TOKEN
from mimic_core.errors import ServerError, SpecError

CONNECT_SECONDS, READ_SECONDS = 10, 90  # the code server itself gives up after 60
RETRY_SECONDS = 60  # in which a server that was there before may be away
PAUSE_SECONDS = 2
AWAY = {429, 500, 502, 503, 504}  # of a proxy whose server is restarted, or of Dagster without its database or code server
SAME = "install the same mimic on both sides"
HINT = "; check the URL, the network, and that the server runs"
HERE = {"localhost", "127.0.0.1", "::1"}


class AwayError(Exception):
    """The server does not answer for now, and may do so soon."""


class LostError(ServerError):
    """A server that answered before does not any more."""


class Connection:
    """The GraphQL of one webserver.

    Attributes:
        wait: waits before another try; something that a signal ends may be put in its place.
        patient: whether it waits for a server that is away or loads its code.
        date: the header `Date` of the last answer.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, patient: bool = True) -> None:
        self.url, self._headers, self.patient = url, headers, patient
        self.date: str | None = None
        self.wait: Callable[[float], None] = time.sleep
        self._session = requests.Session()
        self._session.auth = self._authorise  # else requests would put a login of ~/.netrc in place of ours
        self._answered = False
        if headers and url.startswith("http:") and urlsplit(url).hostname not in HERE:
            click.echo(f"mimic: {url} is not encrypted, so others may read the token on its way; use https", err=True)

    def query(
        self,
        text: str,
        variables: Mapping[str, Any] | None = None,
        done: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> dict[str, Any]:
        """Ask, and ask again for a while where a server that answered before does not.

        Args:
            done: called before asking again; returns the answer where what was asked for is done, though none came.

        Raises:
            LostError: no answer any more.
            ServerError: no answer, or none of a Dagster webserver.
        """
        until: float | None = None
        while True:
            try:
                found = self._post({"query": text, "variables": variables or {}})
            except AwayError as error:
                if not (self._answered and self.patient):
                    raise ServerError(f"{self.url} does not answer: {error}{HINT}") from error
                if until is None:
                    until = time.monotonic() + RETRY_SECONDS
                    again = f"trying again for {RETRY_SECONDS} seconds (Ctrl-C twice leaves)"
                    click.echo(f"mimic: {self.url}: {error}; {again}", err=True)
                elif time.monotonic() >= until:
                    raise LostError(f"{self.url} does not answer for {RETRY_SECONDS} seconds: {error}") from error
                self.wait(PAUSE_SECONDS)
                if (known := done()) is None:
                    continue
                found = known
            self._answered = True
            return found

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request

    def _post(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Ask once.

        Raises:
            AwayError: no answer for now.
            ServerError: an answer that another try does not mend.
        """
        try:
            # no redirect is followed: it could lead a token to another host, and a login page answers nothing
            answer = self._session.post(
                f"{self.url}/graphql", json=document, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False
            )
        except requests.exceptions.SSLError as error:
            raise ServerError(
                f"{self.url}: its certificate is not trusted: {_innermost(error)}; REQUESTS_CA_BUNDLE may name a file of "
                "those that your organisation signs with"
            ) from error
        except requests.exceptions.RequestException as error:
            raise AwayError(_innermost(error)) from error
        self.date = answer.headers.get("Date")
        return self._read(answer)

    def _read(self, answer: requests.Response) -> dict[str, Any]:
        status = f"{answer.status_code} {answer.reason}"
        if answer.status_code in AWAY:
            raise AwayError(": ".join([f"it says {status}", *_problems(answer)]))
        if answer.is_redirect:
            raise ServerError(
                f"{self.url} leads to {_place(answer.headers['location'])} ({status}), which is not followed: give the URL "
                f"that it leads to if that is the same server, or what its login wants in {TOKEN} or {HEADER}"
            )
        if answer.status_code in (401, 403):
            unset = f"neither {TOKEN} nor {HEADER} is set where the URL is"
            sent = "what was sent is not accepted" if self._headers else unset
            raise ServerError(
                f"{self.url} lets nobody in without a login ({status}), and {sent}; {TOKEN} is sent as `Authorization: "
                f"Bearer ...`, {HEADER} as it is, such as 'X-Name: value'; who runs the proxy gives them out"
            )
        try:
            found = answer.json()
        except ValueError as error:
            raise ServerError(self._no_webserver(status, answer)) from error
        if isinstance(found, dict) and found.get("errors"):
            said = "; ".join(_problems(answer))
            if any("path" in each for each in found["errors"]):  # what was asked is known, and could not be found out
                raise AwayError(said)
            raise ServerError(f"{self.url}: its Dagster does not take what this mimic asks: {said}; {SAME}")
        if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
            raise ServerError(self._no_webserver(status, answer))
        data: dict[str, Any] = found["data"]
        return data

    def _no_webserver(self, status: str, answer: requests.Response) -> str:
        kind = answer.headers.get("content-type", "no content")
        return (
            f"{self.url}/graphql is not that of a Dagster webserver: it says {status}, {kind}; give the address at which a "
            "browser shows its pages, without what comes after the host and the prefix"
        )


def headers_of(token: str, header: str) -> dict[str, str]:
    """Return the headers that a proxy wants to see.

    Args:
        token: sent as a bearer token; empty for none.
        header: `Name: value`; empty for none.

    Raises:
        SpecError: they cannot be headers; what they hold is not said.
    """
    found = {"Authorization": f"Bearer {token}"} if token else {}
    if header:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or not value.strip():
            raise SpecError(f"{HEADER}: expected 'Name: value', found something else, not shown here")
        found[name.strip()] = value.strip()
    if any(not text.isascii() or not text.isprintable() for pair in found.items() for text in pair):
        raise SpecError(f"{TOKEN} or {HEADER} has characters that no header can have, such as the end of a line; mend it")
    return found


def _problems(answer: requests.Response) -> list[str]:
    """Return the errors of which an answer tells, beside its data or in their place."""
    try:
        found = answer.json()
    except ValueError:
        return []
    errors, data = (found.get("errors"), found.get("data")) if isinstance(found, dict) else (None, None)
    places = [*(errors if isinstance(errors, list) else ()), *(data.values() if isinstance(data, dict) else ())]
    return [str(each["message"]).strip() for each in places if isinstance(each, dict) and "message" in each]


def _innermost(error: BaseException) -> str:
    """Say why a connection failed, in the words of whoever knew first."""
    if isinstance(error, requests.exceptions.Timeout):
        return "it took too long"
    seen: BaseException = error
    while (inner := next((each for each in seen.args if isinstance(each, BaseException)), None)) or (
        inner := getattr(seen, "reason", None) if isinstance(getattr(seen, "reason", None), BaseException) else None
    ):
        seen = inner
    return str(seen).partition(": ")[2] or str(seen)


def _place(location: str) -> str:
    """Return the beginning of a URL, without what a login page would like to keep for itself."""
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.netloc else parts.path
