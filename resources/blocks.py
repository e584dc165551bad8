"""Blocks: the rows of a step's shards, a bounded number of whole individuals at a time, whatever the order of the table.

Rows of a table whose row groups follow each other by individual are complete as soon as the next row group begins. Rows of
any other table are held, and what is more than may be held is written to a temporary folder by ranges of individuals first.
Either way the blocks follow each other by individual.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from mimic_core.errors import StorageError, TableError
from mimic_core.identifiers import surrogates
from mimic_core.rows import Int64, flag_values
from mimic_core.shards import Part, RowGroup, complete_below, most_waiting
from mimic_core.sources import INDIVIDUAL, TRAIN

BYTES_HELD = 256 * 2**20  # of rows that wait for others of their individuals
FEWEST_ROWS = 50_000  # of a block, unless it is the last; smaller ones cost more than they save
MOST_FILES = 300  # that are open at once
SAMPLE = 1_000_000  # ids from which the ranges of temporary files are chosen


def holds_all(part: Part, rows: int, row_bytes: float) -> bool:
    """Tell whether all rows that wait at once may be held.

    Args:
        rows: of the table.
        row_bytes: about how long one is in memory.
    """
    return _waiting(part, rows) * row_bytes <= BYTES_HELD


def held_blocks(part: Part, groups: Iterable[Iterable[pa.RecordBatch]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield blocks of rows that wait in memory for others of their individuals.

    Args:
        groups: the rows of each row group of the part in turn, or all rows at once.
    """
    waiting: list[pa.RecordBatch] = []
    if part.row_groups is None:
        waiting = [batch for batches in groups for batch in _of_part(batches, part)]
    else:
        read: list[RowGroup] = []  # since the last block
        for group, limit, batches in zip(part.row_groups, complete_below(part.row_groups), groups, strict=True):
            waiting += _of_part(_within_bounds(batches, group), part)
            read.append(group)
            if limit is None or sum(one.rows for one in read if one.highest is None or one.highest <= limit) < FEWEST_ROWS:
                continue
            complete, waiting = _split(waiting, limit)
            if complete:
                read.clear()
                yield pa.Table.from_batches(complete, schema)
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def spilled_blocks(
    part: Part,
    ids: Iterable[pa.RecordBatch],
    rows: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    row_bytes: float,
    on_block: Callable[[int], None] = lambda _: None,
) -> Iterator[pa.Table]:
    """Yield blocks of rows that are written to temporary files first, by ranges of individuals.

    Args:
        ids: the ids and flags of all rows, from which the ranges are chosen.
        rows: all rows.
        on_block: called with the number of rows so far, after each block is done with.

    Raises:
        StorageError: they could not be written.
    """
    cuts = _cuts(ids, part, row_bytes)
    with _explaining():
        temporary = tempfile.TemporaryDirectory(prefix="mimic-")
    done = 0
    with temporary as folder:
        paths = [Path(folder) / f"{number:05d}.arrow" for number in range(len(cuts) + 1)]
        _spill(_of_part(rows, part), cuts, paths, schema)
        for path in paths:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
            if len(table):
                yield table
                done += len(table)
                on_block(done)
            del table
            path.unlink()


