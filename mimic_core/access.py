"""Access: decisions of a split by their place in its sorted order, wherever they are, as training takes them in windows.

The place of a decision is that of `mimic_core.splits.read_rows`, so what is drawn does not depend on how a split is held.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mimic_core.rows import Bool, Float32, Int64, Rows, row_positions

WINDOW_BYTES = 2**25  # are drawn at once, about; half and twice as many took as long


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some decisions, one after the other in the order asked for.

    Attributes:
        x: (rows, features).
        counts: (decisions,) number of choices.
        selected: (decisions,) position of the selected choice among those of its decision.
        weight: (decisions,); None where there are none.
        offset: (rows,) what training adds to the utility; None for nothing.
    """

    x: Float32
    counts: Int64
    selected: Int64
    weight: Float32 | None
    offset: Float32 | None


@dataclass(frozen=True, kw_only=True)
class Access:
    """Decisions that can be taken in any order.

    Attributes:
        take: returns decisions by their (decisions,) places, each from 0.
        bytes_each: about how many a decision takes while it is taken.
        order: (decisions,) which decision, counted as a stream reads them, has each place; None where it is the same.
        ahead: whether the next window is better taken while one is used.
    """

    take: Callable[[Int64], Window]
    bytes_each: float
    order: Int64 | None = None
    ahead: bool = False

    def windows(self, places: Int64, multiple: int) -> Iterator[Window]:
        """Take many decisions, window by window; each but the last holds a multiple of so many decisions."""
        size = max(int(WINDOW_BYTES / (self.bytes_each * multiple)), 1) * multiple
        parts = [places[first : first + size] for first in range(0, len(places), size)]
        yield from _ahead(self.take, parts) if self.ahead else map(self.take, parts)


def access_rows(rows: Rows) -> Access:
    """Take decisions of rows in memory."""
    counts, selected = rows.counts, np.flatnonzero(rows.selected) - rows.starts

    def take(places: Int64) -> Window:
        kept = row_positions(rows, places)
        return Window(
            x=rows.x.take(kept, axis=0),
            counts=counts[places],
            selected=selected[places],
            weight=None if rows.weight is None else rows.weight[places],
            offset=None if rows.offset is None else rows.offset[kept],
        )

    return Access(take=take, bytes_each=rows.x.nbytes / max(rows.decisions, 1))


def access_some(access: Access, keep: Bool) -> Access:
    """Take from some of the decisions only, which keep their order.

    Args:
        keep: (decisions,) tells of each, counted as a stream reads them, whether it is one of them.
    """
    if access.order is None:
        kept, order = np.flatnonzero(keep), None
    else:
        kept = np.flatnonzero(keep[access.order])
        order = (np.cumsum(keep) - 1)[access.order[kept]]
    return replace(access, take=lambda places: access.take(kept[places]), order=order)


def _ahead(take: Callable[[Int64], Window], parts: list[Int64]) -> Iterator[Window]:
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(take, parts[0])
        for part in parts[1:]:
            window, following = following.result(), pool.submit(take, part)
            yield window
            del window  # only two at a time
        yield following.result()
