"""Datasets: from the rows of one shard to its records, and the schema that describes the whole.

The format is described in docs/formats.md and is read back by `mimic_core.splits`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mimic_core import contract, records
from mimic_core.errors import SpecError, TableError
from mimic_core.sources import Shard, sort_rows
from mimic_core.specs import DatasetSpec

CODE_VERSION = "1"  # bump by hand when the same spec and table give other records


def rules(spec: DatasetSpec) -> contract.Rules:
    """Return what a dataset asks of its table."""
    return contract.Rules(
        features=spec.features,
        missing_values_map=spec.missing_values_map,
        max_choices=spec.max_choices,
        where=spec.conditions,
    )


def encode_shard(shard: contract.CheckedShard, spec: DatasetSpec) -> Iterator[bytes]:
    """Encode a shard that keeps the contract; yields the bytes of its file in order."""
    return records.encode(sort_rows(shard.table, spec.features, spec.missing_values_map), spec.max_choices)


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


def schema_document(
    spec: DatasetSpec, files: Sequence[dict[str, Any]], id_tables: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return what `schema.json` says: everything that a reader of the files needs.

    Args:
        spec: the dataset.
        files: manifest entries of the shards' files: path, split, decisions, bytes, sha256.
        id_tables: manifest entries of their id tables; none where the table's ids are numbers.
    """
    fields = records.shapes(spec.max_choices, len(spec.features))
    return {
        "dataset": spec.key,
        "features": list(spec.features),
        "max_choices": spec.max_choices,
        "missing_values_map": dict(spec.missing_values_map),
        "framing": f"TFRecord, {spec.compression or 'uncompressed'}, one tf.train.Example per decision",
        "compression": spec.compression,
        "padding": "the first n_choices entries along the axis of choices are real, the others are 0",
        "record_bytes": records.layout(spec.max_choices, len(spec.features)).record_bytes,
        "fields": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in fields.items()},
        "files": list(files),
        "id_tables": list(id_tables),
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
