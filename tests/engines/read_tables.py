"""Read tables with polars and DuckDB as docs/formats.md says, and print their rows as JSON; runs in `.venv-engines`.

python read_tables.py METADATA_FILE...
"""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
SNIPPET = re.compile(r"^```py\n(.*?)^```", re.DOTALL | re.MULTILINE)


def install_extensions() -> None:
    """Install DuckDB's extensions from their wheels, where `INSTALL iceberg` would ask the network."""
    for name in ("avro", "iceberg"):
        found = find_spec(f"duckdb_extension_{name}")
        if found is None or found.origin is None:
            raise ModuleNotFoundError(name)
        (file,) = Path(found.origin).parent.rglob("*.duckdb_extension")
        duckdb.install_extension(str(file))


def read(metadata: str) -> dict[str, list[dict[str, Any]]]:
    """Run the page's code over a table."""
    (code,) = (code for code in SNIPPET.findall(PAGE.read_text(encoding="utf-8")) if "import polars" in code)
    names: dict[str, Any] = {}
    exec(re.sub(r"^metadata = .*", f"metadata = {metadata!r}", code, count=1, flags=re.MULTILINE), names)  # noqa: S102
    return {"polars": names["by_polars"].to_dicts(), "DuckDB": names["by_duckdb"].to_arrow_table().to_pylist()}


if __name__ == "__main__":
    install_extensions()
    print(json.dumps([read(metadata) for metadata in sys.argv[1:]], default=str))  # noqa: T201
