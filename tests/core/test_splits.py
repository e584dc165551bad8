import gzip
import json
import shutil
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.configs import parse_spec
from mimic_core.contract import check_block
from mimic_core.datasets import by_shard, rules, schema_document, shard_path
from mimic_core.errors import CorruptFileError, NotFoundError, SpecError
from mimic_core.manifests import file_entry, seal
from mimic_core.records import encode
from mimic_core.rows import Rows, decision_starts
from mimic_core.shards import plan_parts
from mimic_core.sources import SPLITS
from mimic_core.specs import DatasetSpec
from mimic_core.splits import read_dataset, read_rows, read_schema

EXTREMES = np.array([0, -1, 127, 128, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])


def decisions(n=23, features=2, largest=3, seed=0):
    """Return n decisions of one to `largest` choices with extreme ids, sorted; every individual has two decisions."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, largest + 1, n)
    starts = np.cumsum(counts) - counts
    selected = np.zeros(counts.sum(), bool)
    selected[starts + random.integers(0, counts)] = True
    ids = np.sort(np.concatenate([EXTREMES, random.integers(-(2**63), 2**63 - 1, n)]))
    choices = np.concatenate([np.sort(random.choice(EXTREMES, c, replace=False)) for c in counts])
    return Rows(
        individual=np.repeat(ids[np.arange(n) // 2], counts),
        decision=np.repeat(ids[np.arange(n) % 2 + 3], counts),
        choice=choices,
        selected=selected,
        x=random.normal(size=(len(selected), features)).astype(np.float32),
        starts=starts,
    )


def write(folder, rows, features, *, train=2, test=1, max_choices=3, compression=None):
    """Write rows as a dataset, the first half of the individuals for training."""
    document = {"database": "haven", "table": "t", "train_partitions": train, "test_partitions": test, "dataset": "d"}
    document |= {"max_choices": max_choices, "compression": compression, "features": list(features), "space": "s"}
    spec = parse_spec(DatasetSpec, document)
    columns = {"_individual": rows.individual, "_decision": rows.decision, "_choice": rows.choice}
    middle = rows.individuals[len(rows.individuals) // 2]
    columns |= {"_selected": rows.selected, "_train": rows.individual < middle}
    table = pa.table(columns | {name: rows.x[:, j] for j, name in enumerate(features)})
    files, block = [], check_block(table, rules(spec))
    (part,) = plan_parts(spec.partitions, None, per_step=max(spec.partitions.values()))
    held = dict(by_shard(block, part))
    for place, shard in enumerate(part.shards):
        data = b"".join(encode(held[place], spec.max_choices)) if place in held else b""
        data = gzip.compress(data, mtime=0) if compression else data
        path = folder / shard_path(shard, compression)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written = {
            "path": str(path.relative_to(folder)),
            "split": shard.split,
            "decisions": held[place].decisions if place in held else 0,
        }
        files.append(file_entry(data, **written))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [])))


@st.composite
def choice_situations(draw):
    """Draw sorted rows: ids anywhere in int64, one to three choices, one to four decisions of an individual."""
    ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from(EXTREMES.tolist()), st.integers(-2, 300))
    rows = []
    for individual in sorted(draw(st.sets(ids, min_size=1, max_size=8))):
        for decision in sorted(draw(st.sets(ids, min_size=1, max_size=4))):
            choices = sorted(draw(st.sets(ids, min_size=1, max_size=3)))
            selected = draw(st.sampled_from(choices))
            rows += [(individual, decision, choice, choice == selected) for choice in choices]
    individual, decision, choice, selected = (np.array(column) for column in zip(*rows, strict=True))
    x = np.random.default_rng(len(rows)).normal(size=(len(rows), 2)).astype(np.float32)
    starts = decision_starts(individual, decision)
    return Rows(individual=individual, decision=decision, choice=choice, selected=selected, x=x, starts=starts)


def one_by_one(folder, split):
    """Read a split an Example at a time, in the order of its files: (individual, decision, choice, selected, x) rows."""
    import tensorflow as tf

    schema, rows = read_schema(folder), []
    files = [str(folder / file["path"]) for file in schema["files"] if file["split"] == split]
    for record in tf.data.TFRecordDataset(files, compression_type=schema["compression"]).as_numpy_iterator():
        found = tf.train.Example.FromString(record).features.feature
        individual, decision, n, place = (
            found[name].int64_list.value[0] for name in ("individual", "decision", "n_choices", "selected")
        )
        x = np.array(found["x"].float_list.value, np.float32).reshape(schema["max_choices"], -1)
        choices = found["choices"].int64_list.value
        rows += [(individual, decision, choices[c], c == place, *x[c].tolist()) for c in range(n)]
    return rows


def in_batches(dataset):
    """Return the rows of a dataset's batches as `one_by_one` does."""
    rows = []
    for batch in dataset.as_numpy_iterator():
        assert np.array_equal(batch["mask"].sum(axis=1), batch["n_choices"])
        assert not batch["x"][~batch["mask"]].any()
        for i, c in np.argwhere(batch["mask"]):
            keys = (batch[name][i] for name in ("individual", "decision"))
            selected = c == batch["selected"][i]
            rows.append((*map(int, keys), int(batch["choices"][i, c]), bool(selected), *batch["x"][i, c].tolist()))
    return rows


