"""Source tables: the names of the reserved columns, the schema of a decision table, and rows of whole decisions.

A decision table has one row per choice offered in a decision; one row of each decision is selected.
Shards take whole individuals, so every rule about an individual or a decision can be checked within a shard.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import TableError, did_you_mean
from mimic_core.filters import Condition
from mimic_core.identifiers import surrogates

INDIVIDUAL, DECISION, CHOICE = "_individual", "_decision", "_choice"
SELECTED, TRAIN = "_selected", "_train"
KEYS = (INDIVIDUAL, DECISION, CHOICE)
FLAGS = (SELECTED, TRAIN)
SPLITS = ("train", "test")

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One part of one split: the individuals whose hash falls to `index` of `count`."""

    split: str
    index: int
    count: int

    @property
    def name(self) -> str:
        """A name that sorts and is safe everywhere, such as `train_00000`."""
        return f"{self.split}_{self.index:05d}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a shard, sorted by individual, decision and choice; decisions are adjacent.

    Attributes:
        individual, decision, choice: (rows,) int64; surrogates where the table's ids are text.
        selected: (rows,) bool; all false where the table has no such column or holds a null.
        x: (rows, features) float32, missing values replaced.
        starts: (decisions,) int64, the first row of each decision.
    """

    individual: Int64
    decision: Int64
    choice: Int64
    selected: Bool
    x: Float32
    starts: Int64

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
    def individuals(self) -> Int64:
        """(individuals,) sorted ids."""
        return np.unique(self.individual)


def shards(partitions: Mapping[str, int]) -> list[Shard]:
    """List the shards of a dataset or an inference table.

    >>> [shard.name for shard in shards({"train": 2, "test": 1})]
    ['train_00000', 'train_00001', 'test_00000']
    """
    return [Shard(split=s, index=i, count=partitions[s]) for s in SPLITS for i in range(partitions[s])]


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


def hash64(values: Int64, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Return (n,) uniform 64-bit hashes of (n,) integers, different for every seed."""
    offset = (0x9E3779B97F4A7C15 * (seed + 1)) % 2**64
    z = values.astype(np.int64).view(np.uint64) + np.uint64(offset)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def check_schema(
    schema: pa.Schema, features: Sequence[str], *, table: str, required: Sequence[str] = (*KEYS, *FLAGS)
) -> None:
    """Check that a table can be read as a decision table with these features.

    Args:
        required: reserved columns that must be there. `_selected` and `_train` are checked for their type
            wherever they exist.

    Raises:
        TableError: missing columns, ids that are neither int64 nor text, flags that are not bool, features that are not
            numeric; all of them at once.
    """
    problems = []
    for name in [*required, *features]:
        if name not in schema.names:
            problems.append(f"column {name!r} is missing{did_you_mean(name, schema.names)}")
    present = [name for name in (*KEYS, *FLAGS) if name in schema.names]
    for name in present:
        kind = schema.field(name).type
        expected = (pa.bool_(),) if name in FLAGS else (pa.int64(), pa.string())
        if kind not in expected:
            problems.append(f"column {name!r} is {kind}, expected {' or '.join(map(str, expected))}")
    for name in features:
        if name in schema.names and not _is_numeric(schema.field(name).type):
            problems.append(f"feature {name!r} is {schema.field(name).type}, expected numbers")
    if problems:
        listed = "\n  ".join(problems)
        raise TableError(
            f"table {table} is not a decision table with these features:\n  {listed}\n"
            f"  its columns are {', '.join(schema.names)}; mend the table or the config"
        )


