import json

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.configs import parse_spec
from mimic_core.contract import check_shard
from mimic_core.datasets import encode_shard, rules, schema_document, shard_path
from mimic_core.errors import CorruptFileError, NotFoundError, SpecError
from mimic_core.manifests import file_entry, seal
from mimic_core.sources import SPLITS, Rows, select_shard, shards
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


def write(folder, rows, features, *, train=2, test=1, max_choices=3):
    """Write rows as a dataset, the first half of the individuals for training, and return its rows by split."""
    document = {"database": "haven", "table": "t", "train_partitions": train, "test_partitions": test, "dataset": "d"}
    spec = parse_spec(DatasetSpec, {**document, "max_choices": max_choices, "features": list(features), "space": "s"})
    columns = {"_individual": rows.individual, "_decision": rows.decision, "_choice": rows.choice}
    middle = rows.individuals[len(rows.individuals) // 2]
    columns |= {"_selected": rows.selected, "_train": rows.individual < middle}
    table = pa.table(columns | {name: rows.x[:, j] for j, name in enumerate(features)})
    files = []
    for shard in shards(spec.partitions):
        checked = check_shard(select_shard(table.to_batches(), table.schema, shard), rules(spec))
        data = b"".join(encode_shard(checked, spec))
        path = folder / shard_path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        files.append(file_entry(data, path=shard_path(shard), split=shard.split, decisions=checked.outcome.decisions))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [])))
    return spec


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
