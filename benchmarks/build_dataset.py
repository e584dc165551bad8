"""Building datasets beside reading, checksumming and writing the same bytes, and beside an Example per decision.

The limit reads the table's columns to Arrow batches, takes a SHA-256 and a CRC-32C of the dataset's bytes and writes them.
What makes Examples runs in a process of its own, as TensorFlow in memory slows a build by a quarter.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import workload
from reporting import Row, at_least, at_most, cpu_seconds, in_a_process, show
from stages import Home, dataset

from mimic_core.backend import import_keras

SAMPLED, DENSE_SAMPLED = 1_000, 10_000  # decisions
RESTAURANTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "restaurants100.parquet"


def limit(home: Home, table: str, columns: Sequence[str], contents: Sequence[bytes], target: Path) -> None:
    """Read what a build reads, and write what it writes with its checksums."""
    for _ in home.tables.batches(home.tables.pin(table), columns):
        pass
    for data in contents:
        hashlib.sha256(data).digest()
        google_crc32c.value(data)
        target.write_bytes(data)


def bytes_of(files: Sequence[Path]) -> list[bytes]:
    """Return the contents of files."""
    return [file.read_bytes() for file in files]


def example(x: np.ndarray, count: int, selected: int, individual: int, decision: int, choices: np.ndarray) -> bytes:
    """Serialise a decision in the usual way."""
    import tensorflow as tf

    integers = {"n_choices": [count], "selected": [selected], "individual": [individual], "decision": [decision]}
    feature = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in (integers | {"choices": choices}).items()
    }
    feature["x"] = tf.train.Feature(float_list=tf.train.FloatList(value=x.ravel()))
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def by_groups(frame: pd.DataFrame, target: Path, *, checked: bool) -> None:
    """Group by decision, fill and pad each group, and write an Example of it; `checked` keeps to the contract."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(target)) as writer:
        for (individual, decision), rows in frame.groupby(["_individual", "_decision"]):
            ordered = rows.sort_values("_choice")
            if checked:
                require_kept(ordered)
            x = np.zeros((workload.MAX_CHOICES, workload.FEATURES), np.float32)
            x[: len(rows)] = ordered[list(workload.NAMES)].fillna(0.0).to_numpy()
            choices = np.zeros(workload.MAX_CHOICES, np.int64)
            choices[: len(rows)] = ordered["_choice"]
            selected = int(np.argmax(ordered["_selected"].to_numpy()))
            writer.write(example(x, len(rows), selected, individual, decision, choices))


def require_kept(rows: pd.DataFrame) -> None:
    """Check the rules that a decision can break."""
    values = rows[list(workload.NAMES)].fillna(0.0).to_numpy()
    kept = (
        rows["_selected"].sum() == 1
        and not rows["_choice"].duplicated().any()
        and rows["_train"].nunique(dropna=False) == 1
        and not rows[["_choice", "_selected", "_train"]].isna().any(axis=None)
        and len(rows) <= workload.MAX_CHOICES
        and np.isfinite(values).all()
    )
    if not kept:
        raise ValueError(f"decision {rows[['_individual', '_decision']].iloc[0].tolist()} breaks the contract")


def dense_first(frame: pd.DataFrame, target: Path) -> None:
    """Pad all decisions in one array at once, and write an Example of each."""
    import tensorflow as tf

    frame = frame.fillna(dict.fromkeys(workload.NAMES, 0.0)).sort_values(["_individual", "_decision", "_choice"])
    number = frame.groupby(["_individual", "_decision"], sort=False).ngroup().to_numpy()
    place = frame.groupby(["_individual", "_decision"], sort=False).cumcount().to_numpy()
    counts = np.bincount(number)
    x = np.zeros((len(counts), workload.MAX_CHOICES, workload.FEATURES), np.float32)
    x[number, place] = frame[list(workload.NAMES)].to_numpy()
    choices = np.zeros((len(counts), workload.MAX_CHOICES), np.int64)
    choices[number, place] = frame["_choice"]
    selected = place[frame["_selected"].to_numpy()]
    first = np.cumsum(counts) - counts
    ids = frame[["_individual", "_decision"]].to_numpy()[first]
    with tf.io.TFRecordWriter(str(target)) as writer:
        for i in range(len(counts)):
            writer.write(example(x[i], counts[i], selected[i], ids[i, 0], ids[i, 1], choices[i]))


