"""How the decisions of an epoch reach a network: the same ones in the same order from memory and from files."""

import functools
import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mimic_core import access, backend, layers_files, networks, optimizers, record_access, runs, splits
from mimic_core.access import access_rows, access_some
from mimic_core.configs import parse_spec
from mimic_core.datasets import schema_document
from mimic_core.epochs import order_epoch, train_epochs
from mimic_core.errors import StorageError, TrainingError
from mimic_core.manifests import file_entry, seal
from mimic_core.records import encode
from mimic_core.rows import Rows, take_decisions
from mimic_core.specs import DatasetSpec, RunSpec
from mimic_core.splits import read_rows, read_stream
from mimic_core.streams import in_memory, open_access, where

RESERVED = ("_weight", "_sampling_log_probability")
FEATURES = ["size", "age", "price"]
RANDOM = """LAYERS = {
    "normal": lambda: BatchNormalization(),
    "wide": lambda: Dense(64, activation="relu"),
    "huge": lambda: Dense(4, kernel_initializer=keras.initializers.Constant(100.0)),
    "drop": lambda: Dropout(0.3, seed=5),
}"""


def decisions(n=240):
    """Return n decisions of one to five choices, three for each individual, with weights and offsets."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 6, n)
    starts, decision = np.cumsum(counts) - counts, np.repeat(np.arange(n), counts)
    selected = np.zeros(len(decision), bool)
    selected[starts + random.integers(0, counts)] = True
    return Rows(
        individual=decision // 3,
        decision=decision % 3,
        choice=np.arange(len(decision)) - starts[decision],
        selected=selected,
        x=random.standard_normal((len(decision), len(FEATURES)), np.float32),
        starts=starts,
        weight=random.uniform(0, 2, n).astype(np.float32),
        offset=random.normal(size=len(decision)).astype(np.float32),
    )


def write(folder, rows, compression=None, sorted_files=False):
    """Write rows as three files of training decisions, and none for testing; individuals take turns, or not."""
    document = {"database": "haven", "table": "t", "train_partitions": 3, "space": "s", "dataset": "d", "max_choices": 5}
    spec = parse_spec(DatasetSpec, document | {"features": FEATURES, "compression": compression})
    individual, files = rows.individual[rows.starts], []
    for index in range(3):
        shard = individual * 3 // (individual.max() + 1) if sorted_files else individual % 3
        data = b"".join(encode(take_decisions(rows, np.flatnonzero(shard == index)), 5))
        data = gzip.compress(data) if compression else data
        (folder / f"{index}").write_bytes(data)
        files.append(file_entry(data, path=f"{index}", split="train", decisions=int((shard == index).sum())))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [], optional=RESERVED)))


def run_spec(**model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 5, "database": "haven", "table": "r"}
    model = {"layers": ["normal", "wide", "drop"], "batch_size": 7, "epochs": 2, "seed": 4, **model}
    return parse_spec(RunSpec, {**document, "features": FEATURES, "model": model})


def trained(stream, **model):
    """Train; returns the losses of the epochs, and the bytes of the weights."""
    spec = run_spec(**model)
    backend.import_keras().utils.set_random_seed(spec.model.seed)
    network = networks.build_network(spec.model, spec.columns, layers_files.load_layers(RANDOM)[0])
    optimizer = optimizers.make_optimizer(spec.model)
    optimizer.build(network.trainable_variables)
    losses = list(train_epochs(network, optimizer, spec.model, stream))
    return losses, [weights.tobytes() for weights in network.get_weights()]


@pytest.fixture(scope="module")
def from_memory():
    """The losses and weights of a network trained in memory."""
    return trained(in_memory(decisions()))


@pytest.fixture
def small(monkeypatch):
    """Many windows, regions and blocks in little data."""
    monkeypatch.setattr(access, "WINDOW_BYTES", 4096)
    monkeypatch.setattr(record_access, "REGION_BYTES", 2000)
    monkeypatch.setattr(record_access, "BLOCK", 3)
    monkeypatch.setattr(splits, "BLOCK_BYTES", 900)


def stop_in(stream):
    with open_access(stream):
        raise TrainingError("stop")


def same_windows(one, other):
    for mine, theirs in zip(one, other, strict=True):
        for name, values in vars(mine).items():
            np.testing.assert_array_equal(values, getattr(theirs, name), err_msg=name)


def test_the_same_seed_gives_the_same_weights_to_the_last_bit_also_with_random_layers():
    rows = decisions(2000)
    assert trained(in_memory(rows), batch_size=700) == trained(in_memory(rows), batch_size=700)


def test_a_network_trained_from_compressed_files_has_the_losses_and_weights_of_one_trained_in_memory(
    tmp_path, small, from_memory
):
    write(tmp_path, decisions(), "GZIP")
    assert trained(read_stream(tmp_path, "train", most_bytes=0)) == from_memory


def test_the_size_of_the_windows_is_without_effect(small, from_memory):
    assert trained(in_memory(decisions())) == from_memory


@pytest.mark.parametrize("sorted_files", [True, False])
def test_decisions_of_files_are_taken_by_their_place_in_the_sorted_split_also_from_a_part_of_it(
    tmp_path, small, sorted_files
):
    write(tmp_path, decisions(), sorted_files=sorted_files)
    whole = read_stream(tmp_path, "train", ["price", "size"], most_bytes=0)
    held = in_memory(read_rows(tmp_path, "train", ["price", "size"]))

    def keep(block):
        return block.decision[block.starts] != 1

    def heavy(block):
        return block.weight > 0.5

    for stream, expected in [
        (whole, held),
        (where(whole, keep), where(held, keep)),
        (where(where(whole, keep), heavy), where(where(held, keep), heavy)),
    ]:
        places = order_epoch(expected.decisions, 0, 0)
        assert (stream.decisions, stream.rows) == (expected.decisions, None)
        with open_access(stream) as files, open_access(expected) as memory:
            same_windows([files.take(places)], [memory.take(places)])
            assert len(list(files.windows(places, 4))) > 3


def test_windows_are_whole_batches_of_all_decisions_in_their_order(small):
    rows = decisions()
    places = order_epoch(rows.decisions, 1, 2)
    windows = list(access_rows(rows).windows(places, 9))
    assert {len(window.counts) % 9 for window in windows[:-1]} == {0}
    ordered = take_decisions(rows, places)
    np.testing.assert_array_equal(np.concatenate([window.x for window in windows]), ordered.x)
    np.testing.assert_array_equal(np.concatenate([window.weight for window in windows]), ordered.weight)
    np.testing.assert_array_equal(np.concatenate([window.offset for window in windows]), ordered.offset)


def test_of_some_decisions_none_other_is_taken():
    rows = decisions(6)
    kept = access_some(access_rows(rows), np.array([False, True, False, True, True, False]))
    assert kept.take(np.array([2, 0])).weight.tolist() == rows.weight[[4, 1]].tolist()


def test_every_epoch_has_an_order_of_its_own_that_its_seed_and_its_number_give():
    first, second = (order_epoch(50, 3, number).tolist() for number in (0, 1))
    assert first == np.random.default_rng([3, 0]).permutation(50).tolist()
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_loss_that_is_not_finite_names_its_batch_whatever_the_window(small):
    rows = decisions()
    rows = Rows(**vars(rows) | {"weight": None, "offset": None})
    at = np.random.default_rng([4, 0]).permutation(rows.decisions)[7 * 20]
    rows.x[rows.starts[at]] = 3e38
    (loss, broken), *_ = trained(in_memory(rows), layers=["huge"])[0]
    assert (np.isfinite(loss), broken) == (False, 20)


def test_nothing_is_left_of_the_decompressed_files_neither_at_the_end_nor_after_a_failure(tmp_path, monkeypatch, small):
    folder, temporary = tmp_path / "dataset", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    write(folder, decisions(), "GZIP")
    stream = read_stream(folder, "train", most_bytes=0)
    with open_access(stream) as files:
        assert len(files.take(np.arange(5)).counts) == 5
    with pytest.raises(TrainingError, match="stop"):
        stop_in(stream)
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_named_where_files_are_decompressed(tmp_path, monkeypatch):
    write(tmp_path, decisions(), "GZIP")
    stream = read_stream(tmp_path, "train", most_bytes=0)
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(Path("/dev/full").open, "w+b"))
    expected = (
        "decompressed training decisions could not be written: No space left on device; make room there, or let TMPDIR"
    )
    with pytest.raises(StorageError, match=expected), open_access(stream):
        pass


def test_a_whole_run_from_files_is_that_in_memory_with_validation_and_weights(tmp_path, small):
    write(tmp_path, decisions())
    found = [
        runs.train(
            run_spec(validation=0.3, epochs=1), RANDOM, *(read_stream(tmp_path, s, most_bytes=b) for s in ("train", "test"))
        )
        for b in (0, np.inf)
    ]
    weights = [[values.tobytes() for values in run.network.get_weights()] for run in found]
    assert weights[0] == weights[1]
    assert found[0].history[0].loss == found[1].history[0].loss
    for split, evaluation in found[0].evaluations.items():
        assert evaluation.nll == pytest.approx(found[1].evaluations[split].nll, rel=1e-12)
