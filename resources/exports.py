"""Exports: rows of a table as one file that people take elsewhere, written whole or not at all."""

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from mimic_core.errors import MimicError, SpecError, StorageError

FORMATS = {".parquet": "Parquet", ".csv": "CSV"}


def require_target(file: Path, formats: Collection[str] = FORMATS.keys()) -> None:
    """Check that a file can be written, before anything is read.

    Args:
        formats: the endings that its name may have.

    Raises:
        SpecError: its name ends in no format of an export, it is a folder, or there is no such folder.
    """
    if file.is_dir():
        raise SpecError(
            f"{file}: this is a folder, expected the name of a file to write; add one, such as out{next(iter(formats))}"
        )
    if file.suffix not in formats:
        what = "formats of an export" if len(formats) > 1 else "format of a page"
        raise SpecError(f"{file}: expected a name that ends in {' or '.join(formats)}, the {what}")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"{file}: there is no folder {file.absolute().parent}; make it first")


def require_new(file: Path) -> None:
    """Check that there is no file yet.

    Raises:
        SpecError: there is one.
    """
    if file.exists() or file.is_symlink():
        raise SpecError(f"{file}: this file is there already; give another name, or --force to replace it")


def write_file(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path, *, replace: bool = True) -> int:
    """Write rows to a Parquet or CSV file, by its ending; an existing file is replaced at the end.

    Args:
        replace: False refuses a file that was made meanwhile instead.

    Returns:
        The number of rows.

    Raises:
        SpecError: there is such a file.
        StorageError: it could not be written; what was there before is unchanged.
    """
    with _replacing(file, replace) as partial:
        return _write(batches, schema, partial)


def write_bytes(data: bytes, file: Path, *, replace: bool) -> None:
    """Write a file; arguments and errors as those of `write_file`."""
    with _replacing(file, replace) as partial:
        partial.write_bytes(data)


def write_stream(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    """Write rows as CSV to a stream, where nothing comes before all of them are there; returns their number.

    Raises:
        StorageError: they could not be written to a temporary file, where they wait.
    """
    told = "the rows wait there until all of them may be printed; give TMPDIR a folder with more room"
    with ExitStack() as stack:
        with _explaining(tempfile.gettempdir(), told):
            file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mimic-"))) / "rows.csv"
            rows = _write(batches, schema, file)
        with file.open("rb") as written:
            shutil.copyfileobj(written, stream)
        stream.flush()
    return rows


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> int:
    rows = 0
    with _writer(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


@contextmanager
def _replacing(file: Path, replace: bool) -> Iterator[Path]:
    """Give the path of a new file beside another, whose place it takes at the end."""
    with (
        _explaining(file, "what was there before is unchanged"),
        tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.absolute().parent) as folder,
    ):
        partial = Path(folder) / file.name
        yield partial
        if not replace:
            require_new(file)
        partial.replace(file)


@contextmanager
def _explaining(where: Path | str, told: str) -> Iterator[None]:
    try:
        yield
    except MimicError:
        raise  # of what gives the rows
    except OSError as error:
        raise StorageError(f"{where}: could not be written: {error.strerror or error}; {told}") from error


@contextmanager
def _writer(file: Path, schema: pa.Schema) -> Iterator[Any]:
    import pyarrow.csv
    import pyarrow.parquet

    if file.suffix == ".csv":
        with pyarrow.csv.CSVWriter(file, schema) as writer:
            yield writer
    else:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            yield writer
