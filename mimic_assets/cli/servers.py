"""Servers: which one a command is for, who asks, and which commands can be asked of one. Imported at start-up."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click

from mimic_core.errors import SpecError

REMOTE = ("log-odds", "status", "plan", "report")  # the commands that a server answers
SERVER, USER = "MIMIC_SERVER", "MIMIC_USER"
TOKEN, HEADER = "MIMIC_SERVER_TOKEN", "MIMIC_SERVER_HEADER"
OF_SERVERS = (SERVER, USER, TOKEN, HEADER)
LONGEST_USER = 100


@dataclass(frozen=True, kw_only=True)
class ServerNamed:
    """A deployed platform that a person named, as whom it is asked, and what the proxy in front of it wants."""

    url: str
    user: str
    token: str = field(default="", repr=False)
    header: str = field(default="", repr=False)


def named_server() -> ServerNamed | None:
    """Return the server that the command in progress is for; None for this machine."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context else None
    return found if isinstance(found, ServerNamed) else None


def env_file(*, interpolate: bool) -> Mapping[str, str | None]:
    """Return the settings in `.env` of the current folder; empty where there is none.

    Raises:
        SpecError: it cannot be read.
    """
    path = Path(".env").absolute()
    try:
        if not path.is_file():
            return {}
        from dotenv import dotenv_values

        return dotenv_values(path, interpolate=interpolate)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}; mend it, or run mimic in another folder") from error


def name_server(url: str | None, user: str | None) -> ServerNamed | None:
    """Return the server that a person named, and who asks; None where none is named.

    Secrets come from where the URL does, so that a folder's `.env` cannot have a token of the environment sent elsewhere.

    Args:
        url, user: as options say it; None without an option.

    Raises:
        SpecError: this is no URL of a server, or no name, or `.env` cannot be read.
    """
    places: list[Mapping[str, str | None]] = [os.environ, env_file(interpolate=False)]
    user = user or _setting(USER, places)
    if url is None:
        places = [place for place in places if place.get(SERVER)][:1]
        url = _setting(SERVER, places)
    if not url:
        return None
    _require_url(url)
    user = user or _who()
    if not user.isprintable() or len(user) > LONGEST_USER:
        raise SpecError(f"--user: expected a name of at most {LONGEST_USER} characters, found {user!r}")
    secrets = {"token": _setting(TOKEN, places), "header": _setting(HEADER, places)}
    return ServerNamed(url=url.rstrip("/").removesuffix("/graphql"), user=user, **secrets)


def secrets_of_servers() -> list[str]:
    """Return every token and header that is set anywhere, and what is secret in the latter.

    Raises:
        SpecError: `.env` cannot be read.
    """
    found = [_setting(name, [place]) for place in (os.environ, env_file(interpolate=False)) for name in (TOKEN, HEADER)]
    return [part for text in found for part in (text, text.partition(":")[2].strip(), text.rpartition(" ")[2])]


def require_remote(server: ServerNamed | None, command: str) -> None:
    """Check that a command can be asked of a server, if one is named.

    Raises:
        SpecError: it works on one machine only.
    """
    if server and command not in REMOTE:
        raise SpecError(
            f"`mimic {command}` works on this machine only, and a server is named ({server.url}); on one there are "
            f"{', '.join(REMOTE)}. Leave --server out, and {SERVER} unset, or give --server ''"
        )


def _setting(name: str, places: list[Mapping[str, str | None]]) -> str:
    return next((value for place in places if (value := place.get(name))), "")


def _require_url(text: str) -> None:
    if "@" in text:  # before anything else, as all that follows shows it
        raise SpecError(
            f"--server: a URL with a name or password in it is seen by others and kept in logs; put them into {TOKEN}, or "
            f"into {HEADER}, such as 'Authorization: Basic ...'"
        )
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # such as of a port that is no number
        known = False
    if not known or "?" in text or "#" in text:
        raise SpecError(
            "--server: expected the URL of a Dagster webserver such as https://dagster.example.org, without anything "
            f"after a ? or #, found {text.partition('?')[0].partition('#')[0]!r}"
        )


def _who() -> str:
    import getpass
    import socket

    name = "somebody"
    with suppress(KeyError, OSError):  # no name belongs to the user id
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
