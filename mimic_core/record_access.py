"""Record access: decisions taken from the record files of a split by their place, with little of them in memory.

Records have one length, so a file is mapped, a region at a time, and those asked for are copied out of it. Compressed files
are decompressed first, once, into a nameless temporary file, which is gone when training ends, however it ends.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mimic_core.access import Access, Window
from mimic_core.errors import StorageError
from mimic_core.records import Bytes, values
from mimic_core.rows import Int64, sort_keys

if TYPE_CHECKING:
    from mimic_core.splits import Split

REGION_BYTES = 2**24  # of a file that are mapped at once; whatever is touched of them counts as memory of the process
BLOCK = 2048  # records decoded at once


@contextmanager
def access_records(source: "Split") -> Iterator[Access]:
    """Open the files of a split, for as long as the context lasts.

    The order of the decisions takes 8 bytes for each where the files are not sorted one after the other.

    Raises:
        StorageError: there is no room for the decompressed files.
        CorruptFileError: a file cannot be decompressed.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(_decompressed(source))] if source.compressed else source.paths
        order = _order(source)
        reader = _Reader(files, source.layout.record_bytes)

        def take(places: Int64) -> Window:
            return _window(reader.read(places if order is None else order[places]), source)

        yield Access(take=take, bytes_each=source.layout.record_bytes, order=order, ahead=True)


class _Reader:
    """Copies records out of files, by their number over all of them.

    Files by path are open only while a region is read, as there may be more than a process may have open.
    """

    def __init__(self, files: Sequence[BinaryIO | Path], record_bytes: int) -> None:
        self._dtype, per_region = np.dtype(f"V{record_bytes}"), max(REGION_BYTES // record_bytes, 1)
        self._regions, self._bounds = [], [0]
        for file in files:
            records = (file.stat().st_size if isinstance(file, Path) else file.seek(0, 2)) // record_bytes
            for first in range(0, records, per_region):
                self._regions.append((file, first, min(per_region, records - first)))
                self._bounds.append(self._bounds[-1] + self._regions[-1][2])

    def read(self, numbers: Int64) -> Bytes:
        """Return records (decisions, record_bytes) in the order of their numbers; the files are read from front to back."""
        found = np.empty(len(numbers), self._dtype)
        at = np.argsort(numbers)
        ascending = numbers[at]
        for index, (begin, end) in enumerate(pairwise(np.searchsorted(ascending, self._bounds).tolist())):
            if begin < end:
                file, first, records = self._regions[index]
                region = np.memmap(file, self._dtype, "r", first * self._dtype.itemsize, (records,))
                found[at[begin:end]] = np.asarray(region)[ascending[begin:end] - self._bounds[index]]
                del region  # unmapped before the next one is mapped
        return found.view(np.uint8).reshape(-1, self._dtype.itemsize)


def _decompressed(source: "Split") -> BinaryIO:
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  it is closed by the caller
    try:
        for records in source.blocks():
            file.write(records.data)
        file.flush()
    except OSError as error:
        with suppress(OSError):  # closing writes what is left
            file.close()
        raise StorageError(
            f"{tempfile.gettempdir()}: the decompressed training decisions could not be written: {error.strerror}; "
            "make room there, or let TMPDIR name a folder with more"
        ) from error
    return file


def _order(source: "Split") -> Int64 | None:
    fields = source.layout.fields
    blocks = [[values(records, fields[name]) for name in ("individual", "decision")] for records in source.blocks()]
    individual, decision = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return sort_keys(individual, decision, np.zeros(len(decision), np.int64))[0]


def _window(records: Bytes, source: "Split") -> Window:
    fields = source.layout.fields
    counts = values(records, fields["n_choices"])
    rows = np.append(0, np.cumsum(counts))
    x = np.empty((rows[-1], len(source.columns)), np.float32)
    offset = np.empty(len(x), np.float32) if "sampling_log_probability" in fields else None
    for first in range(0, len(records), BLOCK):  # which stay in the cache of a processor
        part, of_rows = records[first : first + BLOCK], slice(rows[first], rows[min(first + BLOCK, len(records))])
        real = np.arange(source.max_choices) < counts[first : first + BLOCK, None]
        x[of_rows] = source.chosen(values(part, fields["x"], real))
        if offset is not None:
            offset[of_rows] = values(part, fields["sampling_log_probability"], real)
    return Window(
        x=x,
        counts=counts,
        selected=values(records, fields["selected"]),
        weight=values(records, fields["weight"]) if "weight" in fields else None,
        offset=offset,
    )