def flat(rows):
    """Return rows as `one_by_one` does."""
    keys = (rows.individual.tolist(), rows.decision.tolist(), rows.choice.tolist(), rows.selected.tolist())
    return [(*key, *x) for *key, x in zip(*keys, rows.x.tolist(), strict=True)]


def epoch_of(dataset):
    """Iterate once and return the decisions in their order, and the sizes of the batches."""
    batches = [list(zip(b["individual"].tolist(), b["decision"].tolist(), strict=True)) for b in dataset.as_numpy_iterator()]
    return [key for batch in batches for key in batch], [len(batch) for batch in batches]


def plain(rows):
    """Return rows as a set of tuples, so that the order of decisions does not matter."""
    keys = zip(rows.individual.tolist(), rows.decision.tolist(), rows.choice.tolist(), strict=True)
    return {key: (bool(s), tuple(x.tolist())) for key, s, x in zip(keys, rows.selected, rows.x, strict=True)}


def test_plain_parse_example_built_from_the_schema_alone_gives_every_value(tmp_path):
    import tensorflow as tf

    rows = decisions()
    write(tmp_path, rows, ("size", "age"))
    schema = json.loads((tmp_path / "schema.json").read_text())
    spec = {name: tf.io.FixedLenFeature(f["shape"], f["dtype"]) for name, f in schema["fields"].items()}
    found = {}
    for file in schema["files"]:
        records = [record.numpy() for record in tf.data.TFRecordDataset([str(tmp_path / file["path"])])]
        assert len(records) == file["decisions"]
        if records:
            batch = {name: value.numpy() for name, value in tf.io.parse_example(records, spec).items()}
            for i, n in enumerate(batch["n_choices"]):
                for c in range(n):
                    key = tuple(int(v) for v in (batch["individual"][i], batch["decision"][i], batch["choices"][i, c]))
                    found[key] = (c == batch["selected"][i], tuple(batch["x"][i, c].tolist()))
                assert not batch["x"][i, n:].any()
                assert not batch["choices"][i, n:].any()
    assert found == plain(rows)


def test_rows_do_not_depend_on_max_choices(tmp_path):
    rows = decisions()
    write(tmp_path / "3", rows, ("size", "age"), max_choices=3)
    write(tmp_path / "9", rows, ("size", "age"), max_choices=9)
    for split in SPLITS:
        first, second = (read_rows(tmp_path / name, split) for name in ("3", "9"))
        assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_rows_hold_the_features_that_are_named_in_their_order(tmp_path):
    write(tmp_path, decisions(features=3), ("size", "age", "rank"))
    everything = read_rows(tmp_path, "train")
    assert np.array_equal(read_rows(tmp_path, "train", ["rank", "size"]).x, everything.x[:, [2, 0]])


def test_an_empty_shard_is_an_empty_file_that_tensorflow_reads(tmp_path):
    write(tmp_path, decisions(n=2), ("size", "age"), train=3, test=4)  # one individual, so every other shard is empty
    assert sum(path.stat().st_size == 0 for path in tmp_path.rglob("*.tfrecord")) == 6
    assert list(read_dataset(tmp_path, "train")) == []
    assert sum(len(batch["mask"]) for batch in read_dataset(tmp_path, "test")) == 2


