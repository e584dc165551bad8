"""Tables as Glue describes them, and its plain ones: those of Hive over Parquet files, which are read where they lie."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pyarrow as pa

from mimic_core.errors import NotFoundError, SpecError, StorageError, TableError
from resources.aws import client, explaining
from resources.files import SourceFile, data_files
from resources.paths import S3Path, objects_in

PLAIN = "glue://"  # begins where a pin says that such a table is
FEW = 8  # partitions, which are listed one by one: in the table's folder may lie much that is in none of them
TYPES = {
    "tinyint": pa.int64(),
    "smallint": pa.int64(),
    "int": pa.int64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "float": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
}  # of columns that folders' names give; others stay text


def plain_location(table: dict[str, Any] | None) -> str | None:
    """Return what stands for a table of Glue's as the location of a pin; None where it is none that can be read so."""
    if table is None or not is_parquet(table):
        return None
    return f"{PLAIN}{table['DatabaseName']}.{table['Name']}"


def glue_table(name: str) -> dict[str, Any] | None:
    """Return a table as Glue describes it; None when there is none.

    Raises:
        StorageError: Glue does not answer, or refuses.
    """
    require_lower_case(name)
    glue, (database, table) = client("glue"), name.split(".")
    with explaining(f"table {name}", "cannot be read in Glue"):
        try:
            found: dict[str, Any] = glue.get_table(DatabaseName=database, Name=table)["Table"]
        except glue.exceptions.EntityNotFoundException:
            return None
    return found


def require_lower_case(name: str) -> None:
    """Refuse the name of a table or database that Glue would keep as another one.

    Raises:
        SpecError: it has capitals.
    """
    if name != name.lower():
        raise SpecError(f"{name}: Glue keeps names in lower case only; write {name.lower()}")


