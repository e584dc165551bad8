"""Splits: the training or the test decisions of a dataset's version folder, as flat rows or as a `tf.data.Dataset`.

Every file is verified against the dataset's schema before anything of it is returned. Files are read and decoded in blocks
of decisions, so that never more than a block of a file's bytes is held beside the decoded arrays.
"""

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mimic_core.errors import CorruptFileError, NotFoundError, SpecError, did_you_mean
from mimic_core.manifests import unseal, verify_file
from mimic_core.record_access import access_records
from mimic_core.records import KEYS_OF_OPTIONAL, Bytes, Layout, frames, layout, values
from mimic_core.rows import Bool, Float32, Int64, Rows, join_rows, slice_decisions, sort_keys
from mimic_core.sources import SPLITS
from mimic_core.streams import Stream, in_memory

if TYPE_CHECKING:
    import tensorflow as tf

BLOCK_BYTES = 2**21  # read at a time, whole records; four times as many took as long, a quarter of it longer
MOST_IN_MEMORY = 2**28  # bytes of a split that is gone through many times; of a larger one, little is in memory at a time
OF_DECISIONS = ("individual", "decision", "n_choices", "selected", "weight")  # keys of one value per decision
OF_ROWS = ("choices", "x", "alternatives", "sampling_log_probability")  # those of one per choice; some need not be there

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The verified files of a split, and what is to be read of them.

    Attributes:
        compressed: whether the files are gzip files.
        columns: positions of the features to read, in the order asked for.
    """

    paths: list[Path]
    compressed: bool
    layout: Layout
    columns: list[int]

    @property
    def max_choices(self) -> int:
        """Choices per record, padding included."""
        return self.layout.fields["x"].shape[0]

    @property
    def nothing(self) -> Bytes:
        """A block without decisions."""
        return frames(b"", self.layout, "")

    def chosen(self, x: Float32) -> Float32:
        """Return the columns to read of (..., features) values."""
        every = self.columns == list(range(x.shape[-1]))
        return x if every else np.take(x, np.array(self.columns, np.intp), axis=-1)

    def blocks(self) -> Iterator[Bytes]:
        """Read the records block by block, (decisions, record_bytes) each; the first is empty, as all of a split may be.

        Raises:
            CorruptFileError: a file cannot be decompressed, or is no whole number of records.
        """
        yield self.nothing
        size = max(BLOCK_BYTES // self.layout.record_bytes, 1) * self.layout.record_bytes
        for path in self.paths:
            try:
                with gzip.open(path) if self.compressed else path.open("rb") as handle:
                    while data := handle.read(size):
                        yield frames(data, self.layout, str(path))
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise CorruptFileError(f"{path}: damaged: it is no whole gzip file: {error}; build it again") from error


def read_rows(folder: Path, split: str, features: list[str] | None = None) -> Rows:
    """Read a split of a dataset into memory as flat sorted rows, whatever its shards; checksums are verified.

    Args:
        folder: a dataset's version folder, with `schema.json` in it.
        features: names to read, in any order; None reads all.

    Returns:
        The rows really offered, without padding.

    Raises:
        NotFoundError: there is no dataset in this folder.
        SpecError: the dataset has no such feature.
        CorruptFileError: a file is damaged.
    """
    source = open_split(folder, split, features)
    parts = [_flat(records, source) for records in source.blocks()]
    keys = {name: np.concatenate([part[name] for part in parts]) for name in OF_DECISIONS if name in parts[0]}
    # each shard is sorted, but one after the other they are not where an individual's shard is given by a hash
    order, (individual, decision, _) = sort_keys(
        keys["individual"], keys["decision"], np.zeros(len(keys["decision"]), np.int64)
    )
    read = keys["n_choices"]
    if order is not None:
        keys = {name: values[order] for name, values in keys.items()} | {"individual": individual, "decision": decision}
    starts: Int64 = np.cumsum(keys["n_choices"]) - keys["n_choices"]
    places, rows = None if order is None else _places(read, starts, order), int(read.sum())
    held = {name: np.empty((rows, *part.shape[1:]), part.dtype) for name, part in parts[0].items() if name in OF_ROWS}
    first = 0
    for part in parts:
        last = first + len(part["choices"])
        at = slice(first, last) if places is None else places[first:last]
        for name, array in held.items():
            array[at] = part.pop(name)  # popped: a part goes as soon as it is placed
        first = last
    return _rows(keys | held, starts)


def read_stream(
    folder: Path,
    split: str,
    features: list[str] | None = None,
    most_bytes: float = MOST_IN_MEMORY,
    on_bytes: Callable[[int, int], None] = lambda *_: None,
    wait: Callable[[Path], None] = lambda _: None,
) -> Stream:
    """Open a split of a dataset to go through its decisions any number of times; checksums are verified now.

    It is read into memory once if its arrays take at most `most_bytes`, in the order of `read_rows`; else every pass reads
    the files anew, a block at a time, in their order, and `access` copies decisions out of them.

    Args:
        on_bytes, wait: as `open_split` takes them.

    Raises:
        NotFoundError, SpecError, CorruptFileError: as `read_rows`.
    """
    source = open_split(folder, split, features, on_bytes, wait)
    schema = read_schema(folder)
    decisions = sum(file["decisions"] for file in schema["files"] if file["split"] == split)
    if decisions * source.max_choices * (4 * len(source.columns) + 20) <= most_bytes:
        return in_memory(read_rows(folder, split, features))
    return Stream(read=lambda: _whole_individuals(source), decisions=decisions, access=lambda: access_records(source))


def read_dataset(
    folder: Path,
    split: str,
    *,
    features: list[str] | None = None,
    batch_size: int = 1024,
    shuffle: bool = False,
    seed: int = 0,
) -> "tf.data.Dataset":
    """Open a split of a dataset as a `tf.data.Dataset` of dense batches; checksums are verified first.

    One iteration of it is one epoch. Without `shuffle` every epoch reads the files, in their order, a block at a time. With
    `shuffle` the split is read into memory once, now, and every epoch has each decision exactly once, in an order of its own
    over the whole split: for the n-th iteration that begins, from 0, the permutation of
    `numpy.random.default_rng([seed, n])`. So two datasets of the same seed, in whatever process, give the same epochs.
    What is made of it by `repeat` goes from epoch to epoch too.

    Args:
        folder: a dataset's version folder, with `schema.json` in it.
        split: "train" or "test".
        features: names to read, in any order; None reads all.
        batch_size: decisions per batch; the last batch of an epoch holds what is left.
        shuffle: whether every epoch reorders the decisions.
        seed: of the orders, 0 or more.

    Returns:
        Batches with `x` (decisions, max_choices, features) float32, `mask` (decisions, max_choices) bool that is true for
        the choices really offered, and the other keys of the schema. Padding must not enter a softmax: use the mask.

    Raises:
        NotFoundError: there is no dataset in this folder.
        SpecError: the dataset has no such feature, or the seed or the batch size is too low.
        CorruptFileError: a file is damaged.
    """
    import tensorflow as tf

    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < least:
            raise SpecError(f"{name}: expected {least} or more, found {value}")
    source = open_split(folder, split, features)
    if shuffle:
        return _shuffled(source, batch_size, seed)
    blocks = tf.data.Dataset.from_generator(
        lambda: (_dense(records, source) for records in source.blocks()),
        output_signature={
            name: tf.TensorSpec([None, *array.shape[1:]], array.dtype)
            for name, array in _dense(source.nothing, source).items()
        },
    )
    return blocks.rebatch(batch_size).prefetch(tf.data.AUTOTUNE)


def open_split(
    folder: Path,
    split: str,
    features: list[str] | None = None,
    on_bytes: Callable[[int, int], None] = lambda *_: None,
    wait: Callable[[Path], None] = lambda _: None,
) -> Split:
    """Verify the files of a split, each read once in pieces.

    Args:
        on_bytes: called after each file with the bytes that are verified, and those of all files.
        wait: returns when a file is there, which may be on its way here.

    Raises:
        NotFoundError: there is no dataset in this folder.
        SpecError: there is no such split, or the dataset has no such feature.
        CorruptFileError: a file is damaged.
    """
    wait(folder / "schema.json")
    schema = read_schema(folder)
    columns = feature_columns(schema, features)
    if split not in SPLITS:
        raise SpecError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    files = {folder / file["path"]: file for file in schema["files"] if file["split"] == split}
    verified, total = 0, sum(file["bytes"] for file in files.values())
    for path, file in files.items():
        wait(path)
        if not path.is_file():
            raise CorruptFileError(f"{path}: damaged: the dataset's schema names this file and it is gone; build it again")
        verify_file(path, file)
        verified += file["bytes"]
        on_bytes(verified, total)
    return Split(
        paths=list(files),
        compressed=schema.get("compression") is not None,
        layout=layout(schema["max_choices"], len(schema["features"]), optional_columns(schema)),
        columns=columns,
    )


def read_schema(folder: Path) -> dict[str, Any]:
    """Read and verify the `schema.json` of a dataset's version folder."""
    path = folder / "schema.json"
    if not path.is_file():
        raise NotFoundError(f"{folder}: there is no dataset here (no schema.json)")
    return unseal(path.read_bytes(), str(path))