def measure() -> list[Row]:
    """Measure the paths of building a dataset."""
    with tempfile.TemporaryDirectory() as folder:
        home, target = Home(Path(folder)), Path(folder) / "written"
        tables = {"clustered": "bench.clustered", "shuffled": "bench.shuffled"}
        home.hold(tables["clustered"], workload.clustered())
        home.hold(tables["shuffled"], workload.shuffled())
        contents = {name: bytes_of(home.build_dataset(dataset(table))) for name, table in tables.items()}
        zipped = dataset(tables["clustered"]).model_copy(update={"compression": "GZIP"})
        columns = home.tables.schema_of(home.tables.pin("bench.clustered")).names
        seconds = cpu_seconds(
            {
                "limit": lambda: limit(home, tables["clustered"], columns, contents["clustered"], target),
                "clustered": lambda: home.build_dataset(dataset(tables["clustered"])),
                "shards": lambda: home.build_dataset(dataset(tables["clustered"], train=8, test=8)),
                "unequal shards": lambda: home.build_dataset(dataset(tables["clustered"], train=8, test=2)),
            }
        )
        # by turns of their own: after them the system has the memory back that the others go on using
        seconds |= cpu_seconds(
            {
                "limit, shuffled": lambda: limit(home, tables["shuffled"], columns, contents["shuffled"], target),
                "shuffled": lambda: home.build_dataset(dataset(tables["shuffled"])),
            }
        )
        seconds |= cpu_seconds({"zipped": lambda: home.build_dataset(zipped)})
        seconds |= in_a_process(__file__, "examples")
        sizes = {"groups": SAMPLED, "checked groups": SAMPLED, "dense": DENSE_SAMPLED}
        per_decision = {name: seconds[name] / size for name, size in sizes.items()}
        ours = seconds["clustered"] / workload.DECISIONS
        unit = f" ({ours * 1e6:.1f} us per decision)"
        one, grouped = "1 + 1 shards in one step", "pandas groupby + Example per decision"
        same = "read + checksums + write of the same bytes"
        rows = [
            at_most("build-dataset, clustered", same, seconds["clustered"] / seconds["limit"], 2.5, unit),
            at_most("build-dataset, shuffled", same, seconds["shuffled"] / seconds["limit, shuffled"], 4.5),
            at_most("build-dataset, 8 + 8 shards in 8 steps", one, seconds["shards"] / seconds["clustered"], 1.3),
            at_most("build-dataset, 8 + 2 shards in 8 steps", one, seconds["unequal shards"] / seconds["clustered"], 1.6),
            Row("build-dataset, GZIP", "uncompressed", f"{seconds['zipped'] / seconds['clustered']:.2f}", "none", met=True),
            at_least("build-dataset, clustered", f"{grouped}, checked", per_decision["checked groups"] / ours, 200),
            at_least("build-dataset, clustered", f"{grouped}, unchecked", per_decision["groups"] / ours, 200),
            at_least("build-dataset, clustered", "dense array + Example per decision", per_decision["dense"] / ours, 8),
        ]
        return rows + hundred_alternatives(home, target)


def hundred_alternatives(home: Home, target: Path) -> list[Row]:
    """Measure choice sets of 100, where the file is there."""
    if not RESTAURANTS.exists():
        print(f"{RESTAURANTS.name} is not there: 100 alternatives are left out")
        return []
    source = pq.read_table(RESTAURANTS)
    features = tuple(name for name in source.column_names if not name.startswith("_"))
    home.hold("bench.restaurants", [source])
    spec = dataset("bench.restaurants", max_choices=100, features=features)
    contents = bytes_of(home.build_dataset(spec))
    columns = [name for name in source.column_names if name in features or not name.startswith("_n")]
    seconds = cpu_seconds(
        {
            "limit": lambda: limit(home, spec.source, columns, contents, target),
            "ours": lambda: home.build_dataset(spec),
        }
    )
    return [
        at_most(
            "build-dataset, 100 alternatives",
            "read + checksums + write of the same bytes",
            seconds["ours"] / seconds["limit"],
            2.5,
        )
    ]


def report_examples() -> None:
    """Print as JSON the CPU seconds of the ways that make Examples."""
    import_keras()
    frame = next(workload.clustered()).to_pandas()
    few, more = (frame[frame["_individual"] < n // workload.DECISIONS_PER_INDIVIDUAL] for n in (SAMPLED, DENSE_SAMPLED))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "written"
        seconds = cpu_seconds(
            {
                "groups": lambda: by_groups(few, target, checked=False),
                "checked groups": lambda: by_groups(few, target, checked=True),
                "dense": lambda: dense_first(more, target),
            }
        )
    print(json.dumps(seconds))


if __name__ == "__main__":
    report_examples() if len(sys.argv) > 1 else show(measure())
