"""Maintenance of tables: old versions expire, small files are compacted, and files that nothing names are removed."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mimic_core.errors import ConflictError, CorruptFileError, MimicError, SpecError
from resources import compaction, snapshots
from resources.catalogs import explaining
from resources.external import LOCATION
from resources.iceberg import KIND, is_local
from resources.loading import locations
from resources.removal import NOTE, forget_note, removed_since, was_removed
from resources.storage import Storage, storage_at
from resources.usage import InUse

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

KEEP = 7 * 24 * 3600.0  # seconds
GRACE = 24 * 3600.0  # seconds; longer than any import, whose staged files nothing names
UNKNOWN = "(folders of no table)"
PARTS = ("data", "metadata")  # folders of a table
OURS = re.compile(r"data/[\w.-]+-[0-9a-f]{32}-\d{5}\.parquet|metadata/.*")
SHARED = (
    "{} holds files of another table, which another catalog may name, so none was removed: see that MIMIC_CATALOG names the "
    "right catalog (Glue's is one of a region), and import this table under another name"
)
FAILED, NOTHING_LOST = "maintenance failed", "no row is lost. Check free space and rights, then run this again"


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """What maintenance did to one table, or would do.

    Attributes:
        expired: versions removed from its history.
        files, bytes: files removed, with their size.
        compacted, into: small files replaced, and by how many.
        error: why it, or a part of it, was left alone.
    """

    table: str
    expired: int = 0
    files: int = 0
    bytes: int = 0
    compacted: int = 0
    into: int = 0
    error: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How long what is out of use stays.

    Attributes:
        keep: seconds for which an old version stays after it was superseded.
        grace: seconds for which a file that nothing names stays.
        dry_run: only say what would be done.
    """

    in_use: InUse
    keep: float = KEEP
    grace: float = GRACE
    dry_run: bool = False


def maintain(
    name: str,
    load: compaction.Load,
    queue: compaction.Queue,
    terms: Terms,
    pinned: Collection[int],
    warehouse: str,
    *,
    compacts: bool,
) -> Maintained:
    """Expire old versions of a table, compact its small files, and remove files that nothing names any more.

    Args:
        load: loads the table as it is now.
        queue: gives the context in which a commit stands.
        pinned: versions that stay, beside those that unfinished runs pinned.
        warehouse: URL of the folder below which it must lie.
        compacts: whether small files are compacted.

    Raises:
        ConflictError: others kept committing.
        SpecError: it lies elsewhere.
        StorageError: its files cannot be read or written; no row is lost.
        CorruptFileError: a file of its metadata is damaged.
    """
    from pyiceberg.exceptions import CommitFailedException

    try:
        with explaining(f"table {name}", FAILED, NOTHING_LOST):
            table = load()
            if LOCATION in table.properties:
                return Maintained(table=name)  # its files are not ours, and it has no versions
            require_own(table.location(), warehouse, name)
            if KIND not in table.properties and not is_local(table.location()):
                return Maintained(table=name)  # somebody else's, under the same catalog
            pins = {*pinned, *terms.in_use.pins.get(name, ())}
            with queue():
                table = load()
                expired = snapshots.superseded(table, terms.in_use.before(terms.keep), pins)
                if not terms.dry_run:
                    snapshots.expire(table, expired)
            if not compacts:
                before, after = 0, 0
            elif terms.dry_run:
                planned = compaction.groups(load())
                before, after = sum(len(group.tasks) for group in planned), sum(group.files_after for group in planned)
            else:
                before, after = compaction.compact(name, load, queue)
            with queue():  # nobody commits a file while it is looked at
                table = load()
                named = snapshots.named_files(table, expired if terms.dry_run else ())
                folder = storage_at(table.location())
                # what was removed lately, and imported again: the files of the one before were in use until then
                lately = removed_since(folder, terms.in_use.before(terms.grace))
                shared = _shares_its_folder(table, folder, named)
                files, size = (0, 0) if lately or shared else _remove(folder, named, terms)
    except CommitFailedException as error:
        raise ConflictError(f"table {name}: others kept committing; maintain it again later") from error
    except (EOFError, ValueError) as error:
        if isinstance(error, MimicError):
            raise
        raise CorruptFileError(
            f"table {name}: a file of its metadata is damaged: {error}; put it back from a backup"
        ) from error
    said = SHARED.format(table.location()) if shared else None
    return Maintained(table=name, expired=len(expired), files=files, bytes=size, compacted=before, into=after, error=said)


