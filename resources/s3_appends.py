"""Appends to objects, which cannot be appended to: what comes within some seconds is written at once, with all before it."""

import threading
from collections.abc import Callable

from mimic_core.errors import ConflictError, StorageError
from resources.storage import Swapping

APPEND_SECONDS = 2.0  # for which bytes wait for more of them; a process that is killed loses these
MOST_ATTEMPTS = 10  # where others append to the same object


class Appends:
    """The bytes that this process appends to objects of a storage."""

    def __init__(self, storage: Swapping) -> None:
        self._storage = storage
        self._waiting: dict[str, bytes] = {}
        self._known: dict[str, tuple[bytes, str]] = {}  # what the object held when it was written last, and its tag
        self._failed: dict[str, StorageError] = {}
        self._lock = threading.RLock()

    def add(self, name: str, data: bytes) -> None:
        """Append bytes, which are there some seconds later.

        Raises:
            StorageError: bytes that were appended before could not be written; they are still waiting.
        """
        with self._lock:
            if name not in self._waiting:
                self._later(lambda: self._flush_quietly(name))
            self._waiting[name] = self._waiting.get(name, b"") + data
            if error := self._failed.pop(name, None):
                raise error

    def flush(self, name: str) -> None:
        """Write what waits.

        Raises:
            StorageError: it cannot be written; it is still waiting.
        """
        with self._lock:
            data = self._waiting.get(name, b"")
            for _ in range(MOST_ATTEMPTS if data else 0):
                before, tag = self._known.get(name) or self._read(name)
                try:
                    self._known[name] = (before + data, self._storage.swap(name, before + data, tag))
                except ConflictError:
                    self._known.pop(name, None)
                    continue
                del self._waiting[name]
                return
            if data:
                raise StorageError(f"{name}: others kept writing it; do this again later")

    def forget(self, place: str) -> None:
        """Forget what waits for an object, or for those below a folder/: they are written anew, or removed."""
        with self._lock:
            names = {*self._waiting, *self._known, *self._failed}
            for name in [name for name in names if name == place or (place[-1:] in ("", "/") and name.startswith(place))]:
                self._waiting.pop(name, None)
                self._known.pop(name, None)
                self._failed.pop(name, None)

    def _read(self, name: str) -> tuple[bytes, str | None]:
        try:
            return self._storage.read_tagged(name)
        except FileNotFoundError:
            return b"", None

    def _flush_quietly(self, name: str) -> None:
        try:
            self.flush(name)
        except StorageError as error:  # it is told when more is appended
            with self._lock:
                self._failed[name] = error
                self._later(lambda: self._flush_quietly(name))

    def _later(self, call: Callable[[], None]) -> None:
        timer = threading.Timer(APPEND_SECONDS, call)
        timer.daemon = True
        timer.start()