def numeric_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that can be features: those of numbers whose names are not reserved."""
    return tuple(field.name for field in schema if not field.name.startswith("_") and _is_numeric(field.type))


def columns_to_read(schema: pa.Schema, features: Sequence[str], where: Sequence[Condition] = ()) -> pa.Schema:
    """Return the columns of a table that a build reads: keys, the flags that exist, features, and those of the filter."""
    names = [*KEYS, *(name for name in FLAGS if name in schema.names), *features, *(condition.column for condition in where)]
    return pa.schema([schema.field(name) for name in dict.fromkeys(names)])


def select_shard(batches: Iterable[pa.RecordBatch], columns: pa.Schema, shard: Shard) -> pa.Table:
    """Keep the rows of one shard of a streamed table; memory is bounded by the shard.

    A null `_train` counts as false and a null `_individual` as 0, so that every row falls to exactly one shard.
    """
    kept = [batch.filter(pa.array(_in_shard(batch, shard))) for batch in batches]
    return pa.Table.from_batches([batch for batch in kept if batch.num_rows], columns)


def in_key_order(table: pa.Table) -> pa.Table:
    """Sort rows by individual, decision and choice; keys must not be null."""
    order, _ = sort_keys(*(surrogates(table[name]) for name in KEYS))
    return table if order is None else table.take(pa.array(order))


def sort_rows(table: pa.Table, features: Sequence[str], missing_values_map: Mapping[str, float]) -> Rows:
    """Turn a shard into sorted rows of whole decisions with missing values replaced.

    Args:
        table: the rows of one shard; keys must not be null (see `mimic_core.contract`).
        features: columns of `x`, in order.
        missing_values_map: feature -> the value that replaces a null or NaN.
    """
    table = in_key_order(table)
    individual, decision, choice = (surrogates(table[name]) for name in KEYS)
    x = np.empty((len(table), len(features)), np.float32)
    for j, name in enumerate(features):
        x[:, j] = feature_values(table, name, missing_values_map.get(name))
    return Rows(
        individual=individual,
        decision=decision,
        choice=choice,
        selected=flag_values(table, SELECTED) if SELECTED in table.column_names else np.zeros(len(table), np.bool_),
        x=x,
        starts=decision_starts(individual, decision),
    )


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


def feature_values(table: pa.Table | pa.RecordBatch, name: str, replacement: float | None) -> Float32:
    """Return (rows,) float32 values of a feature; null becomes NaN, and NaN becomes `replacement` if there is one."""
    values = np.asarray(pc.cast(table.column(name), pa.float64(), safe=False))
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which the contract refuses
        result = values.astype(np.float32)
    if replacement is not None:
        result[np.isnan(result)] = replacement
    return result


def standard_columns(table: pa.Table) -> pa.Table:
    """Give an imported table the types of a decision table: ids of int64 or text, bool flags, plain strings.

    Ids: integers and decimals of any width, and whole floats (what pandas makes of integers beside a gap), become int64;
    text stays text, an empty one is null. Flags: 0 and 1, true and false, t and f, as numbers or as text of any case, become
    bool. Dictionaries are decoded.

    Raises:
        TableError: an id or a flag does not fit.
    """
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if column.type in (pa.large_string(), pa.string_view()):
            column = column.cast(pa.string())
        if field.name in KEYS:
            column = _ids(column, field.name)
        if field.name in FLAGS:
            column = _flags(column, field.name)
        table = table.set_column(index, field.name, column)
    return table


def _ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_string(kind):
        return pc.if_else(pc.equal(column, ""), None, column)
    if pa.types.is_floating(kind):
        digits = {16: 11, 32: 24, 64: 53}[kind.bit_width]  # beyond, several whole numbers are one float
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
        exact = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**digits))
        wrong = column.filter(pc.invert(exact))
        if len(wrong):
            raise TableError(
                f"column {name!r} ({kind}) holds other numbers than ids in {len(wrong):,} rows ({_examples(wrong)}); "
                f"expected whole numbers, as {kind} below 2^{digits}"
            )
    elif pa.types.is_decimal(kind):
        return _safely(
            column.cast(pa.decimal256(76, kind.scale)), pa.int64(), name
        )  # narrow ones have no exact cast to int64
    elif not pa.types.is_integer(kind):
        raise TableError(f"column {name!r} is {kind}, expected whole numbers or text as ids")
    return _safely(column, pa.int64(), name)


def _safely(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise TableError(f"column {name!r} ({column.type}) does not fit {kind}: {error}") from error


def _flags(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Turn true and false, 1 and 0, and what files and pandas make of them beside a missing value, to bool."""
    kind, allowed = column.type, pa.array([0, 1, None])
    if pa.types.is_string(kind):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        words = pc.if_else(pc.equal(words, ""), None, words)
        number = pc.if_else(pc.is_in(words, pa.array(["true", "t", "1"])), 1, 2)
        number = pc.if_else(pc.is_in(words, pa.array(["false", "f", "0"])), 0, number)
        number = pc.if_else(pc.is_null(words), None, number)
    elif pa.types.is_floating(kind):
        number = pc.if_else(pc.is_nan(column), None, column)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        number = column
    elif pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.bool_())
    else:
        raise TableError(f"column {name!r} is {kind}, expected true and false, or 1 and 0")
    number = number.cast(pa.float64(), safe=False)
    wrong = column.filter(pc.invert(pc.is_in(number, allowed.cast(pa.float64()))))
    if len(wrong):
        what = "texts than true, false, t, f, 1 and 0" if pa.types.is_string(kind) else "numbers than 0 and 1"
        raise TableError(f"column {name!r} holds other {what} in {len(wrong):,} rows ({_examples(wrong)})")
    return number.cast(pa.bool_())


def _examples(column: pa.ChunkedArray) -> str:
    return ", ".join(map(str, column.slice(0, 5).to_pylist()))


def _in_shard(batch: pa.RecordBatch, shard: Shard) -> Bool:
    mine: Bool = shard_index(surrogates(batch.column(INDIVIDUAL)), shard.count) == shard.index
    if TRAIN in batch.schema.names:
        return np.asarray(mine & (flag_values(batch, TRAIN) == (shard.split == "train")))
    return np.asarray(mine & (shard.split == "test"))


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


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    )