def _shares_its_folder(table: "Table", folder: Storage, named: Collection[str]) -> bool:
    """Tell whether metadata of another table with rows lies in a table's folder, written since the last removal of one.

    What a creation that was killed leaves there has no rows.
    """
    note = folder.status(NOTE)
    for file in folder.files("metadata"):
        if ".metadata.json" not in file.name or snapshots.real_path(folder.url(file.name)) in named:
            continue
        status = file.status
        if status is None or (note is not None and status.changed <= note.changed):
            continue
        with suppress(FileNotFoundError, ValueError):  # removed meanwhile, or half a file that no catalog can name
            found = json.loads(folder.read(file.name))
            if found.get("table-uuid") != str(table.metadata.table_uuid) and found.get("snapshots"):
                return True
    return False


def require_own(location: str, warehouse: str, name: str) -> None:
    """Check that a table lies below the warehouse of the open catalog, which is not so in a copy of another one.

    Raises:
        SpecError: it lies elsewhere.
    """
    found, expected = snapshots.real_path(location), snapshots.real_path(warehouse.rstrip("/"))
    if not found.startswith(f"{expected}/"):
        raise SpecError(
            f"table {name}: its files are in {found}, expected a folder below {expected}; this catalog may be a copy of "
            "that of another MIMIC_HOME, whose table this is. Do this there"
        )


def remove_unknown(warehouse: str, catalog: "Callable[[], Catalog]", terms: Terms) -> Maintained:
    """Remove folders of tables that the catalog does not know, if all that they hold is older than the grace period.

    A folder with metadata of a table is left alone and named, unless the table was removed: another catalog may know it.
    What a creation that was killed leaves are data files without.

    Raises:
        StorageError: the catalog or a table's metadata cannot be read, or a file cannot be removed.
        CorruptFileError: a table's metadata file is damaged, so nobody knows where it lies.
    """
    before = terms.in_use.before(terms.grace)
    root = storage_at(warehouse)
    with explaining(warehouse, FAILED, NOTHING_LOST):
        found = [f"{namespace}/{name}" for namespace in root.folders("") for name in root.folders(namespace)]
        # known last: a table that is made meanwhile is known, or its folder was not found
        known = {snapshots.real_path(location) for location in locations(catalog())}
        files = size = 0
        foreign = []
        named = {database for (database,) in catalog().list_namespaces()}
        for name in found:
            url = root.url(name)
            if not is_local(url) and name.split("/")[0].removesuffix(".db") not in named:
                continue  # a bucket may hold more than tables
            path, folder = snapshots.real_path(url), storage_at(url)
            if any(path == other or other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in known):
                continue
            entries = [file for part in PARTS for file in folder.files(part)]
            facts = [file.status for file in entries]
            if not all(status is not None and status.changed < before for status in facts):
                continue
            if not is_local(url) and not all(OURS.fullmatch(file.name) for file in entries):
                continue
            metadata = [file for file in entries if ".metadata.json" in file.name]
            if metadata and not was_removed(folder, metadata):
                foreign.append(path)
                continue
            removed = _remove(folder, {snapshots.real_path(folder.url(NOTE))}, terms)
            if not terms.dry_run:
                forget_note(folder)
            files, size = files + removed[0], size + removed[1]
    return Maintained(table=UNKNOWN, files=files, bytes=size, error=_foreign(foreign))


def _foreign(folders: Sequence[str]) -> str | None:
    """Say which folders were left alone."""
    if not folders:
        return None
    return (
        f"the catalog knows no table in {', '.join(folders)}, and another one may: see that MIMIC_CATALOG names the "
        "right catalog. Remove by hand what belongs to none"
    )


def in_turn(queue: compaction.Queue, *, dry_run: bool) -> compaction.Queue:
    """Return the queue of committers; who changes nothing need not stand in it."""
    return nullcontext if dry_run else queue


def _remove(table: Storage, named: Collection[str], terms: Terms) -> tuple[int, int]:
    """Remove the files of a table that have no name and are older than the grace period and any unfinished run."""
    before, files, size = terms.in_use.before(terms.grace), 0, 0
    for file in (file for part in PARTS for file in table.files(part)):
        status = file.status
        if status is None or status.changed >= before or snapshots.real_path(table.url(file.name)) in named:
            continue
        if not terms.dry_run:
            table.remove(file.name)
        files, size = files + 1, size + status.bytes
    return files, size
