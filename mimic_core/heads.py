"""Heads: the first decisions of a dataset as a table, for people who want to see what is in it."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa

from mimic_core.records import decode, layout
from mimic_core.sources import ALTERNATIVE, CHOICE, DECISION, INDIVIDUAL, KEYS, OFFSET, SELECTED, WEIGHT
from mimic_core.splits import alternative_labels, optional_columns, read_schema


def first_rows(folder: Path, rows: int, most_features: int) -> pa.Table:
    """Read the first rows of the first file of a dataset that has any, with the ids and labels of its table.

    Nothing else is read, so no checksum is verified.

    Args:
        folder: a dataset's version folder, with `schema.json` in it.
        most_features: how many of the features to return, the first ones.
    """
    schema = read_schema(folder)
    shape = layout(schema["max_choices"], len(schema["features"]), optional_columns(schema))
    file = next(file for file in schema["files"] if file["decisions"])
    path = folder / file["path"]
    with gzip.open(path) if schema["compression"] else path.open("rb") as handle:
        found = decode(handle.read(min(rows, file["decisions"]) * shape.record_bytes), shape, str(path))
    counts, choices = found["n_choices"], np.arange(schema["max_choices"])
    real = choices < counts[:, None]  # (decisions, max_choices)
    columns = {
        INDIVIDUAL: np.repeat(found["individual"], counts),
        DECISION: np.repeat(found["decision"], counts),
        CHOICE: found["choices"][real],
        SELECTED: (choices == found["selected"][:, None])[real],
    }
    if "weight" in found:
        columns[WEIGHT] = np.repeat(found["weight"], counts)
    if "alternatives" in found:
        labels = alternative_labels(schema)
        columns[ALTERNATIVE] = np.array([labels[number] for number in found["alternatives"][real].tolist()])
    if "sampling_log_probability" in found:
        columns[OFFSET] = found["sampling_log_probability"][real]
    x = found["x"][real]
    columns |= {name: x[:, place] for place, name in enumerate(schema["features"][:most_features])}
    head = pa.table({name: values[:rows] for name, values in columns.items()})
    ids = [folder / entry["path"] for entry in schema["id_tables"] if are_ids_of(entry["path"], file["path"])]
    return _with_texts(head, ids[0]) if ids else head


def are_ids_of(ids: str, path: str) -> bool:
    """Tell whether an id table of a dataset is that of one of its files."""
    split, name = path.split("/")
    return Path(ids).stem == f"{split}-{name.split('.')[0]}"


def _with_texts(head: pa.Table, ids: Path) -> pa.Table:
    """Replace surrogates by the text ids that an id table has for them."""
    from pyarrow import dataset  # which imports pandas

    wanted = np.unique(np.concatenate([head[name].to_numpy() for name in KEYS]))
    # a shard may have millions of ids, which are gone through piece by piece
    found = dataset.dataset(ids).to_table(filter=dataset.field("surrogate").isin(wanted))
    texts = {(row["column"], row["surrogate"]): row["id"] for row in found.to_pylist()}
    for place, name in enumerate(KEYS):
        values = [texts.get((name, value), value) for value in head[name].to_pylist()]
        head = head.set_column(place, name, pa.array(list(map(str, values))))
    return head
