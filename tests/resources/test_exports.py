"""Exports: a file is there as a whole or not at all, and a stream gets nothing before everything is there."""

import io
import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import DecisionTableError, SpecError, StorageError
from resources.exports import write_file, write_stream

ROWS = pa.record_batch({"size": [1.0, 2.5]})


def rows_that_end_in(error: Exception) -> Iterator[pa.RecordBatch]:
    yield ROWS
    raise error


@pytest.mark.parametrize("error", [DecisionTableError("a rule is broken"), StorageError("no room for temporary files")])
def test_rows_that_end_in_an_error_leave_the_file_as_it_was_and_the_error_as_it_is(tmp_path, error):
    file = tmp_path / "out.csv"
    file.write_text("before")
    with pytest.raises(type(error), match=f"^{error}$"):
        write_file(rows_that_end_in(error), ROWS.schema, file)
    assert (list(tmp_path.iterdir()), file.read_text()) == ([file], "before")


def test_a_file_that_somebody_made_meanwhile_is_not_replaced_unless_that_is_wanted(tmp_path):
    file = tmp_path / "out.parquet"

    def rows() -> Iterator[pa.RecordBatch]:
        file.write_text("theirs")
        yield ROWS

    with pytest.raises(SpecError, match=r"out\.parquet: this file is there already"):
        write_file(rows(), ROWS.schema, file, replace=False)
    assert (list(tmp_path.iterdir()), file.read_text()) == ([file], "theirs")
    assert write_file(rows(), ROWS.schema, file) == 2
    assert pq.read_table(file)["size"].to_pylist() == [1.0, 2.5]


def test_a_stream_gets_all_rows_as_csv_or_nothing(tmp_path):
    with (tmp_path / "stream").open("wb") as stream:
        with pytest.raises(DecisionTableError):
            write_stream(rows_that_end_in(DecisionTableError("broken")), ROWS.schema, stream)
        assert stream.tell() == 0
        assert write_stream([ROWS, ROWS], ROWS.schema, stream) == 4
    assert (tmp_path / "stream").read_text() == '"size"\n1\n2.5\n1\n2.5\n'


def test_a_reader_that_has_seen_enough_is_no_error_of_storage():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "wb", buffering=0) as stream:
        write_stream([ROWS], ROWS.schema, stream)


def test_a_full_disk_is_said_with_where_the_rows_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    full = OSError(28, "No space left on device")
    with pytest.raises(
        StorageError, match=rf"^{tmp_path}: could not be written: No space left .*; give TMPDIR a folder with"
    ):
        write_stream(rows_that_end_in(full), ROWS.schema, io.BytesIO())
    with pytest.raises(StorageError, match=r"o\{\}\.csv: could not be written: No space left .*; what was there before is "):
        write_file(rows_that_end_in(full), ROWS.schema, tmp_path / "o{}.csv")
    assert not list(tmp_path.iterdir())
