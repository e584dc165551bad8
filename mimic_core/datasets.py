"""Datasets: from blocks of a table to the records of its shards, and the schema that describes the whole.

The format is described in docs/formats.md and is read back by `mimic_core.splits`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core import contract, records, sampling
from mimic_core.errors import SpecError, TableError
from mimic_core.identifiers import SCHEMA, has_text_ids, id_table, join_id_tables
from mimic_core.rows import Rows, slice_decisions, take_decisions, take_rows
from mimic_core.shards import Part, Shard
from mimic_core.sources import ALTERNATIVE, KEYS
from mimic_core.specs import DatasetSpec

CODE_VERSION = "1"  # bump by hand when the same spec and table give other records

MOST_ALTERNATIVES = 10_000


def rules(spec: DatasetSpec) -> contract.Rules:
    """Return what a dataset asks of its table."""
    return contract.Rules(
        features=spec.features,
        missing_values_map=spec.missing_values_map,
        max_choices=None if spec.overflow == "sample" else spec.max_choices,
        where=spec.conditions,
    )


def within_max_choices(block: contract.Block, spec: DatasetSpec) -> contract.Block:
    """Sample the choices of decisions that offer more than `max_choices`, where the spec asks for it.

    Each keeps its selected choice and a uniform sample of the others, in their order. The outcome stays that of all rows.
    """
    # a `_sampling_log_probability` of the table keeps its values: each set of choices that can be kept is equally likely
    # whichever of them was selected, so that the same constant would be added for all of them, which cancels
    if spec.overflow != "sample" or not (block.rows.counts > spec.max_choices).any():
        return block
    kept = sampling.within(block.rows, spec.max_choices, spec.seed)
    rows = take_rows(block.rows, kept)
    return replace(block, order=block.order[kept], in_order=False, rows=rows, train=block.train[kept])


def sampled_note(decisions: int, spec: DatasetSpec) -> list[str]:
    """Say how many decisions had their choices sampled, and what that means for a reader; nothing where none had."""
    if not decisions:
        return []
    return [
        f"of {decisions:,} decisions with more than max_choices = {spec.max_choices} choices the selected one and a uniform "
        "sample of the others are kept, in the test split too: numbers of that split are on sampled choice sets"
    ]


def by_shard(block: contract.Block, part: Part) -> Iterator[tuple[int, Rows]]:
    """Divide the decisions of a block, which keeps the contract, over the shards of a part.

    Yields:
        Where a shard that has some stands in `part.shards`, and its decisions in the order of individual and decision.
    """
    first = block.rows.starts
    places = part.places(block.rows.individual[first], block.train[first])  # (decisions,)
    order = np.argsort(places, kind="stable")
    ordered = take_decisions(block.rows, order)
    ends = np.cumsum(np.bincount(places, minlength=len(part.shards)))
    for place, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        if end > start:
            yield place, slice_decisions(ordered, start, end)


def ids_by_shard(block: contract.Block, part: Part) -> Iterator[tuple[int, pa.Table]]:
    """Yield the text ids of the rows of each shard as `id_table` does; nothing where ids are numbers."""
    if not has_text_ids(block.table.schema, KEYS):
        return
    places, ids = part.places(block.rows.individual, block.train), block.columns(KEYS)
    for place in np.unique(places).tolist():
        yield place, id_table(ids.filter(pa.array(places == place)), KEYS)


def shard_path(shard: Shard, compression: str | None = None) -> str:
    """Return a shard's path within the dataset's version folder.

    >>> shard_path(Shard(split="train", index=0, count=2))
    'train/00000-of-00002.tfrecord'
    >>> shard_path(Shard(split="train", index=0, count=2), "GZIP")
    'train/00000-of-00002.tfrecord.gz'
    """
    return f"{shard.split}/{shard.index:05d}-of-{shard.count:05d}.tfrecord{'.gz' if compression else ''}"


def ids_path(shard: Shard) -> str:
    """Return the path of a shard's id table within the dataset's version folder.

    >>> ids_path(Shard(split="train", index=0, count=2))
    'ids/train-00000-of-00002.parquet'
    """
    return f"ids/{shard.split}-{shard.index:05d}-of-{shard.count:05d}.parquet"


def labels(block: contract.Block) -> pa.Table:
    """Return what each number in `alternatives` stands for, as `id_table` does; no rows without `_alternative`.

    Only rows that are used count.
    """
    if ALTERNATIVE not in block.table.column_names:
        return id_table(block.table, ())
    found = pc.unique(block.columns([ALTERNATIVE])[ALTERNATIVE])
    if pa.types.is_string(found.type):
        return id_table(pa.table({ALTERNATIVE: found}), [ALTERNATIVE])
    return pa.table([pa.repeat(ALTERNATIVE, len(found)), found, found.cast(pa.string())], schema=SCHEMA)


def join_labels(tables: Sequence[pa.Table], source: str) -> pa.Table:
    """Return the labels of blocks as those of one, each once.

    Raises:
        TableError: there are too many, or two have the same number.
    """
    joined = join_id_tables(tables)
    if len(joined) > MOST_ALTERNATIVES:
        raise TableError(
            f"table {source}: {ALTERNATIVE!r} has {len(joined):,} different labels, expected at most {MOST_ALTERNATIVES:,}: "
            "it says what a choice is, such as 'car' or 'train'; leave the column out if each choice is one of its own"
        )
    return joined


def listed_labels(labels: pa.Table) -> list[dict[str, Any]]:
    """Return labels as `schema.json` lists them, in their order."""
    pairs = sorted(zip(labels["id"].to_pylist(), labels["surrogate"].to_pylist(), strict=True))
    return [{"alternative": number, "label": label} for label, number in pairs]


def schema_document(
    spec: DatasetSpec,
    files: Sequence[dict[str, Any]],
    id_tables: Sequence[dict[str, Any]],
    optional: Sequence[str] = (),
    alternatives: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return what `schema.json` says: everything that a reader of the files needs.

    Args:
        spec: the dataset.
        files: manifest entries of the shards' files: path, split, decisions, bytes, sha256.
        id_tables: manifest entries of their id tables; none where the table's ids are numbers.
        optional: which reserved columns the table has of those that it need not have.
        alternatives: the labels as `listed_labels` returns them.
    """
    fields = records.shapes(spec.max_choices, len(spec.features), optional)
    return {
        "dataset": spec.key,
        "features": list(spec.features),
        "max_choices": spec.max_choices,
        "missing_values_map": dict(spec.missing_values_map),
        "framing": f"TFRecord, {spec.compression or 'uncompressed'}, one tf.train.Example per decision",
        "compression": spec.compression,
        "padding": "the first n_choices entries along the axis of choices are real, the others are 0",
        "record_bytes": records.layout(spec.max_choices, len(spec.features), optional).record_bytes,
        "fields": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in fields.items()},
        "files": list(files),
        "id_tables": list(id_tables),
        **({"alternatives": list(alternatives)} if ALTERNATIVE in optional else {}),
    }


def require_trainable(individuals: int, rows: int, source: str) -> None:
    """Refuse a dataset without training individuals.

    Raises:
        TableError: there is nothing to train on.
    """
    if not individuals:
        raise TableError(
            f"table {source}: the training split is empty: none of {rows:,} rows has _train = true, so there is nothing "
            "to train on; set _train for some individuals and build again"
        )


def require_fits(spec_max_choices: int, largest_choice_set: int, dataset: str) -> None:
    """Refuse an experiment whose `max_choices` is less than its dataset needs.

    Raises:
        SpecError: a decision of the dataset offers more choices.
    """
    if largest_choice_set > spec_max_choices:
        raise SpecError(
            f"max_choices: {spec_max_choices} is less than the {largest_choice_set} choices of the largest decision in "
            f"dataset {dataset}; give max_choices {largest_choice_set} or more"
        )
