"""Reading a dataset back beside TensorFlow's parse_single_example per record, and the share of input in a training step.

200,000 decisions of 20,000 individuals, 2 to 10 choices and 20 features each, in four shards. CPU time, medians of
alternating repetitions. What reads files verifies their checksums too; the baseline, timed on a sample, does not.
"""

import gzip
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from reporting import REPETITIONS, Row, at_least, at_most, cpu_seconds, show

from mimic_core import backend, epochs, layers_files, networks, optimizers, records, splits
from mimic_core.access import access_rows
from mimic_core.configs import parse_spec
from mimic_core.datasets import schema_document, shard_path
from mimic_core.interactions import columns
from mimic_core.manifests import file_entry, seal
from mimic_core.model_specs import ModelSpec
from mimic_core.rows import Rows
from mimic_core.shards import Shard, shard_index
from mimic_core.specs import DatasetSpec
from mimic_core.streams import in_memory

DECISIONS, INDIVIDUALS, MAX_CHOICES, FEATURES, SHARDS = 200_000, 20_000, 10, 20, 4
SAMPLE, BATCH, TRAINING_BATCH = 5_000, 1024, 100
MODEL = ModelSpec(layers=("D16", "D32", "D16"), batch_size=TRAINING_BATCH, epochs=REPETITIONS + 1)


def decisions(ids: np.ndarray) -> Rows:
    """Make seeded choice sets of 2 to 10 choices for decisions; ten of one individual follow each other."""
    random = np.random.default_rng(0)
    counts = random.integers(2, MAX_CHOICES + 1, len(ids))
    starts, rows = np.cumsum(counts) - counts, int(counts.sum())
    selected = np.zeros(rows, np.bool_)
    selected[starts + random.integers(0, counts)] = True
    return Rows(
        individual=np.repeat(individuals(ids), counts),
        decision=np.repeat(ids, counts),
        choice=np.arange(rows) - np.repeat(starts, counts),
        selected=selected,
        x=random.normal(size=(rows, FEATURES)).astype(np.float32),
        starts=starts,
    )


def individuals(ids: np.ndarray) -> np.ndarray:
    """Return whose decisions they are."""
    return ids // (DECISIONS // INDIVIDUALS)


def write(folder: Path, compression: str | None, scale: int = 1) -> Path:
    """Write the dataset or a multiple of it, training decisions only."""
    features = [f"x{number:02d}" for number in range(FEATURES)]
    document = {
        "database": "d",
        "table": "t",
        "space": "s",
        "dataset": "d",
        "max_choices": MAX_CHOICES,
        "features": features,
    }
    spec = parse_spec(DatasetSpec, document | {"train_partitions": scale * SHARDS, "compression": compression})
    ids, files = np.arange(scale * DECISIONS), []
    (folder / "train").mkdir(parents=True)
    for index in range(scale * SHARDS):
        mine = decisions(ids[shard_index(individuals(ids), scale * SHARDS) == index])
        data, path = (
            b"".join(records.encode(mine, MAX_CHOICES)),
            shard_path(Shard(split="train", index=index, count=scale * SHARDS), compression),
        )
        data = gzip.compress(data, compresslevel=1, mtime=0) if compression else data
        (folder / path).write_bytes(data)
        files.append(file_entry(data, path=path, split="train", decisions=mine.decisions))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [])))
    return folder


def one_record_at_a_time(folder: Path) -> Any:
    """Open a sample of the records the usual way."""
    import tensorflow as tf

    schema = splits.read_schema(folder)
    spec = {name: tf.io.FixedLenFeature(field["shape"], field["dtype"]) for name, field in schema["fields"].items()}
    found = tf.data.TFRecordDataset([str(folder / file["path"]) for file in schema["files"]]).take(SAMPLE)
    return found.map(lambda record: tf.io.parse_single_example(record, spec)).batch(BATCH)


