"""The doctor's look at a server: by the connection and the verdicts that commands with --server meet there."""

from collections.abc import Iterator
from importlib.metadata import version

from mimic_assets.cli.graphql import Connection, headers_of
from mimic_assets.cli.remote import Server
from mimic_assets.cli.servers import ServerNamed
from resources.doctor.cloud import Clocks
from resources.doctor.findings import Finding, ok, warning, wrong

ABOUT = "webserver"
VERSION = "query { version }"


def webserver(named: ServerNamed, clocks: Clocks) -> Iterator[Finding]:
    """Look at the server that a person named, and whether commands can be asked there.

    Raises:
        MimicError: what is wrong with it, or with mimic there.
    """
    connection = Connection(named.url, headers_of(named.token, named.header), patient=False)
    try:
        found = connection.query(VERSION)["version"]
    finally:
        clocks.tell(ABOUT, connection.date)
    yield _version(named.url, found)
    server = Server(named, connection)
    yield ok("code location", f"{server.location} is loaded, and has what answers and registers for commands")
    there = server.ask("versions")["mimic"]
    yield ok("commands", f"are answered there, by mimic {there}")


def _version(place: str, found: str) -> Finding:
    ours = version("dagster")
    if found == ours:
        return ok(ABOUT, f"{place} answers; Dagster {found}")
    same = found.rpartition(".")[0] == ours.rpartition(".")[0]
    text = f"{place} has Dagster {found}, here it is {ours}"
    do = "install the same version on both: that of requirements.lock"
    return warning(ABOUT, text, do) if same else wrong(ABOUT, text, do)