def test_a_dataset_gives_dense_batches_with_a_mask(tmp_path):
    rows = decisions()
    write(tmp_path, rows, ("size", "age"), max_choices=4)
    found, sizes = {}, []
    for batch in read_dataset(tmp_path, "train", batch_size=3):
        values = {name: tensor.numpy() for name, tensor in batch.items()}
        sizes.append(len(values["mask"]))
        assert values["x"].shape == (sizes[-1], 4, 2)
        assert values["x"].dtype == np.float32
        assert not values["x"][~values["mask"]].any()
        assert np.array_equal(values["mask"], np.arange(4) < values["n_choices"][:, None])
        for i, c in np.argwhere(values["mask"]):
            key = tuple(int(v) for v in (values["individual"][i], values["decision"][i], values["choices"][i, c]))
            found[key] = (c == values["selected"][i], tuple(values["x"][i, c].tolist()))
    assert found == plain(read_rows(tmp_path, "train"))
    assert max(sizes) == 3


def test_a_dataset_holds_the_features_that_are_named_in_their_order(tmp_path):
    write(tmp_path, decisions(features=3), ("size", "age", "rank"))
    (everything,) = list(read_dataset(tmp_path, "train"))
    (chosen,) = list(read_dataset(tmp_path, "train", features=["rank", "size"]))
    assert np.array_equal(chosen["x"].numpy(), everything["x"].numpy()[:, :, [2, 0]])


@pytest.mark.parametrize("read", [read_rows, read_dataset])
def test_an_unknown_feature_is_named_with_those_that_exist(tmp_path, read):
    write(tmp_path, decisions(), ("size", "age"))
    with pytest.raises(SpecError, match=r"the dataset has no 'sise' \(did you mean 'size'\?\); its features are size, age"):
        read(tmp_path, "train", features=["age", "sise"])


@pytest.mark.parametrize("read", [read_rows, read_dataset])
def test_a_folder_without_a_dataset_is_named(tmp_path, read):
    with pytest.raises(NotFoundError, match=r"nothing: there is no dataset here \(no schema\.json\)"):
        read(tmp_path / "nothing", "train")


def test_a_flipped_byte_at_every_position_of_a_record_file_is_refused_with_its_name(tmp_path):
    write(tmp_path, decisions(n=4, features=1), ("size",), train=1, max_choices=3)
    path = tmp_path / "train" / "00000-of-00001.tfrecord"
    data = path.read_bytes()
    assert 0 < len(data) < 1000
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x04]) + data[position + 1 :])
        with pytest.raises(CorruptFileError, match=r"train/00000-of-00001\.tfrecord: damaged: expected .* build it again"):
            read_rows(tmp_path, "train")
    with pytest.raises(CorruptFileError, match=r"train/00000-of-00001\.tfrecord: damaged"):
        read_dataset(tmp_path, "train")


def test_a_flipped_byte_at_every_position_of_a_schema_is_refused_with_its_name(tmp_path):
    write(tmp_path, decisions(n=4, features=1), ("size",))
    path = tmp_path / "schema.json"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x04]) + data[position + 1 :])
        with pytest.raises(CorruptFileError, match=r"schema\.json: damaged"):
            read_schema(tmp_path)


def test_a_file_that_is_gone_cut_or_another_one_is_refused_with_its_name(tmp_path):
    write(tmp_path, decisions(), ("size", "age"))
    path = tmp_path / "train" / "00001-of-00002.tfrecord"
    data = path.read_bytes()
    for content in (data[:-1], data + b"\0", b"", (tmp_path / "train" / "00000-of-00002.tfrecord").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"train/00001-of-00002\.tfrecord: damaged"):
            read_rows(tmp_path, "train")
    path.unlink()
    for read in (read_rows, read_dataset):
        with pytest.raises(
            CorruptFileError, match=r"train/00001-of-00002\.tfrecord: damaged: .* it is gone; build it again"
        ):
            read(tmp_path, "train")


