"""Shards: how the individuals of a table are divided over files and steps, planned on what its row groups are known to hold.

Where row groups follow each other by individual, a shard is a range of individuals and its step reads only the row groups of
that range. Elsewhere shards take individuals by a hash and every step reads the whole table.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mimic_core.rows import Bool, Int64, hash64
from mimic_core.sources import SPLITS

READ_AT_MOST = 1.5  # times the table by all steps together, or half of what hashes would read; else ranges save too little
LOWEST, HIGHEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows of a table's file that are read at once.

    Attributes:
        file, index: which it is.
        lowest, highest: bounds of `_individual`; None where its ids are text, or they are not known.
        splits: those of which it may hold rows.
    """

    file: str
    index: int
    rows: int
    lowest: int | None
    highest: int | None
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some individuals of one split: those of a range of ids, or those whose hash falls to `index` of `count`.

    Attributes:
        span: the first and the last id of the range; None for a shard by hash.
    """

    split: str
    index: int
    count: int
    span: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one step builds: shards, and the row groups that hold their rows.

    Attributes:
        row_groups: in the order of their lowest individuals; None stands for all rows of a table of which no order is
            known.
        whole: whether all rows of its individuals are in it, those of the other split too.
    """

    index: int
    shards: tuple[Shard, ...]
    row_groups: tuple[RowGroup, ...] | None
    whole: bool

    @property
    def name(self) -> str:
        """A name that sorts and is safe everywhere, such as `part_00000`."""
        return f"part_{self.index:05d}"

    def places(self, individual: Int64, train: Bool) -> Int64:
        """Return (rows,) where the shard of each row stands in `shards`, -1 for one of another part.

        Args:
            individual: (rows,) int64 ids.
            train: (rows,) whether rows are for training.
        """
        places = np.full(len(individual), -1)
        for split in SPLITS:
            mine = [(place, shard) for place, shard in enumerate(self.shards) if shard.split == split]
            if mine:
                rows = train if split == "train" else ~train
                places[rows] = _places(mine, individual[rows])
        return places

    def holds(self, individual: Int64, train: Bool) -> Bool:
        """Return (rows,) which rows belong to one of its shards."""
        return self.places(individual, train) >= 0

    @property
    def share(self) -> float:
        """About which share of the rows that it reads is in its shards."""
        if any(shard.span for shard in self.shards):
            return 1.0
        return max(sum(1 / shard.count for shard in self.shards if shard.split == split) for split in SPLITS)


