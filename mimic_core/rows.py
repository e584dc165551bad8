"""Rows: flat arrays of whole decisions, the one shape in which data are checked, encoded, sampled, trained on and scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.sources import ALTERNATIVE, OFFSET, WEIGHT

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows sorted by individual, decision and choice; decisions are adjacent.

    Attributes:
        individual, decision, choice: (rows,) int64; surrogates where the table's ids are text.
        selected: (rows,) bool; all false where the table has no such column or holds a null.
        x: (rows, features) float32, missing values replaced.
        starts: (decisions,) int64, the first row of each decision.
        weight: (decisions,) float32, 0 or more, 0 where it is unknown; None where the table has no `_weight`.
        alternative: (rows,) int64, what each choice is: the surrogate of its label; None without `_alternative`.
        offset: (rows,) float32, what training adds to the utility; None without `_sampling_log_probability`.
    """

    individual: Int64
    decision: Int64
    choice: Int64
    selected: Bool
    x: Float32
    starts: Int64
    weight: Float32 | None = None
    alternative: Int64 | None = None
    offset: Float32 | None = None

    def __len__(self) -> int:
        return len(self.choice)

    @property
    def decisions(self) -> int:
        """Number of decisions."""
        return len(self.starts)

    @property
    def counts(self) -> Int64:
        """(decisions,) number of choices that each decision offers."""
        return np.diff(np.append(self.starts, len(self)))

    @property
    def optional(self) -> tuple[str, ...]:
        """Which reserved columns there are of those that a table need not have."""
        held = {WEIGHT: self.weight, ALTERNATIVE: self.alternative, OFFSET: self.offset}
        return tuple(name for name, values in held.items() if values is not None)

    @property
    def weights(self) -> Float64:
        """(decisions,) the weight of each decision, 1 where the table has no `_weight`."""
        return np.ones(self.decisions) if self.weight is None else self.weight.astype(np.float64)

    @property
    def first_decisions(self) -> Int64:
        """(individuals,) the first decision of each individual."""
        individual = self.individual[self.starts]
        return decision_starts(individual, individual)

    @property
    def individuals(self) -> Int64:
        """(individuals,) sorted ids."""
        return np.unique(self.individual)


