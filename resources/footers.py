"""Footers: Parquet files that are read by turns, some row groups at a time, each parsed once where memory allows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mimic_core.shards import RowGroup

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MOST_BYTES = 16 * 2**20  # of the footers that are kept, as they lie in their files; parsed they take six times as much
SMALL = 20_000  # rows; reading smaller row groups one by one takes several times as long as one stream of them


class Footers:
    """The parsed footers of files that are still to be read, as many as may be kept."""

    def __init__(self, turns: Iterable[str] = ()) -> None:
        """Keep the footers of files that have several turns until their last."""
        self._left = Counter(turns)
        self._kept: dict[str, pq.FileMetaData] = {}

    @contextmanager
    def opened(self, name: str, source: Any, buffer_size: int = 0) -> "Iterator[pq.ParquetFile]":
        """Open a file for a turn.

        Args:
            name: of the file, as among the turns; the footer of one that is not is not kept.
            source: the file's path, or the open file, which is left open.
            buffer_size: bytes per column that are read at once; 0 reads those of a whole row group.
        """
        import pyarrow.parquet as pq

        self._left[name] -= 1
        known = self._kept.get(name) if self._left[name] > 0 else self._kept.pop(name, None)
        with pq.ParquetFile(source, metadata=known, pre_buffer=False, buffer_size=buffer_size) as file:
            if known is None and self._left[name] > 0 and self.size + file.metadata.serialized_size <= MOST_BYTES:
                self._kept[name] = file.metadata
            yield file

    @property
    def size(self) -> int:
        """How many bytes those that are kept take in their files."""
        return sum(footer.serialized_size for footer in self._kept.values())


def turns_of(groups: Iterable[RowGroup]) -> list[list[RowGroup]]:
    """Part row groups, in the order given, into those that are read at once: small ones that follow each other in a file."""
    turns: list[list[RowGroup]] = []
    for group in groups:
        before = turns[-1][-1] if turns else None
        if before is not None and before.file == group.file and max(before.rows, group.rows) < SMALL:
            turns[-1].append(group)
        else:
            turns.append([group])
    return turns


def cut(batches: Iterable[pa.RecordBatch], lengths: Iterable[int]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Cut a stream of rows into streams of some lengths, each to be read to its end before the next."""
    coming = iter(batches)
    rest: list[pa.RecordBatch] = []

    def piece(rows: int) -> Iterator[pa.RecordBatch]:
        while rows:
            whole = not rest
            batch = rest.pop() if rest else next(coming, None)
            if batch is None:
                return
            if batch.num_rows > rows:
                whole = False
                rest.append(batch.slice(rows))
                batch = batch.slice(0, rows)
            rows -= batch.num_rows
            # a slice that waits for other rows would hold the memory of its whole batch
            yield batch if whole else pa.concat_batches([batch])

    yield from map(piece, lengths)
