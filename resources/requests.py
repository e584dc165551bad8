"""Requests: small sealed files in the object storage by which a command asks a daemon, wherever that runs, for builds.

`requests/<launch>.json` stays until its runs exist, so neither side loses it; a command that waits no longer says there
which of its runs are not wanted any more.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mimic_core.errors import ConflictError, CorruptFileError, NotFoundError, SpecError
from mimic_core.manifests import seal, unseal
from mimic_core.specs import ReportSpec
from mimic_core.world import CODE_VERSIONS
from resources.artefacts import ArtefactStore

FOLDER = "requests"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """The partitions of one asset that a command asks for.

    Attributes:
        launch: id of the command, and of its request.
        keys: the partitions that it waits for.
        withdrawn: the partitions that it does not wait for any more.
        time: when it said so, in seconds since 1970.
        user: who asked from elsewhere; empty of a command beside the daemon.
    """

    launch: str
    asset: str
    keys: tuple[str, ...]
    withdrawn: tuple[str, ...] = ()
    time: float
    user: str = ""

    def without(self, keys: Iterable[str], time: float) -> "BuildRequest":
        """Return it with partitions withdrawn."""
        gone = tuple(dict.fromkeys((*self.withdrawn, *keys)))
        left = tuple(key for key in self.keys if key not in gone)
        return dataclasses.replace(self, keys=left, withdrawn=gone, time=time)


def store_request(artefacts: ArtefactStore, request: BuildRequest) -> None:
    """Store a request, in place of what its command said before."""
    artefacts.write(_name(request.launch), [seal(dataclasses.asdict(request))])


def store_first(artefacts: ArtefactStore, request: BuildRequest) -> None:
    """Store a request unless its command said something before, such as that it is withdrawn already."""
    with suppress(ConflictError):
        artefacts.create(_name(request.launch), seal(dataclasses.asdict(request)))


def open_requests(artefacts: ArtefactStore) -> list[BuildRequest]:
    """Return the requests that nobody has removed, by their ids; those that are damaged are left out."""
    return [found for _, found in _requests(artefacts) if isinstance(found, BuildRequest)]


def remove_damaged(artefacts: ArtefactStore) -> list[str]:
    """Remove the requests that cannot be read, and say what was wrong with them."""
    damaged = [(name, found) for name, found in _requests(artefacts) if isinstance(found, str)]
    for name, _ in damaged:
        artefacts.remove(name)
    return [problem for _, problem in damaged]


def remove_request(artefacts: ArtefactStore, launch: str) -> None:
    """Remove a request that is answered."""
    artefacts.remove(_name(launch))


def _requests(artefacts: ArtefactStore) -> Iterator[tuple[str, BuildRequest | str]]:
    """Give the name of every request, and what it says or why it cannot be read."""
    for name in artefacts.names(FOLDER):
        path = f"{FOLDER}/{name}"
        with suppress(NotFoundError):  # it was removed meanwhile
            try:
                yield path, _request(unseal(artefacts.read(path), artefacts.where(path)))
            except CorruptFileError as error:
                yield path, str(error)
            except (KeyError, TypeError, ValueError) as error:  # of another version
                yield path, f"{artefacts.where(path)}: this is no request that this version knows: {error!r}"


def _request(document: dict[str, Any]) -> BuildRequest:
    if document["asset"] not in {*CODE_VERSIONS, ReportSpec.asset}:
        raise KeyError(document["asset"])
    lists = {name: tuple(document[name]) for name in ("keys", "withdrawn")}
    return BuildRequest(
        launch=document["launch"],
        asset=document["asset"],
        time=float(document["time"]),
        user=str(document.get("user", "")),
        **lists,
    )


def _name(launch: str) -> str:
    """Return the name of a request's file.

    Raises:
        SpecError: the id, which anybody may post, could lead elsewhere.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", launch):
        raise SpecError(f"launch: expected the id of a command, 32 hexadecimal digits, found {launch!r}")
    return f"{FOLDER}/{launch}.json"
