"""Leases: locks in an object storage, where no kernel drops the lock of a process that died.

A lease is a small object that its holder writes anew while it lives. Who waits takes it over when it stayed the same for
`LEASE_SECONDS` by the waiter's own clock, so clocks of machines need not agree. Every change is a compare-and-swap, so at
most one takes it over. A holder that was stopped for long may go on without it, so it asks before it changes what is not
compared and swapped besides.
"""

import hashlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mimic_core.errors import ConflictError, StorageError
from resources.storage import Swapping

LOCKS = ".locks"
LEASE_SECONDS = 30.0
RENEW_SECONDS = LEASE_SECONDS / 4
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0  # seconds between two looks at a lease that somebody holds


@contextmanager
def lease(storage: Swapping, name: str) -> Iterator[Callable[[], None]]:
    """Hold the lease of a name within the context; wait until it is free.

    Yields:
        What raises ConflictError where somebody else took the lease over meanwhile.

    Raises:
        StorageError: the storage does not answer.
    """
    held = _Held(storage, f"{LOCKS}/{hashlib.sha256(name.encode()).hexdigest()[:24]}", name)
    held.take()
    thread = threading.Thread(target=held.renew_until_done, name=f"lease of {name}", daemon=True)
    thread.start()
    try:
        yield held.require
    finally:
        held.done.set()
        thread.join()
        held.free()


class _Held:
    """A lease that this thread wants, or has.

    Attributes:
        done: set when it is not wanted any more.
    """

    def __init__(self, storage: Swapping, path: str, name: str) -> None:
        self._storage, self._path, self._name = storage, path, name
        self._owner, self._turn = uuid.uuid4().hex, 0
        self._tag: str | None = None
        self._turns = threading.Lock()  # one change of it at a time
        self.done = threading.Event()

    def take(self) -> None:
        seen, since, wait = None, time.monotonic(), FIRST_WAIT
        while True:
            tag, is_free = self._look()
            if tag != seen:
                seen, since = tag, time.monotonic()
            if is_free or time.monotonic() > since + LEASE_SECONDS:
                with suppress(ConflictError):  # somebody else was faster
                    self._tag = self._write(tag, free=False)
                    return
            time.sleep(random.uniform(wait / 2, wait))  # noqa: S311  jitter, not a secret
            wait = min(2 * wait, LONGEST_WAIT)

    def renew_until_done(self) -> None:
        while not self.done.wait(RENEW_SECONDS):
            try:
                self.require()
            except ConflictError:
                return
            except StorageError:
                continue  # it may answer again in time

    def require(self) -> None:
        with self._turns:
            if self._tag is not None:
                try:
                    self._tag = self._write(self._tag, free=False)
                    return
                except ConflictError:
                    self._tag = self._mine()  # else it was taken over, while this process was stopped
                    if self._tag is not None:
                        return
        raise ConflictError(f"{self._name}: this process was stopped for long, and another one took its turn; start again")

    def free(self) -> None:
        if self._tag is not None:
            with suppress(ConflictError, StorageError):  # else it is free when it stayed the same for long
                self._write(self._tag, free=True)

    def _mine(self) -> str | None:
        """Return the tag of the lease where this process wrote it last, and the answers to that were lost."""
        try:
            data, tag = self._storage.read_tagged(self._path)
        except FileNotFoundError:
            return None
        return tag if json.loads(data).get("owner") == self._owner else None

    def _look(self) -> tuple[str | None, bool]:
        """Return the tag of the lease, None where it was never held, and whether nobody holds it."""
        try:
            data, tag = self._storage.read_tagged(self._path)
        except FileNotFoundError:
            return None, True
        return tag, bool(json.loads(data)["free"])

    def _write(self, tag: str | None, *, free: bool) -> str:
        self._turn += 1
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "owner": self._owner, "turn": self._turn}
        return self._storage.swap(self._path, json.dumps({"name": self._name, "free": free, **holder}).encode(), tag)
