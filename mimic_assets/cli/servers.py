"""Servers: which one a command is for, who asks, and which commands can be asked of one. Imported at start-up."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from mimic_core.errors import SpecError

REMOTE = ("log-odds", "status", "plan", "report")  # the commands that a server answers
SERVER, USER = "MIMIC_SERVER", "MIMIC_USER"
TOKEN, HEADER = "MIMIC_SERVER_TOKEN", "MIMIC_SERVER_HEADER"
LONGEST_USER = 100


class ServerNamed(NamedTuple):
    """A deployed platform that a person named, and as whom it is asked."""

    url: str
    user: str


def named_server() -> ServerNamed | None:
    """Return the server that the command in progress is for; None for this machine."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context else None
    return found if isinstance(found, ServerNamed) else None


def setting(name: str) -> str:
    """Return a setting from the environment, else from `.env` in the current folder; empty where neither has it."""
    if not os.environ.get(name) and Path(".env").is_file():
        from dotenv import dotenv_values

        return dotenv_values(".env").get(name) or ""
    return os.environ.get(name, "")


def name_server(server: str, user: str, command: str) -> ServerNamed | None:
    """Return the server that a person named, and who asks; None where none is named.

    Args:
        command: that it is asked to do.

    Raises:
        SpecError: this is no URL of a server, or no name, or the command works on one machine only.
    """
    if not server:
        return None
    if command not in REMOTE:
        raise SpecError(
            f"`mimic {command}` works on this machine only, and a server is named ({server}); on one there are "
            f"{', '.join(REMOTE)}. Leave --server out, and {SERVER} unset, or give --server ''"
        )
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SpecError(
            f"--server: expected the URL of a Dagster webserver such as https://dagster.example.org, found {server!r}"
        )
    if parts.username or parts.password:
        raise SpecError(
            f"--server: a URL with a name or password in it is seen by others and kept in logs; put them into {TOKEN}, or "
            f"into {HEADER}, such as 'Authorization: Basic ...'"
        )
    user = user or _who()
    if not user.isprintable() or len(user) > LONGEST_USER:
        raise SpecError(f"--user: expected a name of at most {LONGEST_USER} characters, found {user!r}")
    return ServerNamed(url=server.rstrip("/").removesuffix("/graphql"), user=user)


def _who() -> str:
    import getpass
    import socket

    name = "somebody"
    with suppress(KeyError, OSError):  # no name belongs to the user id
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
