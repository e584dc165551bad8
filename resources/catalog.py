"""Catalog: the SQL database that names the present version of every table; opening it, and what its failures mean."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mimic_core.errors import StorageError
from resources.iceberg import local_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

BUSY_SECONDS = 60  # that a commit waits for another one, where SQLite's 5 are few on a slow disk
RETRIES = 5


def open_catalog(uri: str, warehouse: str) -> "Catalog":
    """Open a catalog, and make its tables where there are none.

    Args:
        uri: SQLAlchemy URL of its database.
        warehouse: URL of the folder that holds the tables' files.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy import make_url
    from sqlalchemy.exc import DBAPIError

    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and "timeout" not in url.query:
        # SQLite keeps its default journal: with a write-ahead log even a reader needs space on the disk
        url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
    properties = {"uri": url.render_as_string(hide_password=False), "warehouse": warehouse}
    with explaining(f"catalog {url.render_as_string()}"):
        Path(local_path(warehouse)).mkdir(parents=True, exist_ok=True)
        for attempt in range(RETRIES):
            with suppress(DBAPIError):
                return SqlCatalog("mimic", **properties)
            # another machine may be making the same tables at this moment
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  jitter, not a secret
        return SqlCatalog("mimic", **properties)


def ensure_namespace(catalog: "Catalog", namespace: str) -> None:
    """Make a namespace unless it is there; pyiceberg looks first, so another process may make it in between."""
    from pyiceberg.exceptions import NamespaceAlreadyExistsError
    from sqlalchemy.exc import IntegrityError

    with suppress(NamespaceAlreadyExistsError, IntegrityError):
        catalog.create_namespace(namespace)


@contextmanager
def explaining(place: str) -> Iterator[None]:
    """Turn what a full disk or a failing database raises within the context into an error that says what to do.

    Raises:
        StorageError: for example "database or disk is full".
    """
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except (OperationalError, OSError) as error:
        if isinstance(error, StorageError):
            raise
        reason = error.orig if isinstance(error, OperationalError) else error.strerror or error
        raise StorageError(
            f"{place}: could not be written: {reason}; it holds what it held before or all that is new. "
            "Check free space and rights, then run this again"
        ) from error
