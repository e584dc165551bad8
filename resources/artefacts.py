"""Artefacts: the object storage that holds TFRecords, models, specs and manifests, and how a version is published there."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mimic_core.errors import ConflictError, CorruptFileError, NotFoundError, StorageError
from mimic_core.manifests import seal, unseal, verify
from resources.file_cache import DEFAULT_BYTES, Coming, FileCache
from resources.storage import S3, Status, Storage, Written, open_storage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

MANIFEST = "manifest.json"
RETIRED = "retired"  # beside the versions of a partition, since its manifest was taken away


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The right to publish one version of one partition.

    Attributes:
        done: the manifest, where this very version is published already, or one that is as good.
        prepare: takes the new manifest before a table is changed, and raises what would keep it from being published.
        publish: takes the new manifest; everything that it names must be stored before.
    """

    done: dict[str, Any] | None
    prepare: Callable[[dict[str, Any]], None]
    publish: Callable[[dict[str, Any]], None]


class ArtefactStore(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Files by name below `root`, a folder or `s3://BUCKET/PREFIX`; a name is a relative path with forward slashes.

    Attributes:
        cache: folder of local copies, where `root` is not on this machine; by default one for temporary files.
        cache_bytes: how many bytes of copies that nobody uses are kept there.
    """

    root: str
    cache: str = ""
    cache_bytes: int = DEFAULT_BYTES

    @property
    def storage(self) -> Storage:
        """Where the files are."""
        return open_storage(self.root)

    def where(self, name: str) -> str:
        """Return what people call a file: its path on this machine, or its URL."""
        return self.storage.url(name)

    def status(self, name: str) -> Status | None:
        """Return what is known of a file without reading it; None when there is none."""
        return self.storage.status(name)

    def read(self, name: str, entry: dict[str, Any] | None = None) -> bytes:
        """Read a file, and verify it against its manifest entry.

        Raises:
            NotFoundError: it is not there.
            CorruptFileError: it is not the file that the entry describes.
        """
        try:
            data = self.storage.read(name)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.where(name)}: this file is gone; build again what it belongs to") from error
        return data if entry is None else verify(data, entry, self.where(name))

    def write(self, name: str, chunks: "Iterable[Buffer]") -> dict[str, Any]:
        """Write a file atomically and return its size and checksum for a manifest.

        Raises:
            StorageError: the bytes could not be stored; nothing is left behind.
        """
        with self.writing(name) as file:
            for chunk in chunks:
                file.write(chunk)
        return file.entry

    def writing(self, name: str) -> "AbstractContextManager[Written]":
        """Write a file piece by piece; it is there when the context ends, unless it was discarded.

        Raises:
            StorageError: the bytes could not be stored; nothing is left behind.
        """
        return self.storage.writing(name)

    def append(self, name: str, data: bytes) -> None:
        """Add bytes at the end of a file; after a kill, but not after an error, a part of them may be there.

        Raises:
            StorageError: the bytes could not be stored.
        """
        self.storage.append(name, data)

    def create(self, name: str, data: bytes) -> None:
        """Write a file unless one is there.

        Raises:
            ConflictError: one is there.
        """
        self.storage.create(name, data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.storage.remove(name)

    def discard(self, folder: str) -> None:
        """Remove a folder that nothing refers to; what cannot be removed now is left to garbage collection."""
        with suppress(StorageError):
            self.storage.discard(folder)

    def names(self, folder: str) -> list[str]:
        """List the names of the files directly in a folder, sorted."""
        return self.storage.names(folder)

    @contextmanager
    def local_folder(self, folder: str, entries: Sequence[dict[str, Any]]) -> Iterator[Path]:
        """Give a folder of this machine that has some files of a folder, for as long as the context lasts.

        Args:
            entries: manifest entries of the files.

        Raises:
            NotFoundError: a file is gone.
            CorruptFileError: it is not the file that its entry describes; of files that are here already nothing is checked.
            StorageError: it cannot be read, or there is no room for it.
        """
        if not self.root.startswith(S3):
            yield Path(self.root) / folder
            return
        with self._cache.view(self.storage, folder, entries) as view:
            yield view

    @contextmanager
    def coming_folder(
        self, folder: str, entries: Sequence[dict[str, Any]], on_bytes: Callable[[int, int], None] = lambda *_: None
    ) -> Iterator[Coming]:
        """Give a folder of this machine to which files of a folder come, for as long as the context lasts.

        Args:
            entries: manifest entries of the files, in the order in which they should come.
            on_bytes: told, as files are waited for, how many bytes are fetched, and how many there are.

        Raises:
            StorageError: there is no room for them. Waiting for a file raises what `local_folder` does.
        """
        if not self.root.startswith(S3):
            yield Coming(folder=Path(self.root) / folder, wait=lambda _: None)
            return
        with self._cache.coming(self.storage, folder, entries, on_bytes) as coming:
            yield coming

    @property
    def _cache(self) -> FileCache:
        here = Path(tempfile.gettempdir()) / f"mimic-cache-{os.getuid()}"
        return FileCache(Path(self.cache) if self.cache else here, self.cache_bytes)

    def manifest(self, folder: str) -> dict[str, Any] | None:
        """Return the manifest of what is published in a folder; None when nothing is.

        Raises:
            CorruptFileError: the manifest is damaged.
        """
        data = self._manifest_bytes(folder)
        return None if data is None else unseal(data, self.where(f"{folder}/{MANIFEST}"))

    def published(self, folder: str) -> str | None:
        """Return a token of what is published in a folder, for `publishing`."""
        data = self._manifest_bytes(folder)
        return None if data is None else hashlib.sha256(data).hexdigest()

    @contextmanager
    def publishing(
        self, folder: str, version: str, replaces: str | None, fingerprint: str | None = None
    ) -> "Iterator[Publication]":
        """Publish by compare-and-swap, within the context that this gives.

        A step that is executed again after it published finds its own manifest and has nothing more to do.

        Args:
            folder: of the partition.
            version: the new version's folder within it.
            replaces: what `published` said when the build began.
            fingerprint: of this build, where one with the same that was published since is as good; else None.

        Raises:
            ConflictError: another build published since, and not as good a one; the new version's folder is removed.
        """
        with self.locked(folder) as require_turn:
            present = self.status(f"{folder}/{MANIFEST}")
            manifest = self._intact_manifest(folder)
            if manifest is not None and manifest["version"] == version:
                yield _nothing_to_do(manifest)
                return
            if self.published(folder) != replaces:
                self.discard(f"{folder}/{version}")
                if manifest is not None and fingerprint is not None and manifest["fingerprint"] == fingerprint:
                    yield _nothing_to_do(manifest)
                    return
                raise self._overtaken(folder)
            tag = present.tag if present else None

            def prepare(document: dict[str, Any]) -> None:
                seal(document)
                require_turn()

            yield Publication(done=None, prepare=prepare, publish=lambda document: self._publish(folder, document, tag))

    def locked(self, folder: str) -> "AbstractContextManager[Callable[[], None]]":
        """Keep others from publishing a partition, or from removing its versions, within the context that this gives.

        It gives what raises ConflictError where this process was stopped for so long that another one took its turn.
        """
        return self.storage.locked(folder)

    def unpublish(self, folder: str) -> None:
        """Remove the manifest of a partition, and with it what readers find; the files of its versions stay."""
        with self.locked(folder) as require_turn:
            if self.status(f"{folder}/{MANIFEST}"):
                self.write(f"{folder}/{RETIRED}", [b""])  # when that was, for who removes the files
            require_turn()
            self.remove(f"{folder}/{MANIFEST}")

    def _manifest_bytes(self, folder: str) -> bytes | None:
        try:
            return self.storage.read(f"{folder}/{MANIFEST}")
        except FileNotFoundError:
            return None

    def _intact_manifest(self, folder: str) -> dict[str, Any] | None:
        try:
            return self.manifest(folder)
        except CorruptFileError:
            return None  # it is about to be replaced

    def _publish(self, folder: str, document: dict[str, Any], tag: str | None) -> None:
        version = f"{folder}/{document['version']}"
        look = self.storage.statuses([version])
        gone = [file["path"] for file in document.get("files", ()) if look(f"{version}/{file['path']}") is None]
        if gone:  # a build that is executed again long after it failed
            where = self.where(version)
            raise NotFoundError(f"{where}: {len(gone)} files of this build are gone, such as {gone[0]}; start it again")
        try:
            self.storage.swap(f"{folder}/{MANIFEST}", seal(document), tag)
        except ConflictError as error:
            raise self._overtaken(folder) from error

    def _overtaken(self, folder: str) -> ConflictError:
        return ConflictError(
            f"{self.where(folder)}: another build published a newer version while this one ran; "
            "this one was discarded. Build again if it should be replaced"
        )


def _nothing_to_do(manifest: dict[str, Any]) -> Publication:
    return Publication(done=manifest, prepare=lambda _: None, publish=lambda _: None)
