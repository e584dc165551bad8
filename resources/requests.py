"""Requests: small sealed files in the object storage by which a command asks a daemon, wherever that runs, for builds.

`requests/<launch>.json` stays until its runs exist, so neither side loses it; a command that waits no longer says there
which of its runs are not wanted any more.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mimic_core.errors import NotFoundError
from mimic_core.manifests import seal, unseal
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
    """

    launch: str
    asset: str
    keys: tuple[str, ...]
    withdrawn: tuple[str, ...] = ()
    time: float

    def without(self, keys: Iterable[str], time: float) -> "BuildRequest":
        """Return it with partitions withdrawn."""
        gone = tuple(dict.fromkeys((*self.withdrawn, *keys)))
        left = tuple(key for key in self.keys if key not in gone)
        return dataclasses.replace(self, keys=left, withdrawn=gone, time=time)


def store_request(artefacts: ArtefactStore, request: BuildRequest) -> None:
    """Store a request, in place of what its command said before."""
    artefacts.write(_name(request.launch), [seal(dataclasses.asdict(request))])


def open_requests(artefacts: ArtefactStore) -> list[BuildRequest]:
    """Return the requests that nobody has removed, by their ids."""
    return list(_requests(artefacts))


def remove_request(artefacts: ArtefactStore, launch: str) -> None:
    """Remove a request that is answered."""
    artefacts.remove(_name(launch))


def _requests(artefacts: ArtefactStore) -> Iterator[BuildRequest]:
    for name in artefacts.names(FOLDER):
        with suppress(NotFoundError):  # it was removed meanwhile
            path = f"{FOLDER}/{name}"
            yield _request(unseal(artefacts.read(path), str(artefacts.path(path))))


def _request(document: dict[str, Any]) -> BuildRequest:
    lists = {name: tuple(document[name]) for name in ("keys", "withdrawn")}
    return BuildRequest(launch=document["launch"], asset=document["asset"], time=document["time"], **lists)


def _name(launch: str) -> str:
    return f"{FOLDER}/{launch}.json"
