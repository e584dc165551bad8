"""Catalogs: the SQL database, or Glue, that names the present version of every table; opening it, and its failures."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mimic_core.errors import SpecError, StorageError
from resources import aws
from resources.aws import iceberg_properties
from resources.iceberg import local_path
from resources.storage import S3, storage_at

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from sqlalchemy import URL
    from sqlalchemy.exc import DBAPIError

BUSY_SECONDS = 60  # that a commit waits for another one, where SQLite's 5 are few on a slow disk
RETRIES = 6
NAME = "mimic"  # of the catalog in its database
GLUE = "glue:"  # begins what is no URL: the databases of Glue, with commas in between
UNCHANGED = "it holds what it held before or all that is new. Check free space and rights, then run this again"
DRIVERS = {
    "sqlite": "sqlite",
    # SQLAlchemy 2.1 takes psycopg 3 for a bare name, which Dagster does not use
    "postgresql": "postgresql+psycopg2",
    "postgres": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
}


def open_catalog(uri: str, warehouse: str) -> "Catalog":
    """Open a catalog, and make the tables of its database where there are none.

    Args:
        uri: SQLAlchemy URL of the database, or `glue:` and the databases of Glue; or the environment variable that holds it.
        warehouse: URL of the folder that holds the tables' files.

    Raises:
        SpecError: the URL is none of SQLite or Postgres, or the driver is missing.
        StorageError: the database does not answer, cannot be written, or is gone while there are tables' files.
    """
    if databases := glue_databases(uri):
        from resources.glue import Glue

        return Glue(NAME, databases, warehouse)
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import DBAPIError

    url = _url(uri)
    options = {"uri": url.render_as_string(hide_password=False), "warehouse": warehouse, "pool_pre_ping": "true"}
    if warehouse.startswith(S3):
        options |= iceberg_properties()
    try:
        advice = "check MIMIC_CATALOG, free space and rights, then run this again"
        with explaining(f"catalog {without_password(url)}", "cannot be opened", advice):
            if not warehouse.startswith(S3):
                Path(local_path(warehouse)).mkdir(parents=True, exist_ok=True)
            _is_there(url, warehouse)  # else an empty one would be made, and all tables would seem to be removed
            for attempt in range(RETRIES):
                try:
                    return SqlCatalog(NAME, **options)
                except DBAPIError as error:
                    if not _may_pass(error):
                        raise
                time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  jitter, not a secret
            return SqlCatalog(NAME, **options)
    except ImportError as error:
        raise SpecError(
            f"the catalog {without_password(url)} needs the driver psycopg2: run `pip install psycopg2-binary`"
        ) from error


def metadata_locations(uri: str, warehouse: str) -> dict[str, str]:
    """Return table -> its present metadata file, from the catalog's database alone; importing pyiceberg takes longer.

    Args:
        uri, warehouse: as for `open_catalog`.

    Raises:
        StorageError: the database does not answer, or is gone while there are tables' files.
    """
    if databases := glue_databases(uri):
        from resources.plain_tables import glue_locations

        return glue_locations(databases)
    from sqlalchemy import create_engine, inspect, text

    url = _url(uri)
    if not _is_there(url, warehouse):
        return {}
    with explaining(f"catalog {without_password(url)}", "cannot be read", "check MIMIC_CATALOG, then run this again"):
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table("iceberg_tables"):
                    return {}  # nobody has opened it yet
                # of the specification of JDBC catalogs
                query = text(
                    "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables WHERE catalog_name = :name"
                )
                rows = connection.execute(query, {"name": NAME}).all()
        finally:
            engine.dispose()
    return {f"{database}.{table}": location for database, table, location in sorted(rows) if location}


def ensure_database(catalog: "Catalog", table: str) -> None:
    """Make the database of a table unless it is there; pyiceberg looks first, so another process may make it in between."""
    from pyiceberg.exceptions import NamespaceAlreadyExistsError
    from sqlalchemy.exc import IntegrityError

    with suppress(NamespaceAlreadyExistsError, IntegrityError):
        catalog.create_namespace(table.split(".")[0])


@contextmanager
def explaining(place: str, failed: str = "could not be written", advice: str = UNCHANGED) -> Iterator[None]:
    """Turn what a full disk or a failing database raises within the context into an error that says what to do.

    Args:
        advice: what holds now, and what to do.

    Raises:
        StorageError: for example "database or disk is full".
    """
    from sqlalchemy.exc import DBAPIError

    try:
        with aws.explaining(place, failed, advice):
            yield
    except (DBAPIError, OSError) as error:
        if isinstance(error, StorageError):
            raise
        reason = str(error.orig).strip() if isinstance(error, DBAPIError) else error.strerror or error
        where = "" if isinstance(error, DBAPIError) or not error.filename else f"{error.filename}: "
        raise StorageError(f"{place}: {failed}: {where}{reason}; {advice}") from error


def parse_url(uri: str) -> "URL":
    """Return the URL of a catalog's database, with the driver that we use.

    Raises:
        SpecError: it is no URL of SQLite or Postgres, or no one file; the message tells no password.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    expected = (
        "MIMIC_CATALOG: expected postgresql://USER:PASSWORD@HOST/DATABASE, sqlite:////FILE with an absolute path, or "
        "glue:DATABASE,DATABASE"
    )
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise SpecError(f"{expected}, found something else") from None
    if url.drivername not in DRIVERS:
        raise SpecError(f"{expected}, found {url.drivername}://")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_absolute():
        # each process, or each working directory, would have a catalog of its own over the same files
        raise SpecError(f"{expected}, found {without_password(url)}")
    return url.set(drivername=DRIVERS[url.drivername])


