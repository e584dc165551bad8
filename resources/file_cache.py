"""The file cache: files of an object storage as local files, kept by their checksums, with a bound on their bytes.

`files/<sha256>` are the files; `views/` has a folder for each user of some of them, with links to them under the names that
they have in the storage. A file that is evicted while somebody uses it stays until then, and so does a view of a process
until that is done or dead.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mimic_core.errors import MimicError, NotFoundError, StorageError
from mimic_core.manifests import verify_file
from resources.storage import Storage

AT_ONCE = 8  # files that are fetched
DEFAULT_BYTES = 20 * 2**30
ATTEMPTS = 5
FILES, VIEWS, COMING, LOCK = "files", "views", "coming", ".lock"
CUT_OFF_SECONDS = 24 * 3600  # after which a file that is coming is not any more

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Coming:
    """A local folder to which files come.

    Attributes:
        folder: the folder.
        wait: returns when a file is there, by its path; it raises what keeps it from coming.
    """

    folder: Path
    wait: Callable[[Path], None]


class FileCache:
    """Local copies of files.

    Args:
        root: folder of the cache.
        most_bytes: how many bytes of files that nobody uses are kept.
    """

    def __init__(self, root: Path, most_bytes: int = DEFAULT_BYTES) -> None:
        self._root, self._most_bytes = root, most_bytes

    @contextmanager
    def coming(
        self,
        storage: Storage,
        folder: str,
        entries: Sequence[Entry],
        on_bytes: Callable[[int, int], None] = lambda *_: None,
    ) -> Iterator[Coming]:
        """Give a local folder to which files of a folder of the storage come, for as long as the context lasts.

        Those that are not kept from before are fetched, several at once in the order given, and verified.

        Args:
            entries: manifest entries of the files: `path` below the folder, `bytes` and `sha256`.
            on_bytes: told, as files are waited for, how many bytes are here, and how many there are.

        Raises:
            StorageError: there is no room for them.
        """
        with ExitStack() as stack:
            with self._explaining(storage, folder):
                stack.callback(self._evict_or_not)  # when these are idle too
                view = stack.enter_context(self._new_view())
            threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
            stack.callback(threads.shutdown, cancel_futures=True)
            bring = partial(self._bring, view, storage, folder)
            fetched = {view / entry["path"]: (threads.submit(bring, entry), entry["bytes"]) for entry in entries}
            done, total = 0, sum(entry["bytes"] for entry in entries)
            on_bytes(0, total)

            def wait(path: Path) -> None:
                nonlocal done
                future, size = fetched[path]
                with self._explaining(storage, folder):
                    future.result()
                done += size
                fetched[path] = (future, 0)
                on_bytes(done, total)

            yield Coming(folder=view, wait=wait)

    @contextmanager
    def view(self, storage: Storage, folder: str, entries: Sequence[Entry]) -> Iterator[Path]:
        """Give a local folder that holds files of a folder of the storage, for as long as the context lasts.

        Args:
            entries: as `coming` takes them.

        Raises:
            NotFoundError: a file is not in the storage.
            CorruptFileError: it is another one there than its entry says.
            StorageError: it cannot be read, or there is no room for it.
        """
        with self.coming(storage, folder, entries) as coming:
            for entry in entries:
                coming.wait(coming.folder / entry["path"])
            yield coming.folder

    def _bring(self, view: Path, storage: Storage, folder: str, entry: Entry) -> None:
        name = view / entry["path"]
        name.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):  # it may be evicted at once, by somebody else
            if self._linked(entry, name):
                return
            self._fetch(storage, f"{folder}/{entry['path']}", entry)
        raise StorageError(f"{name}: was evicted from the cache {ATTEMPTS} times; let MIMIC_CACHE_GIB be more")

    @contextmanager
    def _explaining(self, storage: Storage, folder: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, MimicError):
                raise
            raise StorageError(
                f"{error.filename or self._root}: {error.strerror or error}; the files of {storage.url(folder)} could not "
                "be kept here. Make room, or let MIMIC_CACHE name a folder with more"
            ) from error

    def _linked(self, entry: Entry, name: Path) -> bool:
        kept = self._root / FILES / entry["sha256"]
        try:
            if kept.stat().st_size != entry["bytes"]:
                kept.unlink()  # damaged, such as by a machine that went down
                return False
            os.utime(kept)  # it was used last now
            os.link(kept, name)
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, storage: Storage, name: str, entry: Entry) -> None:
        for folder in (FILES, COMING):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        handle, coming = tempfile.mkstemp(dir=self._root / COMING)
        try:
            with os.fdopen(handle, "wb") as file:
                try:
                    storage.download(name, file)
                except FileNotFoundError as error:
                    raise NotFoundError(f"{storage.url(name)}: this file is gone; build again what it belongs to") from error
            verify_file(Path(coming), entry, storage.url(name))
            Path(coming).replace(self._root / FILES / entry["sha256"])
        finally:
            Path(coming).unlink(missing_ok=True)

    @contextmanager
    def _new_view(self) -> Iterator[Path]:
        views = self._root / VIEWS
        views.mkdir(parents=True, exist_ok=True)
        view = Path(tempfile.mkdtemp(dir=views))
        try:
            with view.with_suffix(".new").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel drops it when a process dies
                view.with_suffix(".new").replace(view.with_suffix(LOCK))
                yield view
        finally:
            _remove_view(view)

    def _evict_or_not(self) -> None:
        with suppress(OSError):  # another process removes the same, or the disk is full: what was done with the files stays
            self._evict()

    def _evict(self) -> None:
        """Remove what dead processes left, and of the files that nobody uses those that were used longest ago."""
        with (self._root / "evicting").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in (self._root / VIEWS).glob(f"*{LOCK}"):
                with suppress(FileNotFoundError, BlockingIOError), path.open() as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove_view(path.with_suffix(""))
            cut_off = time.time() - CUT_OFF_SECONDS
            for entry in _entries(self._root / COMING):
                if entry.stat().st_mtime < cut_off:
                    Path(entry.path).unlink(missing_ok=True)
            idle = []
            for entry in _entries(self._root / FILES):
                status = entry.stat()
                if status.st_nlink == 1:
                    idle.append((status.st_mtime_ns, status.st_size, entry.path))
            excess = sum(size for _, size, _ in idle) - self._most_bytes
            for _, size, name in sorted(idle):
                if excess <= 0:
                    break
                Path(name).unlink(missing_ok=True)
                excess -= size


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    return list(os.scandir(folder)) if folder.is_dir() else []


def _remove_view(view: Path) -> None:
    shutil.rmtree(view, ignore_errors=True)
    view.with_suffix(LOCK).unlink(missing_ok=True)
