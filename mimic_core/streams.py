"""Streams: the decisions of a split as blocks of whole individuals, from memory or read anew in every pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mimic_core.rows import Bool, Rows, slice_decisions, take_decisions

BLOCK_ROWS = 65_536  # about as many are looked at at once


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Decisions that can be gone through any number of times.

    Attributes:
        read: begins a pass over blocks of whole individuals.
        decisions: number of decisions.
        rows: all of them, where they are in memory.
    """

    read: Callable[[], Iterator[Rows]]
    decisions: int
    rows: Rows | None = None

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

    return Stream(read=read, decisions=rows.decisions, rows=rows)


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

    return Stream(read=read, decisions=sum(int(keep(rows).sum()) for rows in stream))
