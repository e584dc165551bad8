"""Read tables of Glue from S3 with polars and DuckDB as docs/aws.md says, and print their rows as JSON; in `.venv-engines`.

python read_tables_in_aws.py ENDPOINT TABLE...
"""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog.glue import GlueCatalog

PAGE = Path(__file__).parents[2] / "docs" / "aws.md"
SNIPPET = re.compile(r"^```py\n(.*?)^```", re.DOTALL | re.MULTILINE)


def install_extensions() -> None:
    """Install DuckDB's extensions from their wheels, where `INSTALL iceberg` would ask the network."""
    for name in ("avro", "httpfs", "iceberg"):
        found = find_spec(f"duckdb_extension_{name}")
        (file,) = Path(found.origin).parent.rglob("*.duckdb_extension")
        duckdb.install_extension(str(file))


def read(endpoint: str, table: str) -> dict[str, list[dict[str, Any]]]:
    """Run the page's code over a table, with what only a server of the tests needs in addition."""
    (code,) = (code for code in SNIPPET.findall(PAGE.read_text(encoding="utf-8")) if "import polars" in code)
    code = code.replace("haven.example_log_odds_batch_infer", table)
    code = code.replace('GlueCatalog("glue")', f'GlueCatalog("glue", **{{"s3.endpoint": {endpoint!r}}})')
    host = endpoint.removeprefix("http://")
    secret = f"TYPE s3, KEY_ID 'testing', SECRET 'testing', ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path'"
    code = code.replace("TYPE s3, PROVIDER credential_chain", secret)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    return {"polars": names["by_polars"].to_dicts(), "DuckDB": names["by_duckdb"].to_arrow_table().to_pylist()}


if __name__ == "__main__":
    install_extensions()
    assert GlueCatalog("glue").list_namespaces()
    print(json.dumps([read(sys.argv[1], table) for table in sys.argv[2:]], default=str))  # noqa: T201