def glue_tables(databases: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Stream the tables of some databases as Glue describes them, of whatever kind; a database need not be there.

    Raises:
        StorageError: Glue does not answer, or refuses.
    """
    glue = client("glue")
    for database in databases:
        with explaining(f"the Glue database {database}", "cannot be read"):
            try:
                for page in glue.get_paginator("get_tables").paginate(DatabaseName=database):
                    yield from page["TableList"]
            except glue.exceptions.EntityNotFoundException:
                continue


def is_iceberg(table: dict[str, Any]) -> bool:
    """Tell whether a table of Glue is one of Iceberg."""
    facts = table.get("Parameters", {})
    return str(facts.get("table_type", "")).upper() == "ICEBERG" and bool(facts.get("metadata_location"))


def glue_locations(databases: Sequence[str]) -> dict[str, str]:
    """Return table -> its present metadata file, of a plain one its version in Glue; other tables are left out.

    Raises:
        StorageError: Glue does not answer, or refuses.
    """
    found = {}
    for table in glue_tables(databases):
        name = f"{table['DatabaseName']}.{table['Name']}"
        if is_iceberg(table):
            found[name] = table["Parameters"]["metadata_location"]
        elif is_parquet(table):
            found[name] = f"{PLAIN}{name} {table.get('VersionId', '')}"
    return dict(sorted(found.items()))


def is_parquet(table: dict[str, Any]) -> bool:
    """Tell whether a table of Glue is a plain one over Parquet files in S3."""
    stored, facts = table.get("StorageDescriptor", {}), table.get("Parameters", {})
    library = stored.get("SerdeInfo", {}).get("SerializationLibrary", "")
    form, provider = (
        stored.get("InputFormat", ""),
        f"{facts.get('spark.sql.sources.provider', '')}{facts.get('table_type', '')}",
    )
    # files of Hudi and Delta are Parquet too, but not all of them are rows of the present
    others = {"metadata_location", "hoodie.table.name"} & set(facts) or provider.lower() not in ("", "parquet", "hive")
    parquet = form.endswith(".MapredParquetInputFormat") or (not form and "parquet" in library.lower())
    return bool(parquet and not others and stored.get("Location"))


def plain_files(location: str) -> list[SourceFile]:
    """List the files of a plain table: those of its partitions, where it has any, else those below its location.

    Raises:
        NotFoundError: Glue knows no such table.
        TableError: there are no files, or they are no Parquet.
        StorageError: Glue or S3 does not answer, or refuses.
    """
    name = location.removeprefix(PLAIN)
    table = glue_table(name)
    if table is None:
        raise NotFoundError(f"table {name} is no table of Glue any more")
    keys, root = table.get("PartitionKeys") or [], _url(table)
    if not keys:
        return _with_rows(data_files(_rows_below(root)), name, root)
    listed = _partitions(name)
    if not listed:
        if table.get("Parameters", {}).get("projection.enabled") == "true":
            raise TableError(f"table {name} has its partitions by a projection, which only Athena knows; add them in Glue")
        raise TableError(f"table {name} has no partitions in Glue; add them there, such as by MSCK REPAIR TABLE")
    for partition in listed:
        if len(partition["Values"]) != len(keys) or not partition.get("StorageDescriptor", {}).get("Location"):
            raise TableError(f"table {name}: partition {partition['Values']} lacks a value or a location; mend it in Glue")
    for outer, inner in pairwise(sorted(f"{_url(partition)}/" for partition in listed)):
        if inner.startswith(outer):
            raise TableError(f"table {name} has partitions in Glue that share the folder {outer}; rows would count twice")
    partitions = {_url(partition): _values(keys, partition["Values"]) for partition in listed}
    found = [file for url, paths in _by_partition(root, list(partitions)) for file in data_files(paths, partitions[url])]
    return _with_rows(sorted(found, key=lambda file: str(file.path)), name, root)


def _with_rows(files: list[SourceFile], name: str, root: str) -> list[SourceFile]:
    if not files:
        raise TableError(f"table {name} has no Parquet files with rows below {root}")
    return files


def _by_partition(root: str, urls: Sequence[str]) -> Iterator[tuple[str, list[S3Path]]]:
    """Give the objects of every partition; many below the table are listed together, as each request takes its time."""
    inside = {f"{url}/": url for url in urls if url.startswith(f"{root}/")}
    found: dict[str, list[S3Path]] = {}
    if len(inside) > FEW:
        with suppress(StorageError):  # a role may list the partitions, and not the table's folder
            found = _parted(_rows_below(root), inside)
    yield from ((url, found[url] if url in found else _rows_below(url)) for url in urls)


def _parted(paths: Sequence[S3Path], partitions: Mapping[str, str]) -> dict[str, list[S3Path]]:
    """Part objects by the partition in whose folder they are; those in none are left out."""
    found: dict[str, list[S3Path]] = {url: [] for url in partitions.values()}
    for path in paths:
        folders = (str(path)[: at + 1] for at, mark in enumerate(str(path)) if mark == "/")
        if url := next((partitions[folder] for folder in folders if folder in partitions), None):
            found[url].append(path)
    return found


def _rows_below(url: str) -> list[S3Path]:
    """List the objects that hold rows; as Hive has it empty ones and those in or with names that begin with _ hold none."""

    def hidden(path: S3Path) -> bool:
        parts = str(path)[len(url) :].split("/")
        return any(part.startswith("_") and "=" not in part for part in parts) or parts[-1].endswith("$folder$")

    return [path for path in objects_in(url) if path.status.bytes and not hidden(path)]


def _partitions(name: str) -> list[dict[str, Any]]:
    database, table = name.split(".")
    with explaining(f"table {name}", "its partitions cannot be listed in Glue"):
        pages = client("glue").get_paginator("get_partitions")
        found = pages.paginate(DatabaseName=database, TableName=table, ExcludeColumnSchema=True)
        return [partition for page in found for partition in page["Partitions"]]


def _url(described: dict[str, Any]) -> str:
    return re.sub("^s3[an]://", "s3://", str(described["StorageDescriptor"]["Location"])).rstrip("/")


def _values(keys: list[dict[str, str]], values: list[str]) -> pa.Table:
    """Return the columns that a partition has beside those of its files, with one row."""
    columns = {}
    for key, value in zip(keys, values, strict=True):
        text = pa.array([None if value == "__HIVE_DEFAULT_PARTITION__" else value], pa.string())
        try:
            columns[key["Name"]] = text.cast(TYPES.get(key["Type"], pa.string()))
        except pa.ArrowInvalid as error:
            raise TableError(
                f"column {key['Name']!r} is {key['Type']}, and a partition has {value!r}; mend it in Glue"
            ) from error
    return pa.table(columns)
