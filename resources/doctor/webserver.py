"""The webserver: whether it answers, has our version of Dagster, and has loaded mimic."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from resources.doctor.cloud import Clocks
from resources.doctor.findings import Finding, ok, one_line, skipped, warning, wrong

ABOUT = "webserver"
LOCATIONS = ("mimic", "mimic_assets.definitions")  # as the cluster names it, and `mimic dev`
CONNECT_SECONDS, READ_SECONDS = 3, 10
QUESTION = """{
  version
  workspaceOrError {
    __typename
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename ...Failed } } }
    ...Failed
  }
}
fragment Failed on PythonError { message }"""


def webserver(url: str | None, clocks: Clocks) -> Iterator[Finding]:
    """Look at a webserver.

    Args:
        url: of its pages; None where nobody gave one.
    """
    if url is None:
        yield skipped(ABOUT, "none was named", "give --url, such as http://127.0.0.1:3000, to look at one")
        return
    import requests

    parts = urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    do = "see that it runs, its port, and that it can be reached from here; in a cluster by `kubectl port-forward`"
    try:
        answer = requests.post(
            f"{url.rstrip('/')}/graphql", json={"query": QUESTION}, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
    except requests.RequestException as error:
        yield wrong(ABOUT, f"{place} does not answer: {_reason(error)}", do)
        return
    clocks.tell(ABOUT, answer.headers.get("Date"))
    if answer.status_code in (401, 403):
        yield wrong(ABOUT, f"{place} wants a login ({answer.status_code})", "look at it past its proxy, by a port-forward")
        return
    try:
        said = answer.json()["data"]
        found = said["version"]
    except (ValueError, KeyError, TypeError):
        found = f"{place} answers with status {answer.status_code}, but is no webserver of Dagster"
        yield wrong(ABOUT, found, "give --url the address at which the pages begin, with its path prefix if it has one")
        return
    yield from _version(place, found)
    yield from _location(said["workspaceOrError"])


def _version(place: str, found: str) -> Iterator[Finding]:
    ours = version("dagster")
    if found == ours:
        yield ok(ABOUT, f"{place} answers; Dagster {found}")
        return
    same = found.rpartition(".")[0] == ours.rpartition(".")[0]
    text = f"{place} has Dagster {found}, here it is {ours}"
    do = "install the same version on both: that of requirements.lock"
    yield warning(ABOUT, text, do) if same else wrong(ABOUT, text, do)


def _location(workspace: dict[str, Any]) -> Iterator[Finding]:
    about = "code location"
    entries = {each["name"]: each for each in workspace.get("locationEntries", ())}
    name = next((name for name in LOCATIONS if name in entries), None)
    if name is None:
        found = f"there is no location mimic; there are {', '.join(entries) or 'none'}"
        yield wrong(about, found, "start the webserver by `mimic dev`, or name mimic's code server among its locations")
        return
    loaded = entries[name]["locationOrLoadError"] or {}
    if message := loaded.get("message"):
        do = "see the log of the code server; then reload the location in the UI, under Deployment"
        yield wrong(about, f"{name} cannot be loaded: {one_line(message)}", do)
    elif entries[name]["loadStatus"] == "LOADING" or not loaded:
        yield warning(about, f"{name} is still being loaded", "look again in a minute")
    else:
        yield ok(about, f"{name} is loaded")


def _reason(error: Exception) -> str:
    """Say why there was no answer, without the names of classes in which libraries wrap it, nor the URL."""
    inner: Any = error.args[0] if error.args else error
    inner = getattr(inner, "reason", inner)
    return one_line(inner).rpartition(": ")[2] or type(error).__name__
