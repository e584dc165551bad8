"""Shard files: the records of a shard as they are written block by block, compressed or not, and its id table."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from mimic_core.datasets import ids_path, shard_path
from mimic_core.identifiers import join_id_tables, parquet_bytes
from mimic_core.records import encode
from mimic_core.rows import Rows
from mimic_core.shards import Shard
from mimic_core.specs import DatasetSpec
from resources.artefacts import ArtefactStore
from resources.storage import Written


class ShardFile:
    """The file of one shard while it is written, and the text ids in it."""

    def __init__(self, shard: Shard, spec: DatasetSpec, written: Written) -> None:
        self._shard, self._spec, self._written = shard, spec, written
        # a gzip stream without a time, so that equal records are equal bytes
        self._gzip = zlib.compressobj(wbits=16 + zlib.MAX_WBITS) if spec.compression else None
        self._decisions = 0
        self._ids: list[pa.Table] = []

    def add(self, rows: Rows) -> None:
        """Append decisions."""
        for records in encode(rows, self._spec.max_choices):
            self._written.write(self._gzip.compress(records) if self._gzip else records)
        self._decisions += rows.decisions

    def add_ids(self, ids: pa.Table) -> None:
        """Note the text ids of decisions that were appended."""
        self._ids.append(ids)

    def discard(self) -> None:
        """Forget the file."""
        self._written.discarded = True

    def end(self) -> None:
        """Complete the stream."""
        if self._gzip:
            self._written.write(self._gzip.flush())

    @property
    def entry(self) -> dict[str, Any]:
        """What a manifest says of it."""
        path = shard_path(self._shard, self._spec.compression)
        return {"path": path, "split": self._shard.split, "decisions": self._decisions, **self._written.entry}

    def write_ids(self, folder: str, artefacts: ArtefactStore) -> list[dict[str, Any]]:
        """Write the id table beside it, where there are text ids; returns its manifest entry."""
        ids = join_id_tables(self._ids)
        if not len(ids):
            return []
        path = ids_path(self._shard)
        return [{"path": path, "rows": len(ids), **artefacts.write(f"{folder}/{path}", [parquet_bytes(ids)])}]


@contextmanager
def writing(shard: Shard, spec: DatasetSpec, folder: str, artefacts: ArtefactStore) -> Iterator[ShardFile]:
    """Write the file of a shard; it is there when the context ends, unless it was discarded.

    Args:
        folder: of the dataset's version.

    Raises:
        StorageError: the bytes could not be stored; nothing is left behind.
    """
    with artefacts.writing(f"{folder}/{shard_path(shard, spec.compression)}") as written:
        file = ShardFile(shard, spec, written)
        yield file
        file.end()