def without_password(url: "URL") -> str:
    """Return a URL without its passwords, for people; libpq takes them in the query too."""
    hidden = {key: "..." for key in url.query if "password" in key.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def glue_databases(uri: str) -> list[str]:
    """Return the databases of Glue that are the catalog; none where it is another one.

    Raises:
        SpecError: no database is named.
    """
    given = _given(uri)
    if not given.startswith(GLUE):
        return []
    databases = [name.strip() for name in given.removeprefix(GLUE).split(",") if name.strip()]
    if not databases:
        raise SpecError("MIMIC_CATALOG: expected glue:DATABASE,DATABASE with the databases to use, found none")
    from resources.plain_tables import require_lower_case

    for name in databases:
        require_lower_case(name)
    return databases


def _given(uri: str) -> str:
    return (uri.get_value() if isinstance(uri, dg.EnvVar) else uri) or ""


def _url(uri: str) -> "URL":
    url = parse_url(_given(uri))
    if url.get_backend_name() == "sqlite" and "timeout" not in url.query:
        # SQLite keeps its default journal: with a write-ahead log even a reader needs space on the disk
        url = url.update_query_dict({"timeout": str(BUSY_SECONDS)})
    return url


def _is_there(url: "URL", warehouse: str) -> bool:
    """Tell whether a catalog's database is there; of one on a server only a connection knows.

    Raises:
        StorageError: its file is gone, or is an empty one made by who opened it since, while there are tables' files.
    """
    if url.get_backend_name() != "sqlite":
        return True
    file, tables = Path(url.database or ""), storage_at(warehouse)
    there = file.is_file() and file.stat().st_size > 0
    if not there and tables.folders(""):
        raise StorageError(
            f"catalog {file}: is gone, while {tables.url('').rstrip('/')} holds tables; put it back, or move that folder "
            "away to begin anew"
        )
    return there


def _may_pass(error: "DBAPIError") -> bool:
    """Tell whether another machine may be making the same tables at this moment; a wrong password stays one."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    reason = str(error.orig)
    return isinstance(error, IntegrityError | ProgrammingError) or "already exists" in reason or "locked" in reason
