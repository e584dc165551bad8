"""Footers: files that are read by turns, and streams that are cut into row groups."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic_core.shards import RowGroup, plan_parts
from resources import footers, staging
from resources.environments import local_resources
from resources.footers import Footers, cut, turns_of
from resources.tables import SOURCE, Pin, TableStore

FILES, TURNS = 3, 4


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> TableStore:
    return local_resources(tmp_path_factory.mktemp("home"))["tables"]


def rows(*individuals: int) -> pa.Table:
    ids = np.repeat(individuals, 5)
    return pa.table({"_individual": ids, "_train": ids >= 0, "size": ids / 2})


@pytest.fixture(scope="module", params=["imported", "registered"])
def taken_in_turns(request, tables, tmp_path_factory) -> Pin:
    """A table whose individuals, in order, are in one file after the other, again and again; two row groups at each turn."""
    starts = range(0, 2 * FILES * TURNS, 2 * FILES)
    files = [rows(*(start + 2 * file + i for start in starts for i in (0, 1))) for file in range(FILES)]
    if request.param == "registered":
        folder = tmp_path_factory.mktemp("files")
        for number, table in enumerate(files):
            pq.write_table(table, folder / f"{number}.parquet", row_group_size=5)
        return tables.register("haven.registered", folder)
    tables.ensure("haven.imported", files[0].schema, kind=SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "ROWS_PER_GROUP", 5)
        staged = [tables.stage("haven.imported", [table], str(number)) for number, table in enumerate(files)]
    return tables.replace("haven.imported", staged, None)


@pytest.fixture
def parsed(monkeypatch) -> list[bool]:
    """Whether each file that is opened from now on has its footer parsed."""
    found: list[bool] = []

    class Counted(pq.ParquetFile):
        def __init__(self, source, *, metadata=None, **options) -> None:
            found.append(metadata is None)
            super().__init__(source, metadata=metadata, **options)

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    return found


@pytest.mark.parametrize(("kept", "expected"), [(footers.MOST_BYTES, FILES), (0, FILES * TURNS)])
def test_the_footer_of_a_file_is_parsed_once_where_it_may_be_kept(
    tables, taken_in_turns, parsed, monkeypatch, kept, expected
):
    monkeypatch.setattr(footers, "MOST_BYTES", kept)
    groups = tables.row_groups(taken_in_turns)
    assert parsed == [True] * FILES
    (part,) = plan_parts({"train": 1, "test": 1}, groups)
    assert [len(turn) for turn in turns_of(part.row_groups)] == [2] * FILES * TURNS
    parsed.clear()
    found = pa.concat_tables(tables.blocks(taken_in_turns, tables.schema_of(taken_in_turns), part))
    assert found == rows(*range(2 * FILES * TURNS))
    assert (len(parsed), sum(parsed)) == (FILES * TURNS, expected)


def test_row_groups_of_one_file_are_read_as_one_stream(tables, tmp_path, parsed):
    """A file of 800 row groups took 80 times as long when it was opened for each."""
    pq.write_table(rows(*range(20)), tmp_path / "a.parquet", row_group_size=5)
    pin = tables.register("haven.single", tmp_path / "a.parquet")
    (part,) = plan_parts({"train": 1, "test": 1}, tables.row_groups(pin))
    parsed.clear()
    assert pa.concat_tables(tables.blocks(pin, tables.schema_of(pin), part)) == rows(*range(20))
    assert parsed == [True]


def test_a_footer_is_kept_no_longer_than_until_the_last_turn_of_its_file(tmp_path):
    for name in "ab":
        pq.write_table(rows(1, 2), tmp_path / name)
    sizes, size = [], pq.read_metadata(tmp_path / "a").serialized_size
    kept = Footers("abab")
    for name in "ababc":
        with kept.opened(name, tmp_path / name.replace("c", "a")) as file:
            assert file.read() == rows(1, 2)
        sizes.append(kept.size)
    assert sizes == [size, 2 * size, size, 0, 0]


def test_turns_are_the_row_groups_of_a_file_before_those_of_another():
    groups = [RowGroup(file=name, index=number, rows=1, lowest=None, highest=None) for number, name in enumerate("aabca")]
    assert [[group.index for group in turn] for turn in turns_of(groups)] == [[0, 1], [2], [3], [4]]


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(1, 9)))
def test_a_stream_is_cut_into_the_lengths_that_are_asked_for(lengths, sizes):
    """Batches end where row groups do not; a row group without rows and a stream that ends too early are no trouble."""
    ends = np.cumsum([0, *sizes]).tolist()
    stream = [pa.record_batch({"row": pa.array(range(*bounds))}) for bounds in pairwise(ends)]
    found = [[row for batch in piece for row in batch["row"].to_pylist()] for piece in cut(stream, lengths)]
    bounds = pairwise(np.cumsum([0, *lengths]).tolist())
    assert found == [list(range(min(first, ends[-1]), min(end, ends[-1]))) for first, end in bounds]


def test_a_piece_of_a_batch_does_not_hold_the_whole_batch_in_memory():
    batch = pa.record_batch({"row": pa.array(range(1000))})
    pieces = [next(piece) for piece in cut([batch], [10] * 100)]
    assert {piece.get_total_buffer_size() for piece in pieces} == {80}
