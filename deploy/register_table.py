"""Registers a table that is gone from Glue by one of its metadata files: for the pod for commands, see README.md.

    python - DATABASE.TABLE          lists the newest of these files, and whether all is there that each names
    python - DATABASE.TABLE FILE     registers the table by that one

The newest may be of a commit that lost its race, or whose pod died before it: two files with one number, or one that is
minutes younger than what the manifests of builds say. So a person chooses.
"""

import os
import sys
from collections.abc import Collection
from datetime import UTC, datetime

from pyiceberg.table import StaticTable

from resources.aws import iceberg_properties
from resources.catalogs import open_catalog
from resources.storage import open_storage

SHOWN = 10


def missing(table: StaticTable, there: Collection[str]) -> list[str]:
    """Return the files of a table's present version that are gone; those of other folders are asked for one by one."""
    try:
        named = [task.file.file_path for task in table.scan().plan_files()]
    except OSError as error:  # its list of files
        return [str(error)]
    return [path for path in named if path not in there and not table.io.new_input(path).exists()]


def main(name: str, chosen: str | None = None) -> None:
    """List the newest metadata files of a table, or register it by one of them."""
    warehouse = os.environ["MIMIC_WAREHOUSE"]
    storage = open_storage(warehouse)
    folder = "{}.db/{}".format(*name.split("."))
    if chosen is not None:
        path = storage.url(f"{folder}/metadata/{chosen}")
        open_catalog(os.environ["MIMIC_CATALOG"], warehouse).register_table(name, path)
        print(f"{name}: registered by {path}")  # noqa: T201
        return
    there = {storage.url(file.name) for file in storage.files(folder)}
    files = [file for file in storage.names(f"{folder}/metadata") if file.endswith(".metadata.json")]
    for file in sorted(files, reverse=True)[:SHOWN]:  # they begin with a number
        table = StaticTable.from_metadata(storage.url(f"{folder}/metadata/{file}"), iceberg_properties())
        gone = missing(table, there)
        written = datetime.fromtimestamp(table.metadata.last_updated_ms / 1000, UTC)
        print(file, f"{written:%Y-%m-%d %H:%M:%S}", f"lacks {len(gone)}: {gone[0]}" if gone else "intact")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