def hash64(values: Int64, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Return (n,) uniform 64-bit hashes of (n,) integers, different for every seed."""
    offset = (0x9E3779B97F4A7C15 * (seed + 1)) % 2**64
    z = values.astype(np.int64).view(np.uint64) + np.uint64(offset)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sort_keys(individual: Int64, decision: Int64, choice: Int64) -> tuple[Int64 | None, list[Int64]]:
    """Sort rows by individual, decision and choice.

    Returns:
        (rows,) the order, or None where the rows are in it already; and the three keys in it.

    >>> sort_keys(np.array([2, 1, 1]), np.array([0, 0, 0]), np.array([5, 7, 6]))
    (array([2, 1, 0]), [array([1, 1, 2]), array([0, 0, 0]), array([6, 7, 5])])
    """
    keys = [individual, decision, choice]
    before = np.zeros(max(len(choice) - 1, 0), np.bool_)
    for key in reversed(keys):  # the first decides, so it comes last
        before = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & before)
    tied = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    if (before | tied).all():
        return None, keys
    packed = _sort_packed([*keys, np.arange(len(choice))])
    if packed is not None:
        return packed[-1], packed[:-1]
    order = np.lexsort(keys[::-1])
    return order, [key[order] for key in keys]


def decision_starts(individual: Int64, decision: Int64) -> Int64:
    """Return (decisions,) the first row of each decision of sorted rows.

    >>> decision_starts(np.array([1, 1, 2]), np.array([7, 7, 7]))
    array([0, 2])
    """
    if not len(individual):
        return np.empty(0, np.int64)
    new = (individual[1:] != individual[:-1]) | (decision[1:] != decision[:-1])
    return np.flatnonzero(np.append(True, new)).astype(np.int64)


def flag_values(table: pa.Table | pa.RecordBatch, name: str) -> Bool:
    """Return (rows,) values of a flag; null counts as false."""
    column = table.column(name)
    return np.asarray(pc.fill_null(column, False) if column.null_count else column)


def feature_matrix(
    table: pa.Table | pa.RecordBatch, features: Sequence[str], missing_values_map: Mapping[str, float]
) -> Float32:
    """Return (rows, features) float32 values; a null is NaN, and NaN becomes the feature's replacement if there is one.

    A number beyond float32 becomes infinite, which the contract refuses.

    >>> feature_matrix(pa.table({"size": [1.5, None], "age": [None, 30]}), ["size", "age"], {"size": -1.0})
    array([[ 1.5,  nan],
           [-1. , 30. ]], dtype=float32)
    """
    x = np.empty((table.num_rows, len(features)), np.float32)
    for j, name in enumerate(features):
        replacement, start = missing_values_map.get(name), 0
        for chunk in _chunks(table, name):
            values = _floats(chunk)
            if replacement is not None and (missing := np.isnan(values)).any():
                values = np.where(missing, replacement, values)
            with np.errstate(over="ignore"):
                x[start : start + len(chunk), j] = values
            start += len(chunk)
    return x


def numbers(table: pa.Table | pa.RecordBatch, name: str) -> Float64:
    """Return (rows,) float64 values of a column of numbers; a null is NaN."""
    return np.concatenate([np.empty(0), *map(_floats, _chunks(table, name))])


def take_rows(rows: Rows, kept: Bool) -> Rows:
    """Return some rows of decisions that all keep at least one."""
    starts = np.append(0, np.cumsum(kept))[rows.starts]
    return _chosen(rows, np.flatnonzero(kept), slice(None), starts)


def take_decisions(rows: Rows, decisions: Int64) -> Rows:
    """Return some decisions in the order given; their positions are (decisions,)."""
    lengths = rows.counts[decisions]
    return _chosen(rows, row_positions(rows, decisions), decisions, np.cumsum(lengths) - lengths)


def row_positions(rows: Rows, decisions: Int64) -> Int64:
    """Return (rows,) the positions of the rows of some decisions, one after the other in the order given."""
    lengths = rows.counts[decisions]
    starts = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(rows.starts[decisions] - starts, lengths))


def slice_decisions(rows: Rows, first: int, last: int) -> Rows:
    """Return the decisions from `first` to before `last`, without a copy of their values."""
    bounds = np.append(rows.starts, len(rows))
    start, end = bounds[first], bounds[last]
    return _chosen(rows, slice(start, end), slice(first, last), rows.starts[first:last] - start)


def join_rows(first: Rows, second: Rows) -> Rows:
    """Return the decisions of one after those of the other; both have the same columns."""
    pairs = {name: (value, getattr(second, name)) for name, value in vars(first).items() if value is not None}
    pairs["starts"] = (first.starts, second.starts + len(first))
    return Rows(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def _chosen(rows: Rows, kept: Int64 | slice, decisions: Int64 | slice, starts: Int64) -> Rows:
    return Rows(
        individual=rows.individual[kept],
        decision=rows.decision[kept],
        choice=rows.choice[kept],
        selected=rows.selected[kept],
        x=rows.x[kept],
        starts=starts,
        weight=None if rows.weight is None else rows.weight[decisions],
        alternative=None if rows.alternative is None else rows.alternative[kept],
        offset=None if rows.offset is None else rows.offset[kept],
    )


def _chunks(table: pa.Table | pa.RecordBatch, name: str) -> list[pa.Array]:
    column = table.column(name)
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _floats(column: pa.Array) -> npt.NDArray[Any]:
    """Return (rows,) float32 or float64 values; null is NaN."""
    if column.type not in (pa.float32(), pa.float64()):
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _sort_packed(keys: list[Int64]) -> list[Int64] | None:
    """Sort rows by keys that fit into one integer of 63 bits; None where they do not.

    That takes a fifth of the time of sorting by one key after the other, and sorted keys are read off the integers faster
    than they are gathered (2 million shuffled rows).
    """
    lowest = [int(key.min()) for key in keys]
    bits = [(int(key.max()) - low).bit_length() for key, low in zip(keys, lowest, strict=True)]
    if sum(bits) > 63:
        return None
    packed = np.zeros(len(keys[0]), np.int64)
    for key, low, width in zip(keys, lowest, bits, strict=True):
        packed = (packed << width) | (key - low)
    packed.sort()
    unpacked = []
    for low, width in reversed(list(zip(lowest, bits, strict=True))):
        unpacked.append((packed & ((1 << width) - 1)) + low)
        packed >>= width
    return unpacked[::-1]
