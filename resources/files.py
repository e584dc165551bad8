"""Files: people's Parquet and CSV files, found below a path, with the columns that the names of their folders give."""

import gzip
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from mimic_core.errors import StorageError, TableError
from mimic_core.shards import RowGroup
from mimic_core.sources import INDIVIDUAL, KEYS, TRAIN
from resources import aws
from resources.footers import Footers
from resources.paths import S3Path, as_path, file_system_of, objects_below, size_and_stamp, source_of
from resources.reading import groups_of
from resources.storage import S3

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".gz": "csv"}
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """One Parquet or CSV file.

    Attributes:
        path: of the file.
        keys: column -> value, one each, from the folders named COLUMN=VALUE above it.
        is_parquet: whether it is known to be so, whatever its name.
    """

    path: Path | S3Path
    keys: pa.Table
    is_parquet: bool = False

    @property
    def kind(self) -> str | None:
        """Its format, `parquet` or `csv`; None for another one."""
        return "parquet" if self.is_parquet else SUFFIXES.get(self.path.suffix)

    @cached_property
    def fragment(self) -> "ds.Fragment":
        """What reads it; it is opened at the first use."""
        import pyarrow.dataset as ds

        made = ds.ParquetFileFormat() if self.kind == "parquet" else ds.CsvFileFormat()
        return made.make_fragment(*file_system_of(self.path))

    @cached_property
    def own_schema(self) -> pa.Schema:
        """The columns that are read from it; where a folder's name gives a column too, the folder's counts."""
        from resources.csv_types import settled_schema

        path = self.path
        if self.kind == "csv" and isinstance(path, Path):
            _require_commas(path)
        schema = self.fragment.physical_schema.remove_metadata()
        own = pa.schema([field for field in schema if field.name not in self.keys.column_names])
        return settled_schema(path, own) if self.kind == "csv" and isinstance(path, Path) else own

    @property
    def schema(self) -> pa.Schema:
        """All its columns, those of its folders' names last."""
        return pa.schema([*self.own_schema, *self.keys.schema])

    def row_groups(self) -> list[RowGroup]:
        """List the row groups of a Parquet file."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(source_of(self.path), pre_buffer=False) as file:
            names = [name for name in (INDIVIDUAL, TRAIN) if name in file.schema_arrow.names]
            own = {name: name for name in names if name not in self.keys.column_names}
            return groups_of(file, str(self.path), own)

    def batches(
        self,
        columns: Sequence[str] | None = None,
        only: Any = None,
        groups: Sequence[int] | None = None,
        footers: Footers | None = None,
    ) -> Iterator[pa.Table]:
        """Stream its rows with little of it in memory.

        Args:
            columns: to read, of those in `schema`; None reads all.
            only: a condition on its own columns, as an Arrow expression; row groups of Parquet that cannot fulfil it are not
                read, other rows that do not fulfil it may come.
            groups: the row groups to read, in this order, whatever the condition; None reads all.
            footers: those of files of which it is one, by their paths.
        """
        wanted = [name for name in self.own_schema.names if columns is None or name in columns]
        keys = self.keys.select([name for name in self.keys.column_names if columns is None or name in columns])
        if not wanted and not keys.column_names:
            wanted = self.own_schema.names[:1]  # rows without a column cannot be counted
        for batch in self._read(wanted, only, groups, footers or Footers()):
            given = [pa.repeat(column[0], len(batch)) for column in keys.columns]
            yield pa.table([*batch.columns, *given], names=[*batch.schema.names, *keys.column_names])

    def _read(
        self, columns: Sequence[str], only: Any, groups: Sequence[int] | None, footers: Footers
    ) -> Iterator[pa.RecordBatch]:
        if self.kind == "csv":
            yield from self.fragment.to_batches(schema=self.own_schema, columns=columns, batch_readahead=2)
            return
        if groups is None and only is not None:
            groups = [one.id for one in self.fragment.subset(only).row_groups]
        if groups == []:
            return
        # measured: Arrow's datasets hold a decoded row group, 364 MB where this holds 126 MB
        with footers.opened(str(self.path), source_of(self.path)) as file:
            yield from file.iter_batches(row_groups=groups, columns=columns)


def find_files(paths: Sequence[Path | str]) -> list[SourceFile]:
    """Find the Parquet and CSV files at and below some paths or URLs of S3; none is opened.

    What Spark has not finished (`_temporary`) and hidden files do not count.

    Raises:
        TableError: a path is missing, cannot be listed, holds no such file, or files are of several kinds.
    """
    found = [(path, file) for path in map(as_path, paths) for file in _listed(path)]
    _require_usable([file for _, file in found])
    kinds = {SUFFIXES.get(file.suffix) for _, file in found}
    if len(kinds) > 1 or None in kinds:
        names = [str(file) for _, file in found]
        raise TableError(f"expected .parquet files or .csv files, all of one kind, found {', '.join(names[:5])}")
    words = [_folder_words(path, file) for path, file in found]
    return [SourceFile(file, keys) for (_, file), keys in zip(found, _typed(words), strict=True)]


def data_files(paths: Sequence[S3Path], keys: pa.Table | None = None) -> list[SourceFile]:
    """Return the Parquet files of a table whose catalog lists them, whatever they are called.

    Args:
        keys: the columns that they have beside their own, with one row.

    Raises:
        TableError: a file is empty.
    """
    _require_usable(paths)
    return [SourceFile(path, pa.table({}) if keys is None else keys, is_parquet=True) for path in paths]


def _require_usable(paths: Sequence[Path | S3Path]) -> None:
    if empty := [str(path) for path in paths if not size_and_stamp(path)[0]]:
        raise TableError(f"{', '.join(empty[:5])}: the file is empty; expected a decision table")


def reading(paths: Sequence[Path | S3Path], read: Callable[[], Any]) -> Any:
    """Call what reads files, and name them where they cannot be read.

    Raises:
        TableError: they are damaged, no files of their kind, or cannot be opened.
    """
    try:
        with aws.explaining(", ".join(map(str, paths[:5])), "cannot be read"):
            return read()
    except StorageError:
        raise
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise TableError(f"{', '.join(map(str, paths[:5]))}: cannot be read as one table: {error}") from error


def _listed(path: Path | str) -> Sequence[Path | S3Path]:
    """List the data files at or below a path or URL, sorted."""
    if isinstance(path, str):
        found = objects_below(path)
        if len(found) > 1 or str(found[0]) != path.rstrip("/"):
            found = [file for file in found if file.suffix in SUFFIXES]
        if not found or any(SUFFIXES.get(file.suffix) == "csv" for file in found):
            raise TableError(f"{path}: expected .parquet files; copy others to this machine and import them from there")
        return found
    if not path.exists():
        raise TableError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    try:
        below = [Path(folder) / name for folder, name in _walk(path) if Path(name).suffix in SUFFIXES]
    except OSError as error:
        raise TableError(
            f"{error.filename}: cannot be listed: {error.strerror}; mend its rights, or leave it out"
        ) from error
    if not below:
        raise TableError(f"{path}: no .parquet or .csv file in this folder")
    return sorted(below)


def _walk(path: Path) -> Iterator[tuple[str, str]]:
    seen: set[Path] = set()
    # pathlib would leave out what it may not list, and links to folders, without a word
    for folder, folders, names in os.walk(path, onerror=_refuse, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            raise TableError(
                f"{folder}: this link leads to {real} a second time; its rows would count twice, remove the link"
            )
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name != "_temporary"]
        yield from ((folder, name) for name in names if not name.startswith("."))


def _require_commas(path: Path) -> None:
    """Check that the columns of a CSV file are separated by commas."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.readline(1 << 16)
    other = next((mark for mark in (b";", b"\t", b"|") if mark in head and b"," not in head), None)
    if other:
        mark = {b";": "semicolons", b"\t": "tabs", b"|": "bars"}[other]
        raise TableError(f"{path}: its columns are separated by {mark}, expected commas; write it with commas and points")


