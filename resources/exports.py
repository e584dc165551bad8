"""Exports: rows of a table as one file that people take elsewhere, written whole or not at all."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mimic_core.errors import SpecError, StorageError

FORMATS = {".parquet": "Parquet", ".csv": "CSV"}


def require_target(file: Path) -> None:
    """Check that a file can be written, before anything is read.

    Raises:
        SpecError: its name ends in no format of an export, or there is no such folder.
    """
    if file.suffix not in FORMATS:
        raise SpecError(f"{file}: expected a name that ends in {' or '.join(FORMATS)}, the formats of an export")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"{file}: there is no folder {file.absolute().parent}; make it first")


def write_file(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> int:
    """Write rows to a Parquet or CSV file, by its ending; an existing file is replaced at the end.

    Returns:
        The number of rows.

    Raises:
        StorageError: it could not be written; what was there before is unchanged.
    """
    rows = 0
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.absolute().parent) as folder:
            partial = Path(folder) / file.name
            with _writer(partial, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            partial.replace(file)
    except OSError as error:
        raise StorageError(
            f"{file}: could not be written: {error.strerror or error}; what was there before is unchanged"
        ) from error
    return rows


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
