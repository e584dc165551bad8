"""Streams: the decisions of a split as blocks of whole individuals, from memory or read anew in every pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mimic_core.access import Access, access_rows, access_some
from mimic_core.rows import Bool, Rows, slice_decisions, take_decisions

BLOCK_ROWS = 65_536  # about as many are looked at at once


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Decisions that can be gone through any number of times.

    Attributes:
        read: begins a pass over blocks of whole individuals.
        decisions: number of decisions.
        rows: all of them, where they are in memory.
        access: opens them to be taken in any order, as networks do.
    """

    read: Callable[[], Iterator[Rows]]
    decisions: int
    rows: Rows | None = None
    access: Callable[[], AbstractContextManager[Access]] | None = None

    def __iter__(self) -> Iterator[Rows]:
        return self.read()


def in_memory(rows: Rows, block_rows: int | None = None) -> Stream:
    """Go through rows that are in memory, without a copy, in blocks of about so many rows."""

    def read() -> Iterator[Rows]:
        size = block_rows or BLOCK_ROWS
        first = rows.first_decisions
        # the first individual that begins at or after each multiple of the size of a block begins the next one
        cuts = np.searchsorted(rows.starts[first], np.arange(size, len(rows), size))
        bounds = np.unique(np.concatenate([[0], first[cuts[cuts < len(first)]], [rows.decisions]])).tolist()
        for begin, end in pairwise(bounds):
            yield slice_decisions(rows, begin, end)

    return Stream(read=read, decisions=rows.decisions, rows=rows, access=lambda: nullcontext(access_rows(rows)))


def where(stream: Stream, keep: Callable[[Rows], Bool]) -> Stream:
    """Keep some decisions.

    Args:
        keep: tells (decisions,) which of a block's to keep.
    """
    if stream.rows is not None:
        return in_memory(take_decisions(stream.rows, np.flatnonzero(keep(stream.rows))))

    def read() -> Iterator[Rows]:
        for rows in stream:
            kept = np.flatnonzero(keep(rows))
            if len(kept):
                yield take_decisions(rows, kept)

    kept = np.concatenate([np.empty(0, np.bool_), *map(keep, stream)])  # (decisions,) as they are read

    @contextmanager
    def access() -> Iterator[Access]:
        with open_access(stream) as whole:
            yield access_some(whole, kept)

    return Stream(read=read, decisions=int(kept.sum()), access=access)


def watched(stream: Stream, on_decisions: Callable[[int], None]) -> Stream:
    """Tell, in every pass over a stream, how many decisions were gone through so far."""

    def read() -> Iterator[Rows]:
        done = 0
        for rows in stream:
            yield rows
            done += rows.decisions
            on_decisions(done)

    return replace(stream, read=read)


def open_access(stream: Stream) -> AbstractContextManager[Access]:
    """Open a stream to take decisions of it in any order, for as long as the context lasts."""
    if stream.access is None:
        raise ValueError("a stream that is only read in its own order; make it with `access`")
    return stream.access()
