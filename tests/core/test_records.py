from dataclasses import replace

import numpy as np
import pytest

from mimic_core.errors import CorruptFileError
from mimic_core.records import decode, encode, layout
from mimic_core.rows import Rows, slice_decisions

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


def test_a_file_holds_standard_examples_that_tensorflow_reads(tmp_path):
    import tensorflow as tf

    rows = Rows(
        individual=np.array([-7, -7]),
        decision=np.array([2**63 - 1] * 2),
        choice=np.array([0, 2**53 + 1]),
        selected=np.array([False, True]),
        x=np.array([[1.5, 2.0], [-3.0, 4.0]], np.float32),
        starts=np.array([0]),
    )
    path = tmp_path / "one.tfrecord"
    path.write_bytes(b"".join(encode(rows, 3)))
    (record,) = list(tf.data.TFRecordDataset([str(path)]))
    found = tf.train.Example.FromString(record.numpy()).features.feature
    assert list(found["x"].float_list.value) == [1.5, 2.0, -3.0, 4.0, 0.0, 0.0]
    integers = {name: list(found[name].int64_list.value) for name in found if name != "x"}
    assert integers == {
        "n_choices": [2],
        "selected": [1],
        "individual": [-7],
        "decision": [2**63 - 1],
        "choices": [0, 2**53 + 1, 0],
    }


@pytest.mark.parametrize("largest", [1, 2, 3, 5])
@pytest.mark.parametrize("features", [1, 3, 40])
def test_records_decode_to_what_was_encoded(features, largest):
    rows = decisions(features=features, largest=largest)
    shape = layout(max(largest, 2), features)
    data = b"".join(encode(rows, max(largest, 2)))
    assert len(data) == 23 * shape.record_bytes
    arrays = decode(data, shape, "a.tfrecord")
    assert np.array_equal(arrays["individual"], rows.individual[rows.starts])
    assert np.array_equal(arrays["n_choices"], rows.counts)
    for i, (start, count) in enumerate(zip(rows.starts, rows.counts, strict=True)):
        assert np.array_equal(arrays["choices"][i, :count], rows.choice[start : start + count])
        assert np.array_equal(arrays["x"][i, :count], rows.x[start : start + count])
        assert rows.selected[start + arrays["selected"][i]]


@pytest.mark.parametrize("bits", [0, 1, 7, 8, 14, 28, 29, 32, 56, 57, 63])
def test_ids_of_every_size_come_back(bits):
    ids = np.array([0, 2**bits - 1, 2 ** max(bits - 1, 0)], np.int64)
    rows = replace(decisions(n=3, largest=1), individual=ids, decision=ids[::-1], choice=ids)
    arrays = decode(b"".join(encode(rows, 2)), layout(2, 2), "a.tfrecord")
    assert (arrays["individual"].tolist(), arrays["decision"].tolist()) == (ids.tolist(), ids[::-1].tolist())
    assert arrays["choices"].tolist() == [[value, 0] for value in ids.tolist()]


def test_more_decisions_than_one_block_are_encoded_in_order(monkeypatch):
    rows = decisions()
    whole = b"".join(encode(rows, 3))
    monkeypatch.setattr("mimic_core.records.BLOCK", 4)
    blocks = list(encode(rows, 3))
    assert len(blocks) == 6
    assert b"".join(blocks) == whole


def test_bytes_that_are_no_whole_records_are_refused():
    with pytest.raises(CorruptFileError, match=r"a\.tfrecord: damaged: 7 bytes are not a whole number of records of "):
        decode(b"1234567", layout(3, 2), "a.tfrecord")


def test_no_decisions_are_no_bytes_and_back():
    rows = decisions()
    empty = slice_decisions(rows, 0, 0)
    assert list(encode(empty, 3)) == []
    assert decode(b"", layout(3, 2), "empty.tfrecord")["x"].shape == (0, 3, 2)
