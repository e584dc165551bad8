"""Splits: the training or the test decisions of a dataset's version folder, as flat rows or as a `tf.data.Dataset`.

Every file is verified against the dataset's schema before anything of it is returned.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimic_core.errors import CorruptFileError, NotFoundError, SpecError, did_you_mean
from mimic_core.manifests import unseal, verify
from mimic_core.records import decode, layout
from mimic_core.sources import SPLITS, Rows, decision_starts

if TYPE_CHECKING:
    import tensorflow as tf


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
    schema = read_schema(folder)
    chosen = feature_columns(schema, features)
    shape = layout(schema["max_choices"], len(schema["features"]))
    parts = [decode(_verified(folder, file), shape, str(folder / file["path"])) for file in _files(schema, split)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in shape.fields}
    order = np.lexsort((arrays["decision"], arrays["individual"]))
    arrays = {name: values[order] for name, values in arrays.items()}
    counts = arrays["n_choices"]
    real = np.arange(schema["max_choices"]) < counts[:, None]  # (decisions, max_choices)
    individual, decision = (np.repeat(arrays[name], counts) for name in ("individual", "decision"))
    return Rows(
        individual=individual,
        decision=decision,
        choice=arrays["choices"][real],
        selected=(np.arange(schema["max_choices"]) == arrays["selected"][:, None])[real],
        x=np.ascontiguousarray(arrays["x"][real][:, chosen]),
        starts=decision_starts(individual, decision),
    )


def read_dataset(
    folder: Path, split: str, *, features: list[str] | None = None, batch_size: int = 1024
) -> "tf.data.Dataset":
    """Open a split of a dataset as a `tf.data.Dataset` of dense batches; checksums are verified first.

    Args:
        folder: a dataset's version folder, with `schema.json` in it.
        split: "train" or "test".
        features: names to read, in any order; None reads all.
        batch_size: decisions per batch.

    Returns:
        Batches with `x` (decisions, max_choices, features) float32, `mask` (decisions, max_choices) bool that is true for
        the choices really offered, and the other keys of the schema. Padding must not enter a softmax: use the mask.

    Raises:
        NotFoundError: there is no dataset in this folder.
        SpecError: the dataset has no such feature.
        CorruptFileError: a file is damaged.
    """
    import tensorflow as tf

    schema = read_schema(folder)
    chosen = feature_columns(schema, features)
    files = _files(schema, split)
    for file in files:
        _verified(folder, file)
    spec = {name: tf.io.FixedLenFeature(field["shape"], field["dtype"]) for name, field in schema["fields"].items()}

    def parse(records: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        batch = tf.io.parse_example(records, spec)
        batch["x"] = tf.gather(batch["x"], chosen, axis=-1)
        batch["mask"] = tf.sequence_mask(batch["n_choices"], schema["max_choices"])
        return dict(batch)

    records = tf.data.TFRecordDataset([str(folder / file["path"]) for file in files])
    return records.batch(batch_size).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def read_schema(folder: Path) -> dict[str, Any]:
    """Read and verify the `schema.json` of a dataset's version folder."""
    path = folder / "schema.json"
    if not path.is_file():
        raise NotFoundError(f"{folder}: there is no dataset here (no schema.json)")
    return unseal(path.read_bytes(), str(path))


def feature_columns(schema: dict[str, Any], features: list[str] | None) -> list[int]:
    """Return the positions of named features in a dataset's `x`.

    Raises:
        SpecError: the dataset has no such feature.
    """
    have = schema["features"]
    missing = [name for name in features or [] if name not in have]
    if missing:
        listed = ", ".join(f"{name!r}{did_you_mean(name, have)}" for name in missing)
        raise SpecError(f"features: the dataset has no {listed}; its features are {', '.join(have)}")
    return [have.index(name) for name in (have if features is None else features)]


def _files(schema: dict[str, Any], split: str) -> list[dict[str, Any]]:
    if split not in SPLITS:
        raise SpecError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    return [file for file in schema["files"] if file["split"] == split]


def _verified(folder: Path, file: dict[str, Any]) -> bytes:
    path = folder / file["path"]
    if not path.is_file():
        raise CorruptFileError(f"{path}: damaged: the dataset's schema names this file and it is gone; build it again")
    return verify(path.read_bytes(), file, str(path))
