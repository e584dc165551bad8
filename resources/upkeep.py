"""Upkeep: the maintenance of all tables, one after the other."""

from collections.abc import Callable, Iterator, Sequence

from mimic_core.errors import MimicError, NotFoundError, did_you_mean
from mimic_core.specs import contrast_folder
from resources.artefacts import ArtefactStore
from resources.maintenance import UNKNOWN, Maintained, Terms
from resources.tables import TableStore


def maintain_all(
    tables: TableStore, artefacts: ArtefactStore, names: Sequence[str], terms: Callable[[], Terms]
) -> Iterator[Maintained]:
    """Maintain tables one after the other; one that cannot be maintained is left alone and says why.

    Args:
        names: none means all tables, and the folders of tables that the catalog does not know.
        terms: asked for every table anew, because a build may begin after the table before.

    Raises:
        NotFoundError: there is no table of a name; nothing was changed.
        StorageError: the catalog cannot be read; nothing was changed.
    """
    listed = tables.listed()
    for name in names:
        if name not in listed:
            known = ", ".join(listed) or "none yet"
            raise NotFoundError(f"there is no table {name}{did_you_mean(name, listed)}; the tables are {known}")
    for name in dict.fromkeys(names or listed):
        try:
            # datasets read the version of a contrast set that its manifest names; who reads this manifest while it is
            # being replaced began before the question who runs, which comes second
            manifest = artefacts.manifest(contrast_folder(name))
            yield tables.maintain(name, terms(), pinned=[manifest["snapshot"]] if manifest else [])
        except MimicError as error:
            yield Maintained(table=name, error=str(error))
    if not names:
        try:
            yield tables.remove_unknown(terms())
        except MimicError as error:
            yield Maintained(table=UNKNOWN, error=str(error))