def counted(
    groups: Iterable[Iterable[pa.RecordBatch]], on_rows: Callable[[int], None]
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Pass row groups on and tell, after each batch is taken, how many rows there were so far."""
    rows = 0

    def taken(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            on_rows(rows)
            yield batch

    yield from map(taken, groups)


def row_bytes(schema: pa.Schema, rows: Iterable[pa.RecordBatch] = ()) -> float:
    """Return about how many bytes a row takes in memory; where texts have any length, the first of some rows tell."""
    if all(pa.types.is_primitive(field.type) for field in schema):
        return float(sum(field.type.bit_width for field in schema)) / 8
    first = next(iter(rows), None)
    return float(first.nbytes) / first.num_rows if first is not None and first.num_rows else 0.0


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "no temporary folder"
        raise StorageError(
            f"{folder}: rows of a table in no order, more than fit into memory, could not be written: "
            f"{error.strerror or error}; give TMPDIR a folder with more room, or the config more partitions, and build again"
        ) from error


def _within_bounds(batches: Iterable[pa.RecordBatch], group: RowGroup) -> Iterator[pa.RecordBatch]:
    """Pass on the rows of a row group, whose individuals must be those that its file states."""
    for batch in batches:
        if group.lowest is not None and group.highest is not None and batch.num_rows:
            individual = surrogates(batch.column(INDIVIDUAL))
            lowest, highest = int(individual.min()), int(individual.max())
            if lowest < group.lowest or highest > group.highest:
                raise TableError(
                    f"{group.file}: states that its row group {group.index} holds _individual {group.lowest} to "
                    f"{group.highest}, it holds {lowest} to {highest}; write the file anew"
                )
        yield batch


def _waiting(part: Part, rows: int) -> float:
    if part.row_groups is None:
        return rows * part.share
    return most_waiting(part.row_groups) * part.share


def _of_part(batches: Iterable[pa.RecordBatch], part: Part) -> Iterator[pa.RecordBatch]:
    """Keep the rows of a part; a null `_train` counts as false and a null `_individual` as 0, so every row has one shard."""
    for batch in batches:
        individual = surrogates(batch.column(INDIVIDUAL))
        absent = np.zeros(batch.num_rows, np.bool_)
        train = flag_values(batch, TRAIN) if TRAIN in batch.schema.names else absent
        mine = part.holds(individual, train)
        if mine.all():
            yield batch
        elif mine.any():
            yield batch.filter(pa.array(mine))


def _split(batches: Sequence[pa.RecordBatch], limit: int) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Part rows by whether their individual is below a limit."""
    below: list[pa.RecordBatch] = []
    others: list[pa.RecordBatch] = []
    for batch in batches:
        complete = surrogates(batch.column(INDIVIDUAL)) < limit
        number = int(complete.sum())
        if complete[:number].all():  # in order, so nothing is copied
            pieces = batch.slice(0, number), batch.slice(number)
        else:
            pieces = batch.filter(pa.array(complete)), batch.filter(pa.array(~complete))
        for piece, kept in zip(pieces, (below, others), strict=True):
            if piece.num_rows:
                kept.append(piece)
    return below, others


def _cuts(ids: Iterable[pa.RecordBatch], part: Part, row_bytes: float) -> Int64:
    """Return (ranges - 1,) individuals that begin ranges of about as many rows each, after the first."""
    found, rows, every = [np.empty(0, np.int64)], 0, 1
    for batch in _of_part(ids, part):
        found.append(surrogates(batch.column(INDIVIDUAL))[::every])
        rows += batch.num_rows
        if sum(map(len, found)) > 2 * SAMPLE:
            found, every = [np.concatenate(found)[::2]], every * 2
    # while a block is read, its user still holds the one before
    ranges = min(int(np.ceil(2 * rows * row_bytes / BYTES_HELD)), MOST_FILES)
    ordered = np.sort(np.concatenate(found))
    return np.unique(ordered[[len(ordered) * number // ranges for number in range(1, ranges)]])


def _spill(rows: Iterable[pa.RecordBatch], cuts: Int64, paths: Sequence[Path], schema: pa.Schema) -> None:
    """Write rows to files by ranges of individuals; after an error the files are left as they are, their folder goes."""
    with _explaining():
        files = [pa.ipc.new_file(str(path), schema) for path in paths]
    for batch in rows:
        with _explaining():
            _write(batch, cuts, files)
    with _explaining():
        for file in files:
            file.close()


def _write(batch: pa.RecordBatch, cuts: Int64, files: Sequence[pa.ipc.RecordBatchFileWriter]) -> None:
    number = np.searchsorted(cuts, surrogates(batch.column(INDIVIDUAL)), side="right")
    order = np.argsort(number, kind="stable")
    ordered, ends = batch.take(pa.array(order)), np.cumsum(np.bincount(number, minlength=len(files)))
    for file, start, end in zip(files, [0, *ends], ends, strict=False):
        if end > start:
            file.write_batch(ordered.slice(start, end - start))