def drain(dataset: Any) -> None:
    """Iterate once."""
    for _ in dataset:
        pass


def measure_reading(plain: Path, zipped: Path) -> list[Row]:
    """Compare every way of reading with the usual one, per decision."""
    usual, shuffled = one_record_at_a_time(plain), splits.read_dataset(plain, "train", batch_size=BATCH, shuffle=True)
    found = cpu_seconds(
        {
            "usual": lambda: drain(usual),
            f"read_dataset, batch {BATCH}": lambda: drain(splits.read_dataset(plain, "train", batch_size=BATCH)),
            f"read_dataset, batch {BATCH}, GZIP": lambda: drain(splits.read_dataset(zipped, "train", batch_size=BATCH)),
            f"read_dataset, batch {BATCH}, shuffled, from the second epoch": lambda: drain(shuffled),
            "read_rows": lambda: splits.read_rows(plain, "train"),
            "read_rows, GZIP": lambda: splits.read_rows(zipped, "train"),
        }
    )
    baseline = found.pop("usual") / SAMPLE * 1e6
    rows = []
    for name, seconds in found.items():
        taken = seconds / DECISIONS * 1e6
        usually = f"parse_single_example per record ({baseline:.1f} us)"
        rows.append(at_least(name, usually, baseline / taken, 5, f" ({taken:.2f} us per decision)"))
    return rows


def measure_memory(plain: Path) -> Row:
    """Compare the most memory that reading takes with what it returns."""
    tracemalloc.start()
    rows = splits.read_rows(plain, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(array.nbytes for array in vars(rows).values() if array is not None)
    memory = f" ({peak / 1e6:.0f} MB)"
    return at_most("read_rows, peak memory", f"arrays returned ({held / 1e6:.0f} MB)", peak / held, 2.2, memory)


def measure_training(plain: Path) -> Row:
    """Compare an epoch's input, gathered and added up, with the epoch itself."""
    keras = backend.import_keras()
    import tensorflow as tf

    rows = splits.read_rows(plain, "train")
    keras.utils.set_random_seed(0)
    layers, _ = layers_files.load_layers(layers_files.default_layers(MODEL.layers))
    wanted = columns((), [f"x{number:02d}" for number in range(FEATURES)])
    network, optimizer = networks.build_network(MODEL, wanted, layers), optimizers.make_optimizer(MODEL)
    optimizer.build(network.trainable_variables)
    trained = epochs.train_epochs(network, optimizer, MODEL, in_memory(rows))

    @tf.function
    def only_input(batches: epochs.Batches) -> Any:
        total = tf.constant(0.0)
        for number in tf.range(tf.size(batches["bounds"]) - 1):
            for part in epochs.take_batch(batches, number, TRAINING_BATCH).values():
                total += tf.cast(tf.reduce_sum(part), tf.float32)
        return total

    def one_epoch() -> None:
        for window in access_rows(rows).windows(epochs.order_epoch(rows.decisions, MODEL.seed, 1), TRAINING_BATCH):
            only_input(epochs.prepare_batches(window, TRAINING_BATCH))

    found = cpu_seconds({"epoch": lambda: next(trained), "input": one_epoch})
    step, share = found["epoch"] / DECISIONS * TRAINING_BATCH * 1e6, found["input"] / found["epoch"]
    name = f"input of a training step at batch {TRAINING_BATCH}, from the second epoch"
    return at_most(name, f"the step ({step:.0f} us)", share, 0.3, f" ({share * step:.0f} us)")


def measure() -> list[Row]:
    """Measure everything on datasets in a temporary folder."""
    backend.import_keras()
    with tempfile.TemporaryDirectory() as name:
        plain, zipped = write(Path(name) / "plain", None), write(Path(name) / "zipped", "GZIP")
        return [*measure_reading(plain, zipped), measure_memory(plain), measure_training(plain)]


if __name__ == "__main__":
    show(measure())