def optional_columns(schema: dict[str, Any]) -> list[str]:
    """Return which reserved columns a dataset has of those that a table need not have."""
    return [name for name, key in KEYS_OF_OPTIONAL.items() if key in schema["fields"]]


def alternative_labels(schema: dict[str, Any]) -> dict[int, str]:
    """Return what each number in `alternatives` stands for; empty for a dataset without `_alternative`."""
    return {entry["alternative"]: entry["label"] for entry in schema.get("alternatives", [])}


def feature_columns(schema: dict[str, Any], features: list[str] | None, key: str = "features") -> list[int]:
    """Return the positions of named features in a dataset's `x`.

    Args:
        key: of a spec that names them, for the message.

    Raises:
        SpecError: the dataset has no such feature.
    """
    have = schema["features"]
    missing = [name for name in features or [] if name not in have]
    if missing:
        listed = ", ".join(f"{name!r}{did_you_mean(name, have)}" for name in missing)
        raise SpecError(f"{key}: the dataset has no {listed}; its features are {', '.join(have)}")
    return [have.index(name) for name in (have if features is None else features)]


def _flat(records: Bytes, source: Split) -> Arrays:
    """Decode a block: what it has for each of its decisions, and for each of the rows really offered."""
    fields = source.layout.fields
    part = {name: values(records, fields[name]) for name in OF_DECISIONS if name in fields}
    real = _mask(part["n_choices"], source)
    part |= {name: values(records, fields[name], real) for name in OF_ROWS if name in fields}
    return part | {"x": source.chosen(part["x"])}


