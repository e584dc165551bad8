"""Catalogs: the database that says which tables there are; SQLite or Postgres, told apart by its URL."""

from typing import TYPE_CHECKING

import dagster as dg

from mimic_core.errors import SpecError, StorageError

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy import URL

DRIVERS = {
    "sqlite": "sqlite",
    # SQLAlchemy 2.1 takes psycopg 3 for a bare name, which Dagster does not use
    "postgresql": "postgresql+psycopg2",
    "postgres": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
}


def open_catalog(uri: str, warehouse: str) -> "SqlCatalog":
    """Open a catalog, and make its tables at the first time.

    Args:
        uri: SQLAlchemy URL of the database, or the environment variable that holds it.
        warehouse: URL of the folder that holds the tables' files.

    Raises:
        SpecError: the URL is none of SQLite or Postgres, or the driver is missing.
        StorageError: the database does not answer.
    """
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy import text
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    url = parse_url((uri.get_value() if isinstance(uri, dg.EnvVar) else uri) or "")
    options = {"uri": url.render_as_string(hide_password=False), "warehouse": warehouse}
    try:
        try:
            catalog = SqlCatalog("mimic", **options, pool_pre_ping="true")
        except (IntegrityError, ProgrammingError):  # another machine was making the tables at the same moment
            catalog = SqlCatalog("mimic", **options, pool_pre_ping="true")
        if url.get_backend_name() == "sqlite":
            with catalog.engine.connect() as connection:
                connection.execute(text("PRAGMA journal_mode=WAL"))  # readers never block the writer
    except ImportError as error:
        raise SpecError(
            f"the catalog {without_password(url)} needs the driver psycopg2: run `pip install psycopg2-binary`"
        ) from error
    except OperationalError as error:
        if url.get_backend_name() == "sqlite":
            raise
        raise StorageError(
            f"the catalog {without_password(url)} cannot be opened: {str(error.orig).strip()}; "
            "check MIMIC_CATALOG and its database"
        ) from error
    return catalog


def parse_url(uri: str) -> "URL":
    """Return the URL of a catalog's database, with the driver that we use.

    Raises:
        SpecError: it is no URL of SQLite or Postgres; the message tells no password.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    expected = "MIMIC_CATALOG: expected postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FILE"
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise SpecError(f"{expected}, found something else") from None
    if url.drivername not in DRIVERS:
        raise SpecError(f"{expected}, found {url.drivername}://")
    return url.set(drivername=DRIVERS[url.drivername])


def without_password(url: "URL") -> str:
    """Return a URL without its password, for people."""
    return url.render_as_string(hide_password=True)
