"""Tables as Glue describes them, and its plain ones: those of Hive over Parquet files, which are read where they lie."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mimic_core.errors import NotFoundError, TableError
from resources.aws import client, explaining
from resources.files import SourceFile, data_files
from resources.paths import S3Path, objects_below

PLAIN = "glue://"  # begins where a pin says that such a table is
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
    glue, (database, table) = client("glue"), name.split(".")
    with explaining(f"table {name}", "cannot be read in Glue"):
        try:
            found: dict[str, Any] = glue.get_table(DatabaseName=database, Name=table)["Table"]
        except glue.exceptions.EntityNotFoundException:
            return None
    return found


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
    keys = table.get("PartitionKeys") or []
    if not keys:
        return data_files(_parquet_below(_url(table)))
    found = []
    for partition in _partitions(name):
        found += data_files(_parquet_below(_url(partition)), _values(keys, partition["Values"]))
    if not found:
        raise TableError(f"table {name} has no partitions in Glue; add them there, such as by MSCK REPAIR TABLE")
    return sorted(found, key=lambda file: str(file.path))


def _parquet_below(url: str) -> list[S3Path]:
    """List the objects that hold rows; as Hive has it those whose name begins with _ and empty ones hold none."""
    try:
        found = objects_below(url)
    except TableError:
        return []  # a partition without files
    return [
        path for path in found if path.status.bytes and not path.name.startswith("_") and not path.name.endswith("$folder$")
    ]


def _partitions(name: str) -> list[dict[str, Any]]:
    database, table = name.split(".")
    with explaining(f"table {name}", "its partitions cannot be listed in Glue"):
        pages = client("glue").get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
        return [partition for page in pages for partition in page["Partitions"]]


def _url(described: dict[str, Any]) -> str:
    return str(described["StorageDescriptor"]["Location"]).replace("s3a://", "s3://").replace("s3n://", "s3://")


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