def _refuse(error: OSError) -> None:
    raise error


def _folder_words(path: Path | str, file: Path | S3Path) -> dict[str, str | None]:
    """Return what the folders between a path and a file below it say, as column -> text."""
    root = S3Path(path.removeprefix(S3)) if isinstance(path, str) else path
    folders = file.relative_to(root).parent.parts if root != file else ()
    pairs = [unquote(name).partition("=")[::2] for name in folders if re.match(r"[^=]+=.", name)]
    return {column: None if word == HIVE_NULL else word for column, word in pairs}


def _typed(words: Sequence[Mapping[str, str | None]]) -> list[pa.Table]:
    """Give the columns of folders' names the type that fits all their values; a column that a file has not is null."""
    columns = dict.fromkeys(column for row in words for column in row)
    texts = {column: pa.array([row.get(column) for row in words], pa.string()) for column in columns}
    typed = {column: values if _is_spelt_id(column, values) else _guessed(values) for column, values in texts.items()}
    whole = pa.table(typed) if typed else None
    return [whole.slice(index, 1) if whole is not None else pa.table({}) for index in range(len(words))]


def _is_spelt_id(column: str, values: pa.Array) -> bool:
    from resources.csv_types import is_plain_number

    return column in KEYS and not is_plain_number(values)


def _guessed(values: pa.Array) -> pa.Array:
    for kind in (pa.int64(), pa.bool_(), pa.float64()) if values.null_count < len(values) else ():
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            continue
    return values