def count_parts(partitions: Mapping[str, int], per_step: int = 1) -> int:
    """Return how many steps build the shards of a spec.

    >>> count_parts({"train": 8, "test": 3}, per_step=2)
    4
    """
    return -(-max(partitions.values()) // per_step)


def plan_parts(partitions: Mapping[str, int], row_groups: Sequence[RowGroup] | None, per_step: int = 1) -> list[Part]:
    """Divide the shards of a spec over steps, each with shards of both splits over the same rows where their numbers allow.

    Args:
        partitions: split -> number of shards.
        row_groups: all of a table; None where they are not known.
        per_step: shards of each split in one step.
    """
    ordered = _in_order(row_groups)
    parts = count_parts(partitions, per_step)
    ranges = {split: _ranges(ordered, split, partitions[split]) for split in SPLITS} if ordered else {}
    if ranges and all(ranges.values()):
        most = count_parts(partitions)  # whatever `per_step` is: it must not change the shards
        read = sum(group.rows for part in _parts(ranges, most, ordered) for group in part.row_groups or ())
        if read <= max(READ_AT_MOST, most / 2) * sum(group.rows for group in ordered):
            return _parts(ranges, parts, ordered)
    # of row groups in no order it helps nobody to know which they are, and each step would carry the list
    helps = ordered and 2 * most_waiting(ordered) <= sum(group.rows for group in ordered)
    return _parts(_hashes(partitions), parts, ordered if helps else None)


def complete_below(row_groups: Sequence[RowGroup]) -> list[int | None]:
    """Return, for each of some row groups in turn, the id below which no later one has rows; None where that is unknown.

    >>> complete_below([RowGroup(file="f", index=i, rows=1, lowest=i, highest=i + 1) for i in range(2)])
    [1, 9223372036854775807]
    """
    below: list[int | None] = []
    least: int | None = HIGHEST
    for group in reversed(row_groups):
        below.append(least)
        least = None if least is None or group.lowest is None else min(least, group.lowest)
    return below[::-1]


def most_waiting(row_groups: Sequence[RowGroup]) -> int:
    """Return how many rows wait at most for later ones of their individuals when row groups are read in turn."""
    waiting: list[tuple[int, int]] = []  # highest individual and rows of each, a heap
    rows = most = 0
    for group, below in zip(row_groups, complete_below(row_groups), strict=True):
        heapq.heappush(waiting, (HIGHEST if group.highest is None else group.highest, group.rows))
        rows += group.rows
        most = max(most, rows)
        while waiting and below is not None and waiting[0][0] < below:
            rows -= heapq.heappop(waiting)[1]
    return most


def shard_index(individual: Int64, count: int) -> Int64:
    """Assign individuals to shards by a stateless 64-bit hash.

    Args:
        individual: (rows,) any int64: 0, negative, beyond 2^53.
        count: number of shards.

    Returns:
        (rows,) shard index in [0, count).

    Source: the finaliser of splitmix64, Steele, Lea and Flood, OOPSLA 2014.
    """
    return (hash64(individual) % np.uint64(count)).astype(np.int64)


def _places(shards: Sequence[tuple[int, Shard]], individual: Int64) -> Int64:
    """Return (rows,) the places of the shards, in ascending order and given with them, to which individuals belong."""
    place = np.array([place for place, _ in shards])
    spans = [shard.span for _, shard in shards if shard.span]
    if spans:
        first, last = (np.array([span[end] for span in spans], np.int64) for end in (0, 1))
        at = np.searchsorted(first, individual, side="right") - 1
        return np.where((at >= 0) & (individual <= last[at]), place[at], -1)
    by_index = np.full(shards[0][1].count, -1)
    by_index[[shard.index for _, shard in shards]] = place
    return np.asarray(by_index[shard_index(individual, len(by_index))])


def _in_order(row_groups: Sequence[RowGroup] | None) -> tuple[RowGroup, ...]:
    """Sort row groups by their individuals; none where these are not known."""
    if not row_groups or any(group.lowest is None or group.highest is None for group in row_groups):
        return ()
    return tuple(sorted(row_groups, key=lambda group: (group.lowest, group.highest)))


def _ranges(ordered: Sequence[RowGroup], split: str, count: int) -> list[Shard]:
    """Cut a split into ranges of about as many rows each, at first individuals of row groups; [] where it cannot be."""
    holding = [group for group in ordered if split in group.splits]
    lows = [group.lowest for group in holding if group.lowest is not None]
    ends = np.cumsum([group.rows for group in holding], dtype=np.int64)
    wanted = [index * int(ends[-1]) / count for index in range(1, count)] if holding else []
    starts = ends - [group.rows for group in holding]
    cuts = [lows[int(np.argmin(np.abs(starts - rows)))] for rows in wanted]
    if len(set(cuts)) < count - 1 or (cuts and cuts[0] <= lows[0]):
        return []
    bounds = [LOWEST, *cuts, HIGHEST + 1]
    return [
        Shard(split=split, index=index, count=count, span=(first, end - 1))
        for index, (first, end) in enumerate(pairwise(bounds))
    ]


def _hashes(partitions: Mapping[str, int]) -> dict[str, list[Shard]]:
    return {
        split: [Shard(split=split, index=index, count=partitions[split]) for index in range(partitions[split])]
        for split in SPLITS
    }


def _parts(shards: Mapping[str, Sequence[Shard]], parts: int, ordered: Sequence[RowGroup] | None) -> list[Part]:
    mine: list[list[Shard]] = [[] for _ in range(parts)]
    for split in SPLITS:
        for shard in shards[split]:
            mine[shard.index * parts // shard.count].append(shard)
    bounds = [[(shard.index, shard.count, shard.span) for shard in shards[split]] for split in SPLITS]
    whole = bounds[0] == bounds[1]
    lowest, highest = (
        np.array([getattr(group, name) for group in ordered or ()], np.int64) for name in ("lowest", "highest")
    )
    of_split = {split: np.array([split in group.splits for group in ordered or ()], np.bool_) for split in SPLITS}

    def needed(held: Sequence[Shard]) -> tuple[RowGroup, ...] | None:
        if ordered is None:
            return None
        rows = np.zeros(len(ordered), np.bool_)
        for shard in held:
            first, last = shard.span or (LOWEST, HIGHEST)
            rows |= of_split[shard.split] & (lowest <= last) & (highest >= first)
        return tuple(ordered[index] for index in np.flatnonzero(rows).tolist())

    return [Part(index=index, shards=tuple(held), row_groups=needed(held), whole=whole) for index, held in enumerate(mine)]