def _whole_individuals(source: Split) -> Iterator[Rows]:
    """Stream the decisions, an individual's never in two blocks; in each file they stand in the order of individuals."""
    for path in source.paths:
        waiting: Rows | None = None
        for records in replace(source, paths=[path]).blocks():
            if not len(records):
                continue
            part = _flat(records, source)
            rows = _rows(part, np.cumsum(part["n_choices"]) - part["n_choices"])
            rows = rows if waiting is None else join_rows(waiting, rows)
            last = int(rows.first_decisions[-1])
            if last:
                yield slice_decisions(rows, 0, last)
            waiting = slice_decisions(rows, last, rows.decisions)
        if waiting is not None:
            yield waiting


def _rows(keys: Arrays, starts: Int64) -> Rows:
    counts = keys["n_choices"]
    selected = np.zeros(len(keys["choices"]), np.bool_)
    selected[starts + keys["selected"]] = True
    return Rows(
        individual=np.repeat(keys["individual"], counts),
        decision=np.repeat(keys["decision"], counts),
        choice=keys["choices"],
        selected=selected,
        x=keys["x"],
        starts=starts,
        weight=keys.get("weight"),
        alternative=keys.get("alternatives"),
        offset=keys.get("sampling_log_probability"),
    )


def _dense(records: Bytes, source: Split) -> Arrays:
    """Decode a block as the batches of `read_dataset` have it."""
    part = {name: values(records, field) for name, field in source.layout.fields.items()}
    return part | {"x": source.chosen(part["x"]), "mask": _mask(part["n_choices"], source)}


def _mask(counts: Int64, source: Split) -> Bool:
    return np.asarray(np.arange(source.max_choices) < counts[:, None])


def _places(counts: Int64, starts: Int64, order: Int64) -> Int64:
    """Return (rows,) the row of the sorted split at which each row that was read belongs.

    Args:
        counts: (decisions,) rows of each decision that was read.
        starts: (decisions,) first row of each decision of the sorted split.
        order: (decisions,) which decision that was read comes where.
    """
    belongs = np.empty_like(starts)
    belongs[order] = starts
    return np.asarray(np.arange(counts.sum()) + np.repeat(belongs - (np.cumsum(counts) - counts), counts))


def _shuffled(source: Split, batch_size: int, seed: int) -> "tf.data.Dataset":
    import tensorflow as tf

    parts = [_dense(records, source) for records in source.blocks()]
    tensors = {name: tf.constant(np.concatenate([part.pop(name) for part in parts])) for name in list(parts[0])}
    decisions, epochs = len(tensors["mask"]), itertools.count()

    def order() -> Iterator[Int64]:
        yield np.random.default_rng([seed, next(epochs)]).permutation(decisions)

    orders = tf.data.Dataset.from_generator(order, output_signature=tf.TensorSpec([decisions], tf.int64))
    batches = orders.rebatch(batch_size).map(
        lambda chosen: {name: tf.gather(tensor, chosen) for name, tensor in tensors.items()},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return batches.prefetch(tf.data.AUTOTUNE)
