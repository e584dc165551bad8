"""Tables: the one door to Apache Iceberg, by pyiceberg. A table is named `database.table`.

Workers `stage` Parquet files without touching the catalog; one finisher `replace`s the rows of a key with them in a single
transaction. Readers `pin` one snapshot and stream it.
"""

import fcntl
import hashlib
import re
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg
import pyarrow as pa

from mimic_core.errors import ConflictError, NotFoundError, SpecError, TableError, did_you_mean
from mimic_core.filters import Condition, check_filter, equalities, selected_rows
from mimic_core.manifests import fingerprint
from mimic_core.shards import Part, RowGroup
from mimic_core.sources import INDIVIDUAL, TRAIN
from mimic_core.wording import listed
from resources import blocks, exports, external, maintenance, reading, removal
from resources.aws import iceberg_properties
from resources.catalogs import ensure_database, explaining, glue_databases, metadata_locations, open_catalog
from resources.columns import add_missing, missing_columns, require_columns, still_fit
from resources.commits import retry
from resources.files import find_files
from resources.iceberg import (
    KIND,
    TOKEN,
    WRITE,
    content_token,
    equal,
    file_hash,
    landed,
    origin,
    plain_schema,
    transaction_for,
)
from resources.imports import open_files, standard_parts
from resources.loading import ADVICE, CANNOT_READ, list_tables, load_all, load_table
from resources.plain_tables import glue_table, glue_tables, is_parquet, plain_location
from resources.reading import counted, read_batches
from resources.staging import Staged, column_ids, delete_files, require_staged, write_files
from resources.storage import S3, storage_at

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

SOURCE, CONTRAST, RESULTS, INFERENCE = "source", "contrast", "results", "inference"
MOST_NAMED = 20  # tables in a message
SHARED = (RESULTS, INFERENCE)  # by runs, whose columns may differ
PROPERTIES = {
    "commit.retry.num-retries": "0",  # pyiceberg waits up to a minute, and keeps the token of the rows it first saw
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
    "write.parquet.compression-codec": "zstd",
}


class OnRows(Protocol):
    """Is told how far a stage of reading is."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One immutable version of one table; plain values, so it can travel between steps.

    Attributes:
        location, columns: of a table that is registered where its files lie; else empty and None.
    """

    name: str
    snapshot: int
    schema_id: int
    token: str
    kind: str
    rows: int
    location: str = ""
    columns: pa.Schema | None = None