def test_rows_come_back_sorted_whatever_the_shards(tmp_path):
    rows = decisions()
    for train, test in ((1, 1), (2, 1), (5, 3)):
        folder = tmp_path / f"{train}"
        write(folder, rows, ("size", "age"), train=train, test=test)
        parts = {split: read_rows(folder, split) for split in SPLITS}
        assert plain(parts["train"]) | plain(parts["test"]) == plain(rows)
        for part in parts.values():
            keys = list(zip(part.individual.tolist(), part.decision.tolist(), part.choice.tolist(), strict=True))
            assert keys == sorted(keys)
            assert part.decisions == len(set(zip(part.individual.tolist(), part.decision.tolist(), strict=True)))
    assert len(list((tmp_path / "5").rglob("*.tfrecord"))) == 8


def test_an_empty_shard_reads_as_no_decisions(tmp_path):
    rows = decisions(n=2)  # one individual, so every other shard is empty
    write(tmp_path, rows, ("size", "age"), train=3, test=4)
    assert sum(path.stat().st_size == 0 for path in tmp_path.rglob("*.tfrecord")) == 6
    empty = read_rows(tmp_path, "train")
    assert (len(empty), empty.decisions, empty.x.shape) == (0, 0, (0, 2))
    assert list(read_dataset(tmp_path, "train")) == []
    assert plain(read_rows(tmp_path, "test")) == plain(rows)


@pytest.mark.parametrize("read", [read_rows, read_dataset])
def test_a_split_that_no_dataset_has_is_refused(tmp_path, read):
    write(tmp_path, decisions(), ("size", "age"))
    with pytest.raises(SpecError, match="split: expected one of train, test, found 'valid'"):
        read(tmp_path, "valid")


@settings(max_examples=10, deadline=None)  # most of its time is TensorFlow's, at the first iteration of a dataset
@given(
    choice_situations(),
    st.integers(1, 4),
    st.sampled_from([None, "GZIP"]),
    st.sampled_from([1, 500, 2**21]),
    st.integers(1, 7),
)
def test_every_way_of_reading_gives_what_reading_one_example_at_a_time_gives(rows, train, compression, block, batch_size):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic_core.splits.BLOCK_BYTES", block)
        folder = Path(name)
        write(folder, rows, ("size", "age"), train=train, compression=compression)
        for split in SPLITS:
            expected = one_by_one(folder, split)
            found = read_rows(folder, split)
            assert flat(found) == sorted(expected)
            assert np.array_equal(found.starts, decision_starts(found.individual, found.decision))
            assert in_batches(read_dataset(folder, split, batch_size=batch_size)) == expected
        assert sorted(in_batches(read_dataset(folder, split, batch_size=batch_size, shuffle=True))) == sorted(expected)


def test_a_dataset_from_before_there_was_compression_is_read(tmp_path):
    write(tmp_path, decisions(), ("size", "age"))
    schema = read_schema(tmp_path)
    expected = flat(read_rows(tmp_path, "train"))
    del schema["compression"]
    (tmp_path / "schema.json").write_bytes(seal(schema))
    assert flat(read_rows(tmp_path, "train")) == sorted(in_batches(read_dataset(tmp_path, "train"))) == expected


