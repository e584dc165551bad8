"""Loading: the tables of a catalog as they are now; one whose metadata cannot be read is an error that names it."""

from typing import TYPE_CHECKING

from mimic_core.errors import CorruptFileError, MimicError, StorageError
from resources.catalogs import explaining

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

CANNOT_READ = "cannot be read"
ADVICE = "check MIMIC_CATALOG, and that the table's files are there and may be read, then run this again"


def load_table(catalog: "Catalog", name: str) -> "Table | None":
    """Load a table as it is now; None when there is none of this name.

    Raises:
        StorageError: its metadata file is gone, or the catalog does not answer.
        CorruptFileError: its metadata file is damaged.
    """
    from pyiceberg.exceptions import NoSuchTableError, ValidationError

    try:
        with explaining(f"table {name}", CANNOT_READ, ADVICE):
            return catalog.load_table(name)
    except NoSuchTableError:
        return None
    except MimicError:
        raise
    except (ValidationError, ValueError) as error:
        raise CorruptFileError(f"table {name}: its metadata file is damaged: {error}; put it back from a backup") from error


def list_tables(catalog: "Catalog") -> list[str]:
    """List all tables of a catalog, sorted, also those that hold no version yet.

    Raises:
        StorageError: the catalog does not answer.
    """
    with explaining("the catalog", CANNOT_READ, ADVICE):
        return sorted(".".join(name) for namespace in catalog.list_namespaces() for name in catalog.list_tables(namespace))


def load_all(catalog: "Catalog") -> "dict[str, Table | None]":
    """Load all tables of a catalog by their names, sorted; None stands for one that cannot be read.

    Raises:
        StorageError: the catalog does not answer.
    """
    found: dict[str, Table | None] = {}
    for name in list_tables(catalog):
        try:
            table = load_table(catalog, name)
        except (CorruptFileError, StorageError):
            found[name] = None
        else:
            if table is not None:  # else it was dropped meanwhile
                found[name] = table
    return found


def locations(catalog: "Catalog") -> list[str]:
    """List where the tables of a catalog lie.

    Raises:
        StorageError: the catalog or the metadata file of a table cannot be read.
        CorruptFileError: the metadata file of a table is damaged.
    """
    tables = (load_table(catalog, name) for name in list_tables(catalog))
    return [table.location() for table in tables if table is not None]
