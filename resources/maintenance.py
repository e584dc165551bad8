"""Maintenance of tables: old versions expire, small files are compacted, and files that nothing names are removed."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_core.errors import ConflictError, MimicError, NotFoundError, StorageError, did_you_mean
from mimic_core.specs import contrast_folder
from resources import compaction, snapshots
from resources.artefacts import ArtefactStore
from resources.external import LOCATION
from resources.iceberg import local_path
from resources.listing import files_below, folders_of, size_and_change
from resources.usage import InUse

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from resources.tables import TableStore

KEEP = 7 * 24 * 3600.0  # seconds
GRACE = 24 * 3600.0  # seconds; longer than any import, whose staged files nothing names
UNKNOWN = "(unknown tables)"


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """What maintenance did to one table, or would do.

    Attributes:
        expired: versions removed from its history.
        files, bytes: files removed, with their size.
        compacted, into: small files replaced, and by how many.
        error: why it was left alone.
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


def maintain_all(tables: "TableStore", artefacts: ArtefactStore, names: Sequence[str], terms: Terms) -> Iterator[Maintained]:
    """Maintain tables one after the other; one that cannot be maintained is left alone and says why.

    Args:
        names: none means all tables, and the folders of tables that the catalog does not know.

    Raises:
        NotFoundError: there is no table of a name; nothing was changed.
    """
    listed = tables.listed()
    for name in names:
        if name not in listed:
            known = ", ".join(listed) or "none yet"
            raise NotFoundError(f"there is no table {name}{did_you_mean(name, listed)}; the tables are {known}")
    for name in dict.fromkeys(names or listed):
        try:
            # datasets read the version of a contrast set that its manifest names
            manifest = artefacts.manifest(contrast_folder(name))
            yield tables.maintain(name, terms, pinned=[manifest["snapshot"]] if manifest else [])
        except MimicError as error:
            yield Maintained(table=name, error=str(error))
    if not names:
        yield tables.remove_unknown(terms)


def maintain(
    name: str, load: compaction.Load, queue: compaction.Queue, terms: Terms, pinned: Collection[int], *, compacts: bool
) -> Maintained:
    """Expire old versions of a table, compact its small files, and remove files that nothing names any more.

    Args:
        load: loads the table as it is now.
        queue: gives the context in which a commit stands.
        pinned: versions that stay, beside those that unfinished runs pinned.
        compacts: whether small files are compacted.

    Raises:
        ConflictError: others kept committing.
        StorageError: its files cannot be read or written; no row is lost.
    """
    from pyiceberg.exceptions import CommitFailedException

    if LOCATION in load().properties:
        return Maintained(table=name)  # its files are not ours, and it has no versions
    pins = {*pinned, *terms.in_use.pins.get(name, ())}
    try:
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
            folders = [local_path(table.location()) / part for part in ("data", "metadata")]
            files, size = _remove(folders, named, terms)
    except CommitFailedException as error:
        raise ConflictError(f"table {name}: others kept committing; maintain it again later") from error
    except OSError as error:
        if isinstance(error, MimicError):
            raise
        raise StorageError(
            f"table {name}: {error}; no row is lost. Check free space and rights, then run this again"
        ) from error
    return Maintained(table=name, expired=len(expired), files=files, bytes=size, compacted=before, into=after)


def remove_unknown(warehouse: Path, catalog: "Callable[[], Catalog]", terms: Terms) -> Maintained:
    """Remove folders of tables that the catalog does not know, if all that they hold is older than the grace period."""
    before = terms.in_use.before(terms.grace)
    found = [folder for namespace in folders_of(warehouse) for folder in folders_of(namespace)]
    # known last: a table that is made meanwhile is known, or its folder was not found
    known = {snapshots.real_path(location) for location in locations(catalog())}
    files = size = 0
    for folder in found:
        path = snapshots.real_path(str(folder))
        if any(path == other or other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in known):
            continue
        parts = [folder / part for part in ("data", "metadata")]
        facts = [size_and_change(entry) for part in parts for entry in files_below(part)]
        if all(fact is not None and fact[1] < before for fact in facts):
            removed = _remove(parts, set(), terms)
            files, size = files + removed[0], size + removed[1]
    return Maintained(table=UNKNOWN, files=files, bytes=size)


def listed(catalog: "Catalog") -> list[str]:
    """List all tables of a catalog, sorted, also those that hold no version yet."""
    return sorted(".".join(name) for namespace in catalog.list_namespaces() for name in catalog.list_tables(namespace))


def locations(catalog: "Catalog") -> list[str]:
    """List where the tables of a catalog lie."""
    return [catalog.load_table(name).location() for name in listed(catalog)]


def in_turn(queue: compaction.Queue, *, dry_run: bool) -> compaction.Queue:
    """Return the queue of committers; who changes nothing need not stand in it."""
    return nullcontext if dry_run else queue


def _remove(folders: Sequence[Path], named: Collection[str], terms: Terms) -> tuple[int, int]:
    """Remove the files below folders that have no name and are older than the grace period and any unfinished run."""
    before, files, size = terms.in_use.before(terms.grace), 0, 0
    for folder in folders:
        for entry in files_below(folder):
            fact = size_and_change(entry)
            if fact is None or fact[1] >= before or snapshots.real_path(entry.path) in named:
                continue
            if not terms.dry_run:
                Path(entry.path).unlink(missing_ok=True)
            files, size = files + 1, size + fact[0]
    return files, size