def test_a_shuffled_epoch_has_every_decision_once_and_a_last_batch_of_what_is_left(tmp_path):
    write(tmp_path, decisions(n=46), ("size", "age"))
    in_order, _ = epoch_of(read_dataset(tmp_path, "train"))
    dataset = read_dataset(tmp_path, "train", batch_size=5, shuffle=True)
    for _ in range(3):
        order, sizes = epoch_of(dataset)
        assert sorted(order) == sorted(set(in_order))
        assert sizes == [5] * (len(in_order) // 5) + [len(in_order) % 5]
        assert sizes[-1] > 0


def test_the_order_of_an_epoch_is_that_of_its_number_and_seed_over_the_whole_split(tmp_path):
    write(tmp_path, decisions(n=200), ("size", "age"), train=4)
    in_order, _ = epoch_of(read_dataset(tmp_path, "train"))
    first, same, other = (read_dataset(tmp_path, "train", batch_size=16, shuffle=True, seed=seed) for seed in (3, 3, 4))
    epochs = [epoch_of(first)[0] for _ in range(3)]
    for number, epoch in enumerate(epochs):
        order = np.random.default_rng([3, number]).permutation(len(in_order))
        assert epoch == [in_order[i] for i in order] == epoch_of(same)[0]
    assert len({tuple(epoch) for epoch in [*epochs, epoch_of(other)[0]]}) == 4
    shard = len(in_order) // 4
    assert len({in_order.index(key) // shard for key in epochs[0][:shard]}) >= 4  # of all shards, at the place of the first


def test_a_repeated_dataset_goes_from_epoch_to_epoch(tmp_path):
    write(tmp_path, decisions(), ("size", "age"))
    dataset, repeated = (read_dataset(tmp_path, "train", batch_size=3, shuffle=True) for _ in range(2))
    assert epoch_of(repeated.repeat(2))[0] == epoch_of(dataset)[0] + epoch_of(dataset)[0]


def test_a_shuffled_dataset_needs_its_files_no_more(tmp_path):
    write(tmp_path, decisions(features=3), ("size", "age", "rank"))
    expected = sorted(in_batches(read_dataset(tmp_path, "train", features=["rank", "size"])))
    dataset = read_dataset(tmp_path, "train", features=["rank", "size"], shuffle=True)
    shutil.rmtree(tmp_path)
    assert sorted(in_batches(dataset)) == sorted(in_batches(dataset)) == expected


def test_an_empty_split_shuffled_has_no_batches(tmp_path):
    write(tmp_path, decisions(n=2), ("size", "age"), train=3)
    assert list(read_dataset(tmp_path, "train", shuffle=True)) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"batch_size": 0}, "batch_size: expected 1 or more, found 0"), ({"seed": -1}, "seed: expected 0 or more, found -1")],
)
def test_a_seed_or_batch_size_too_low_is_refused(tmp_path, options, expected):
    with pytest.raises(SpecError, match=expected):
        read_dataset(tmp_path, "train", **options)


@pytest.mark.parametrize("read", [read_rows, read_dataset])
def test_a_compressed_file_that_is_cut_or_changed_is_refused_with_its_name(tmp_path, read):
    write(tmp_path, decisions(n=8), ("size", "age"), compression="GZIP")
    path = tmp_path / "train" / "00001-of-00002.tfrecord.gz"
    data = path.read_bytes()
    changed = [data[:i] + bytes([data[i] ^ 0x04]) + data[i + 1 :] for i in range(0, len(data), 7)]
    for content in (data[:-1], data[: len(data) // 2], b"", gzip.decompress(data), *changed):
        path.write_bytes(content)
        with pytest.raises(
            CorruptFileError, match=r"train/00001-of-00002\.tfrecord\.gz: damaged: expected .* build it again"
        ):
            read(tmp_path, "train")


@pytest.mark.parametrize("cut", [lambda data: data[:-9], gzip.decompress, lambda data: data[:20] + b"\xff" * 9 + data[29:]])
def test_a_file_that_its_schema_names_and_that_is_no_gzip_file_is_refused_with_its_name(tmp_path, cut):
    write(tmp_path, decisions(), ("size", "age"), train=1, compression="GZIP")
    path, schema = tmp_path / "train" / "00000-of-00001.tfrecord.gz", read_schema(tmp_path)
    path.write_bytes(cut(path.read_bytes()))
    schema["files"][0] |= file_entry(path.read_bytes())
    (tmp_path / "schema.json").write_bytes(seal(schema))
    with pytest.raises(CorruptFileError, match=r"00000-of-00001\.tfrecord\.gz: damaged: it is no whole gzip file: .* again"):
        read_rows(tmp_path, "train")


@pytest.mark.parametrize("train", [1, 4])
def test_reading_rows_takes_about_twice_their_memory_at_most(tmp_path, train):
    write(tmp_path, decisions(n=24_000, features=60), [f"x{j}" for j in range(60)], train=train, max_choices=4)
    tracemalloc.start()
    rows = read_rows(tmp_path, "train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.2 * sum(array.nbytes for array in vars(rows).values() if array is not None)