class TableStore(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Iceberg tables of one catalog.

    Attributes:
        catalog_uri: SQLAlchemy URL of the catalog's database, or the databases of Glue, see `resources.catalogs`.
        warehouse: URL of the folder that holds the tables' files, `file://` or `s3://`.
        locks: folder of lock files by which committers on one machine queue; only speed, the catalog decides.
    """

    catalog_uri: str
    warehouse: str
    locks: str

    # ---- reading

    def names(self, *kinds: str) -> list[str]:
        """List the tables that hold a version, sorted; of some kinds, or all.

        One that cannot be read is listed too, whatever it is for; who reads it is told why.
        """
        found = self._kinds().items()
        return [name for name, kind in found if not kinds or kind is None or kind in kinds]

    def locations(self) -> dict[str, str]:
        """Return the metadata file of the present version of every table; no table is read for it.

        Raises:
            StorageError: the catalog cannot be read.
        """
        return metadata_locations(self.catalog_uri, self.warehouse)

    def exists(self, name: str) -> bool:
        """Tell whether there is a table of this name."""
        return load_table(self._catalog, table_name(name)) is not None or self._plain(name) is not None

    def pin(self, name: str, version: int | None = None) -> Pin:
        """Pin a version of a table, its present one unless told; later commits do not show in it.

        Args:
            version: a snapshot of the table.

        Raises:
            NotFoundError: there is no such table or version.
        """
        if plain := self._plain(name):
            return Pin(name=name, snapshot=0, schema_id=0, kind=SOURCE, **external.describe_files(plain, name))
        table = self._load(name)
        if version is None and external.LOCATION in table.properties:
            return Pin(name=name, snapshot=0, schema_id=0, kind=SOURCE, **external.describe(table.properties, name))
        snapshot = table.current_snapshot() if version is None else self._snapshot(table, version, name)
        if snapshot is None and table.properties.get(KIND, SOURCE) == SOURCE:
            raise NotFoundError(f"table {name} has no rows: its first import was interrupted; import it again")
        properties = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
        # columns may be newer than the newest rows
        current = table.metadata.current_schema_id
        schema_id = snapshot.schema_id if version is not None and snapshot and snapshot.schema_id is not None else current
        return Pin(
            name=name,
            snapshot=snapshot.snapshot_id if snapshot else 0,
            schema_id=schema_id,
            token=content_token(origin(table, snapshot)),
            kind=table.properties.get(KIND, SOURCE),
            rows=int(properties.get("total-records", 0)),
        )

    def pin_files(self, location: Path, used: Collection[str]) -> Pin:
        """Pin Parquet or CSV files that are no table of the catalog, which is not opened; they are read as a table is.

        Args:
            location: a file, or a folder of files; messages name it as the table.
            used: the columns that are going to be read, as far as they are there.

        Raises:
            TableError: nothing is there, it cannot be read as one table, or it has no rows.
            ConflictError: the files are changed at this very moment.
        """
        find_files([location])  # that says what is wrong with a path, where a pin says what is wrong with a table
        facts = external.describe_files(str(location), str(location), used)
        if not facts["rows"]:
            raise TableError(f"{location}: there are no rows; expected a decision table")
        return Pin(name=str(location), snapshot=0, schema_id=0, kind=SOURCE, **facts)

    def schema_of(self, pin: Pin) -> pa.Schema:
        """Return the columns and types of a pinned version."""
        return pin.columns if pin.columns is not None else self._columns(pin)[0]

    def field_ids(self, pin: Pin) -> dict[str, int]:
        """Return the ids of the columns of a pinned version; a column that is dropped and added again has another id.

        The files of a registered table have no ids, so it has none.
        """
        return {} if pin.columns is not None else dict(self._columns(pin)[1])

    def changed_at(self, pin: Pin) -> float:
        """Return when the rows of a pinned version were committed, in seconds since 1970."""
        if pin.location:
            return external.require_unchanged(pin.location, pin.name, pin.token).changed
        table = self._load(pin.name)
        snapshot = origin(table, table.snapshot_by_id(pin.snapshot))
        return snapshot.timestamp_ms / 1000 if snapshot else 0.0

    def metadata_file(self, name: str) -> str:
        """Return the URL of the metadata file of a table's present version, from which other engines read it."""
        return self._load(name).metadata_location

    def batches(
        self, pin: Pin, columns: Sequence[str] | None = None, where: Mapping[str, Any] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream a pinned version; memory does not grow with the size of its files.

        Args:
            columns: to read, in this order; None reads all.
            where: column -> value; only rows with these values, other files are not opened.

        Raises:
            ConflictError: the files of a registered table were changed since the pin.
        """
        with explaining(f"table {pin.name}", CANNOT_READ, ADVICE):
            if pin.columns is not None:
                yield from external.read_rows(pin.location, pin.name, pin.token, pin.columns, columns, where)
            elif pin.snapshot:
                yield from read_batches(self._at(pin), columns, where)

    def first_rows(self, pin: Pin, columns: Sequence[str], rows: int, where: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the first rows of a pinned version, fewer where it has not as many; arguments as `batches` takes them.

        Raises:
            ConflictError: the files of a registered table were changed since the pin.
        """
        schema = pa.schema([self.schema_of(pin).field(name) for name in columns])
        return reading.first_rows(self.batches(pin, columns, where), schema, rows)

    def row_groups(self, pin: Pin) -> list[RowGroup] | None:
        """List the row groups of a pinned version with what is known of them; None where they cannot be read one by one."""
        with explaining(f"table {pin.name}", CANNOT_READ, ADVICE):
            if pin.columns is not None:
                return external.row_groups(pin.location, pin.name, pin.token)
            return reading.row_groups(self._at(pin)) if pin.snapshot else []

    def blocks(
        self,
        pin: Pin,
        columns: pa.Schema,
        part: Part,
        on_spill: Callable[[float], None] = lambda _: None,
        on_rows: OnRows = lambda *_, **__: None,
    ) -> Iterator[pa.Table]:
        """Stream the rows of some shards of a pinned version, a bounded number of whole individuals at a time.

        Blocks follow each other by individual (by surrogate, where ids are text); rows within a block are in any order.

        Args:
            columns: to read, `_individual` among them.
            on_spill: told how many bytes are about to be written to temporary files, when that must be.
            on_rows: told, again and again, what is done with the rows, how many are done, and how many there are.

        Raises:
            ConflictError: the files of a registered table were changed since the pin.
            StorageError: temporary files could not be written.
        """
        row_bytes = blocks.row_bytes(columns, chain.from_iterable(self._groups(pin, columns.names, part)))
        rows = pin.rows if part.row_groups is None else sum(group.rows for group in part.row_groups)
        if blocks.holds_all(part, rows, row_bytes):
            try:
                read = blocks.counted(self._groups(pin, columns.names, part), partial(on_rows, "read", total=rows))
                yield from blocks.held_blocks(part, read, columns)
            except TableError:
                if pin.location:  # that files were changed tells more than what is wrong with their rows
                    external.require_unchanged(pin.location, pin.name, pin.token)
                raise
            return
        on_spill(rows * part.share * row_bytes)
        ids = [name for name in (INDIVIDUAL, TRAIN) if name in columns.names]
        first, rows_read = (
            chain.from_iterable(blocks.counted(self._groups(pin, names, part), partial(on_rows, stage, total=rows)))
            for names, stage in ((ids, "looked through"), (columns.names, "read and written to temporary files"))
        )
        done = partial(on_rows, "done", total=round(rows * part.share))
        yield from blocks.spilled_blocks(part, first, rows_read, columns, row_bytes, done)

    def _groups(self, pin: Pin, columns: Sequence[str], part: Part) -> Iterator[Iterator[pa.RecordBatch]]:
        if part.row_groups is None:
            yield self.batches(pin, columns)
            return
        with explaining(f"table {pin.name}", CANNOT_READ, ADVICE):
            if pin.columns is not None:
                yield from external.read_groups(pin.location, pin.name, pin.token, pin.columns, columns, part.row_groups)
            elif part.row_groups:
                groups = reading.read_groups(self._at(pin), columns, part.row_groups)
                yield from (_explained(pin.name, group) for group in groups)  # they are read outside of this context

    # ---- writing

    def ensure(self, name: str, schema: pa.Schema, *, kind: str, partition_by: Sequence[str] = ()) -> None:
        """Create a table unless it is there, and check that it can hold rows of this schema.

        A table that runs share and that lacks some of the columns gets them: what its runs have differs.

        Raises:
            TableError: the table has another purpose, or other columns or types.
            ConflictError: others kept changing the table.
        """
        self._make(name, schema, {KIND: kind}, partition_by)
        self.require_kind(name, kind)
        if kind in (SOURCE, CONTRAST):
            return  # such a table takes the columns of the rows that replace it
        if kind in SHARED:
            self._add_columns(name, schema, kind)
        require_columns(self.schema_of(self.pin(name)), schema, name, kind)

    def kind(self, name: str) -> str | None:
        """Tell what a table is for; None when there is none of this name."""
        table = load_table(self._catalog, table_name(name))
        if table is None:
            return SOURCE if self._plain(name) else None
        return table.properties.get(KIND, SOURCE)

    def require_kind(self, name: str, *kinds: str) -> None:
        """Refuse a table that serves another purpose; a table that is not there passes.

        Raises:
            TableError: for example a source table where results should go.
        """
        if (found := self.kind(name)) not in (None, *kinds):
            raise TableError(f"table {name} holds {found} rows, expected {' or '.join(kinds)} rows; give another name")

    def stage(self, name: str, data: Iterable[pa.Table], label: str = "rows", columns: pa.Schema | None = None) -> Staged:
        """Write Parquet files under a table's location, touching no catalog.

        Args:
            label: begins the files' names; a table is read in the order of its files' names.
            columns: those that the table will have when these files replace its rows; None keeps the present ones.

        Raises:
            StorageError: they could not be written; nothing is left behind.
        """
        return self._stage(name, data, label, columns, append=False)

    def append(
        self, name: str, staged: Sequence[Staged], *, columns: pa.Schema | None = None, content: Sequence[str] = ()
    ) -> Pin:
        """Add staged rows to those of a table in one commit, which can be repeated as that of `replace`.

        Args:
            columns: of the new rows, as given to `stage`; None keeps the present ones.
            content: hashes of the new rows; the new version's token follows from the present one and these. Without them it
                is one that no other commit has.

        Raises:
            TableError: the rows do not fit the table's columns.
            ConflictError: others kept committing first, or changed the columns.
        """

        def token(table: "Table") -> str | None:
            return fingerprint([content_token(origin(table, table.current_snapshot())), *content])[:24] if content else None

        return self._commit(name, staged, None, columns, token, append=True)

    def discard(self, staged: Staged) -> None:
        """Remove files that no commit will name."""
        delete_files(self._io, staged.paths)

    @contextmanager
    def discarding(self, name: str, staged: Sequence[Staged]) -> Iterator[None]:
        """Remove staged files if their commit, within the context, is lost to another writer."""
        try:
            yield
        except ConflictError:
            if landed(self._load(name), _write_id(staged)) is None:  # a table's history may name them
                for part in staged:
                    self.discard(part)
            raise

    def replace(
        self,
        name: str,
        staged: Sequence[Staged],
        where: Mapping[str, Any] | None,
        *,
        columns: pa.Schema | None = None,
        token: str | None = None,
    ) -> Pin:
        """Replace the rows of a key by staged ones in one commit; None replaces all rows.

        A reader sees the old rows or the new ones. The call can be repeated: files that a commit has named land once.

        Args:
            columns: the table's new columns, as given to `stage`; None keeps the present ones.
            token: the content token of the new version; None makes one that no other commit has.

        Raises:
            ConflictError: others kept committing first, or changed the columns.
        """
        pin = self._commit(name, staged, where, columns, lambda _: token)
        table = self._load(name)
        current = origin(table, table.current_snapshot())
        if where is None and current is not None and current.snapshot_id != pin.snapshot:
            raise ConflictError(f"table {name}: another build replaced these rows meanwhile; build again")
        return pin

    # ---- people's files

    def import_files(
        self,
        name: str,
        paths: Sequence[Path | str],
        *,
        append: bool = False,
        on_rows: Callable[[int], None] = lambda _: None,
    ) -> Pin:
        """Copy Parquet or CSV files or folders into a source table in one commit.

        Args:
            paths: of this machine, or URLs of S3.
            append: add to the table instead of replacing its rows and columns.
            on_rows: called with the number of rows read so far.

        Raises:
            TableError: files that cannot be read, or whose columns do not fit each other or the table.
        """
        self.require_kind(name, SOURCE)
        self._require_not_plain(name)
        files, schema = open_files(paths)
        staged = self._stage(name, standard_parts(files, schema, on_rows), "import", schema, append=append)
        if not staged.rows:
            self.discard(staged)
            raise TableError(f"{', '.join(map(str, paths))}: there are no rows; expected a decision table")
        # equal rows in equal files are equal content, so an import that is repeated changes nothing downstream
        content = list(staged.sha256) or [file_hash(path) for path in staged.paths]
        try:
            self.ensure(name, schema, kind=SOURCE)
            if append:
                return self.append(name, [staged], columns=schema, content=content)
            return self._commit(name, [staged], None, schema, lambda _: fingerprint(content)[:24])
        except (ConflictError, TableError):
            self.discard(staged)  # after anything else it may have landed
            raise

    def register(self, name: str, location: Path | str) -> Pin:
        """Make a source table of a Parquet file or folder where it lies; again, also elsewhere, moves the registration.

        Args:
            location: a path, or a URL of S3.

        Raises:
            TableError: there are no such files, or the name is that of a table that holds rows.
            ConflictError: others kept changing the table.
        """
        place = str(location if str(location).startswith(S3) else Path(location).absolute())
        self.require_kind(name, SOURCE)
        self._require_not_plain(name)
        external.require_parquet(place, name)
        properties = external.properties(place)
        # at once with what makes it a registered one: a kill leaves it, or nothing
        self._make(name, pa.schema([]), {KIND: SOURCE, **properties})

        def move() -> None:
            with explaining(f"table {name}"), self._queue(name):
                table = self._load(name)
                if table.current_snapshot():
                    raise TableError(f"table {name} holds imported rows; register the files under another name")
                if table.properties.get(external.LOCATION) != properties[external.LOCATION]:
                    table.transaction().set_properties(properties).commit_transaction()

        self.require_kind(name, SOURCE)
        retry(name, move)
        return self.pin(name)

    def registered_at(self, name: str) -> str:
        """Return where the files of a registered table lie; empty for a table with rows of its own.

        Raises:
            NotFoundError: there is no such table.
        """
        if plain := self._plain(name):
            return plain
        properties = self._load(name).properties
        return external.place_of(properties) if external.LOCATION in properties else ""

    def remove(self, name: str) -> None:
        """Take a source table out of the catalog; maintenance removes its files later, but never those of a registered one.

        Raises:
            NotFoundError: there is no such table.
            TableError: it serves another purpose.
            SpecError: its files are not in the warehouse of this store.
        """
        from pyiceberg.exceptions import NoSuchTableError

        self.require_kind(name, SOURCE)
        self._require_not_plain(name)
        with explaining(f"table {name}"), self._queue(name):
            location = self._load(name).location()
            maintenance.require_own(location, self.warehouse, name)
            with ExitStack() as unless_dropped:
                removal.note_removal(storage_at(location))  # first: a kill in between leaves the table
                unless_dropped.callback(removal.forget_note, storage_at(location))
                with suppress(NoSuchTableError):  # somebody else was faster, or the first answer was lost
                    self._catalog.drop_table(table_name(name))
                unless_dropped.pop_all()

    def export(
        self, pin: Pin, file: Path, where: Sequence[Condition] = (), *, on_rows: Callable[[int], None] = lambda _: None
    ) -> int:
        """Write the rows of a pinned version for which conditions hold to a Parquet or CSV file; returns their number.

        Args:
            on_rows: called with the number of rows read so far.

        Raises:
            SpecError: the file's name ends in no format of an export, or there is no such folder.
            TableError: the table does not fit the conditions.
            StorageError: the file could not be written; what was there before is unchanged.
        """
        exports.require_target(file)
        schema = self.schema_of(pin)
        check_filter(where, schema, pin.name)
        read = counted(self.batches(pin, where=equalities(where, schema)), on_rows)
        chosen = (batch.filter(pa.array(selected_rows(batch, where))) for batch in read)
        return exports.write_file(chosen, schema, file)

    # ---- maintenance

    def listed(self) -> list[str]:
        """List all tables, sorted, also those that hold no version yet."""
        return list_tables(self._catalog)

    def maintain(self, name: str, terms: maintenance.Terms, pinned: Collection[int] = ()) -> maintenance.Maintained:
        """Expire old versions of a table, compact its small files, and remove files that nothing names any more.

        Neither rows nor the content token change, and unfinished runs are undisturbed.

        Args:
            pinned: versions that stay, beside those that unfinished runs pinned.

        Raises:
            ConflictError: others kept committing.
            SpecError: its files are not in the warehouse of this store.
            StorageError: its files cannot be read or written; no row is lost.
        """
        queue = maintenance.in_turn(lambda: self._queue(name), dry_run=terms.dry_run)
        # of a contrast set only the version that its manifest names is read, and a build replaces all of it
        compacts = self.kind(name) != CONTRAST
        load = partial(self._load, name)
        return maintenance.maintain(name, load, queue, terms, pinned, self.warehouse, compacts=compacts)

    def remove_unknown(self, terms: maintenance.Terms) -> maintenance.Maintained:
        """Remove old folders of tables that the catalog does not know, such as those of a creation that was killed."""
        return maintenance.remove_unknown(self.warehouse, lambda: self._catalog, terms)

    # ---- pyiceberg

    @cached_property
    def _catalog(self) -> "Catalog":
        with self._queue(".opening"):  # the first to open it makes its tables
            return open_catalog(self.catalog_uri, self.warehouse)

    @cached_property
    def _databases(self) -> list[str]:
        return glue_databases(self.catalog_uri)

    def _kinds(self) -> dict[str, str | None]:
        """Return what every table that holds a version is for, sorted by name; None of one that cannot be read."""
        found: dict[str, str | None] = dict.fromkeys(self._plain_names(), SOURCE)
        for name, table in load_all(self._catalog).items():
            if table is None or table.current_snapshot() or external.LOCATION in table.properties:
                found[name] = None if table is None else table.properties.get(KIND, SOURCE)
        return dict(sorted(found.items()))

    def _plain(self, name: str) -> str | None:
        """Return where a plain table of Glue is, as a pin says it; None where the name is that of none."""
        database = table_name(name).split(".")[0]
        return plain_location(glue_table(name)) if database in self._databases else None

    def _plain_names(self) -> list[str]:
        if not self._databases:
            return []
        return [f"{found['DatabaseName']}.{found['Name']}" for found in glue_tables(self._databases) if is_parquet(found)]

    def _require_not_plain(self, name: str) -> None:
        if self._plain(name):
            raise TableError(
                f"table {name} is a plain one of Glue, whose files others write, and is only read; give another name"
            )

    @cached_property
    def _io(self) -> "FileIO":
        from pyiceberg.io import load_file_io

        return load_file_io(iceberg_properties() if self.warehouse.startswith(S3) else {}, self.warehouse)

    def _columns(self, pin: Pin) -> tuple[pa.Schema, dict[str, int]]:
        """Return the columns of a pin and their ids."""
        return self._kept_columns(pin) if pin.snapshot else self._read_columns(pin)

    @cached_property
    def _kept_columns(self) -> Callable[[Pin], tuple[pa.Schema, dict[str, int]]]:
        """The same of a version, whose columns never change, so that few are read twice: a catalog may be far away."""
        return lru_cache(maxsize=256)(self._read_columns)

    def _read_columns(self, pin: Pin) -> tuple[pa.Schema, dict[str, int]]:
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        schema = self._load(pin.name).schemas()[pin.schema_id]
        ids = {field.name: field.field_id for field in schema.fields}
        return plain_schema(schema_to_pyarrow(schema, include_field_ids=False)), ids

    def _make(self, name: str, schema: pa.Schema, properties: Mapping[str, str], partition_by: Sequence[str] = ()) -> None:
        """Create a table unless it is there."""
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

        identifier = table_name(name)
        with explaining(f"table {name}"), self._queue(".creating"):
            if not self.exists(name):
                ensure_database(self._catalog, identifier)
                # another machine may make it at the same moment
                with suppress(TableAlreadyExistsError, CommitFailedException):
                    self._create(identifier, schema, {**PROPERTIES, **properties}, partition_by)

    def _create(self, identifier: str, schema: pa.Schema, properties: dict[str, str], partition_by: Sequence[str]) -> None:
        with self._catalog.create_table_transaction(identifier, schema=schema, properties=properties) as transaction:
            if partition_by:
                with transaction.update_spec() as spec:
                    for column in partition_by:
                        spec.add_identity(column)

    def _add_columns(self, name: str, schema: pa.Schema, kind: str) -> None:
        def add() -> None:
            with explaining(f"table {name}"), self._queue(name):
                add_missing(self._load(name), schema)

        have = self.schema_of(self.pin(name))
        if missing_columns(have.names, schema):
            require_columns(have, schema, name, kind, lacking=True)
            retry(name, add)

    def _load(self, name: str) -> "Table":
        table = load_table(self._catalog, table_name(name))
        if table is None:
            if name.split(".")[0] in self._databases and glue_table(name):
                raise NotFoundError(
                    f"table {name} is in Glue, but neither as Iceberg nor as plain Parquet, such as CSV, Delta, Hudi or a "
                    "view, and cannot be read; make a table of Parquet of it there, such as by Athena's CREATE TABLE AS"
                )
            names = self._kinds()
            written = [other for other, kind in names.items() if kind in (None, *SHARED)]
            read = listed([other for other in names if other not in written], MOST_NAMED)
            raise NotFoundError(
                f"there is no table {name}{did_you_mean(name, names)}; the tables are {read or 'none yet'}"
                f"{f', beside those of results and inferences: {listed(written, MOST_NAMED)}' if written else ''}; "
                "import one with `mimic tables import DATABASE.TABLE FILE`, "
                "or make a contrast set with `mimic log-odds build-contrast CONFIG`"
            )
        return table

    def _at(self, pin: Pin) -> "Table":
        """Load a table as it was at a pin: its rows and its columns."""
        table = self._load(pin.name)
        self._snapshot(table, pin.snapshot, pin.name)
        table.metadata = table.metadata.model_copy(
            update={"current_snapshot_id": pin.snapshot, "current_schema_id": pin.schema_id, "refs": {}}
        )
        return table

    def _snapshot(self, table: "Table", version: int, name: str) -> "Snapshot":
        snapshot = table.snapshot_by_id(version)
        if snapshot is None:
            raise NotFoundError(f"table {name}: version {version} is gone; start the build again")
        return snapshot

    def _stage(self, name: str, data: Iterable[pa.Table], label: str, columns: pa.Schema | None, *, append: bool) -> Staged:
        if columns is not None and not self.exists(name):
            # what it will be when it is made, which is done when there are rows for it
            with explaining(f"table {name}"):
                ensure_database(self._catalog, table_name(name))
            new = self._catalog.create_table_transaction(table_name(name), schema=columns, properties=PROPERTIES)
            location, schema = new.table_metadata.location, new.table_metadata.schema()
            return write_files(self._io, f"{location}/data/{label}", schema, data, name)
        table = self._load(name)
        external.require_writable(table.properties, name)
        schema = transaction_for(table, columns, append=append).table_metadata.schema()
        return write_files(self._io, f"{table.location()}/data/{label}", schema, data, name)

    def _commit(
        self,
        name: str,
        staged: Sequence[Staged],
        where: Mapping[str, Any] | None,
        columns: pa.Schema | None,
        token: Callable[["Table"], str | None],
        *,
        append: bool = False,
    ) -> Pin:
        paths = [path for part in staged for path in part.paths]
        write = _write_id(staged)

        def commit() -> Pin:
            with explaining(f"table {name}"), self._queue(name), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Delete operation did not match any records")
                table = self._load(name)
                external.require_writable(table.properties, name)
                if not landed(table, write):
                    require_staged(self._io, staged, name)
                    transaction = transaction_for(table, columns, append=append)
                    present = column_ids(transaction.table_metadata.schema())
                    shared = table.properties.get(KIND) in SHARED
                    if not all(still_fit(part.columns, present, may_grow=shared) for part in staged):
                        raise ConflictError(f"table {name}: its columns were changed meanwhile; start again")
                    note = {WRITE: write, TOKEN: token(table) or write}
                    if not append:
                        # always, also on an empty table: it makes a concurrent commit of the same key a conflict
                        transaction.delete(equal(where), snapshot_properties=note)
                    if paths:
                        transaction.add_files(paths, snapshot_properties=note, check_duplicate_files=False)
                    table = transaction.commit_transaction()
            return self.pin(name, landed(table, write))

        # the staged files stay, only metadata is written anew
        return retry(name, commit)

    @contextmanager
    def _queue(self, name: str) -> Iterator[None]:
        path = Path(self.locks) / name
        with explaining(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        with lock:  # the kernel drops it when a process dies
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _explained(name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with explaining(f"table {name}", CANNOT_READ, ADVICE):
        yield from batches


def table_name(name: str) -> str:
    """Return a name if it has the form `database.table`.

    Raises:
        SpecError: it has not.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}\.[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        raise SpecError(f"expected a table as DATABASE.TABLE, such as haven.example_log_odds_features, found {name!r}")
    return name


def _write_id(staged: Sequence[Staged]) -> str:
    """Return what a commit of these files is called in the table's history."""
    paths = sorted(path for part in staged for path in part.paths)
    return hashlib.sha256("\n".join(paths or [uuid.uuid4().hex]).encode()).hexdigest()[:24]
