"""The catalog: whether its database, or the databases of Glue, can be read and written, as far as that shows unchanged."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from resources.catalogs import explaining, glue_databases, metadata_locations, parse_url, without_password
from resources.doctor.cloud import Cloud, explained
from resources.doctor.findings import Finding, ok, warning, wrong

if TYPE_CHECKING:
    from sqlalchemy import URL

ABOUT = "catalog"
CONNECT_SECONDS = 5
MOST = 100  # tables of a database of Glue that are looked at
NONE = "there is none"
NAMED = 3  # tables in a message


def catalog(uri: str, warehouse: str | None, cloud: Cloud) -> Iterator[Finding]:
    """Look at the catalog.

    Args:
        uri: as MIMIC_CATALOG has it.
        warehouse: URL of the folder of the tables' files; None where its setting is wrong.
    """
    if databases := glue_databases(uri):
        found = [_database(database, warehouse, cloud) for database in databases]
        # with a part of them one can work, and a role that may make a database does so with its first table
        none = all(each.found == NONE for each in found)
        yield from (wrong(each.about, each.found, each.do) for each in found) if none else found
        return
    url = parse_url(uri)
    if url.get_backend_name() == "sqlite":
        yield from _sqlite(url, uri, warehouse)
    else:
        yield from _postgres(url)


def _database(database: str, warehouse: str | None, cloud: Cloud) -> Finding:
    about = f"Glue database {database}"
    glue = cloud.client("glue")
    try:
        glue.get_database(Name=database)
        tables = glue.get_tables(DatabaseName=database, MaxResults=MOST)["TableList"]
    except glue.exceptions.EntityNotFoundException:
        do = (
            f"mend MIMIC_CATALOG, or set AWS_DEFAULT_REGION if the database is not in {glue.meta.region_name}; else make "
            "it, as deploy/terraform does, or import a table if your role may make it"
        )
        return warning(about, NONE, do)
    except Exception as error:
        return explained(about, cloud, error, "cannot be read")
    places = {table["Name"]: table.get("Parameters", {}).get("metadata_location", "") for table in tables}
    iceberg = {name: place for name, place in places.items() if place}
    elsewhere = [name for name, place in iceberg.items() if warehouse and not place.startswith(f"{warehouse}/")]
    if elsewhere:
        found = f"{len(elsewhere)} of its tables are not below MIMIC_WAREHOUSE {warehouse}: {', '.join(elsewhere[:NAMED])}"
        do = f"let MIMIC_WAREHOUSE be where they are, if they are mimic's: {iceberg[elsewhere[0]]}"
        return warning(about, found, do)
    return ok(about, f"can be read; {len(iceberg)}{' or more' if len(tables) == MOST else ''} tables of Iceberg")


def _sqlite(url: "URL", uri: str, warehouse: str | None) -> Iterator[Finding]:
    file = Path(url.database or "")
    tables = metadata_locations(uri, warehouse) if warehouse else {}
    if not file.exists():
        yield ok(ABOUT, f"{file} is made with the first table")
    elif not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        do = "take the rights that its owner has, or let MIMIC_CATALOG name another one"
        yield wrong(ABOUT, f"{file} or its folder cannot be written", do)
    elif gone := [name for name, place in tables.items() if _is_gone(place)]:
        found = f"{len(gone)} of {len(tables)} tables name a file that is not there: {', '.join(gone[:NAMED])}"
        do = "restore catalog and warehouse of one moment, or import these tables again"
        yield wrong(ABOUT, found, do)
    else:
        yield ok(ABOUT, f"{file} can be used; {len(tables)} tables")


def _is_gone(place: str) -> bool:
    return place.startswith("file://") and not Path(place.removeprefix("file://")).exists()


def _postgres(url: "URL") -> Iterator[Finding]:
    try:
        __import__("psycopg2")
    except ImportError:
        yield wrong(ABOUT, "the driver of Postgres is not installed", "run `pip install psycopg2-binary`")
        return
    place = without_password(url)
    with explaining(place, "cannot be reached", "see that it runs, its host and port, and user and password"):
        answer = _asked(url)
    if answer["standby"] or answer["read_only"] == "on":
        yield wrong(ABOUT, f"{place} can only be read", "let MIMIC_CATALOG name the primary server")
    elif not answer["may_write"]:
        grants = "GRANT ALL ON ALL TABLES IN SCHEMA public TO USER; GRANT CREATE ON SCHEMA public TO USER"
        yield wrong(ABOUT, f"{place}: {answer['name']} may not write its tables", f"have its owner say: {grants}")
    else:
        yield ok(ABOUT, f"{place} can be used; Postgres {answer['version']}, {answer['tables']} tables")


def _asked(url: "URL") -> Mapping[str, object]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_SECONDS}, poolclass=NullPool)
    with engine.connect() as connection:
        there = connection.execute(text("SELECT to_regclass('iceberg_tables') IS NOT NULL")).scalar()
        may = (
            "has_table_privilege('iceberg_tables', 'INSERT') AND has_table_privilege('iceberg_tables', 'UPDATE')"
            if there
            else "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
        )
        tables = "(SELECT count(*) FROM iceberg_tables)" if there else "0"
        question = f"SELECT {may} AS may_write, {tables} AS tables"
        question += ", pg_is_in_recovery() AS standby, current_setting('transaction_read_only') AS read_only"
        question += ", current_setting('server_version') AS version, current_user AS name"
        return dict(connection.execute(text(question)).mappings().one())
