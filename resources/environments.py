"""Environments: the one place where a laptop and a cluster differ, and where the root of everything is decided."""

import os
from pathlib import Path
from typing import Any

import dagster as dg

from resources.artefacts import ArtefactStore
from resources.index import Index
from resources.inventory import Inventory
from resources.specs import SpecStore
from resources.tables import TableStore

CATALOG = "MIMIC_CATALOG"  # URL of the catalog's database


def mimic_home() -> Path:
    """Return the root of tables, artefacts and specs: MIMIC_HOME, or `.mimic` in the working directory."""
    return Path(os.environ.get("MIMIC_HOME") or ".mimic").absolute()


def local_resources(home: Path) -> dict[str, Any]:
    """Return the resources of one machine: files below `home`, and the catalog of MIMIC_CATALOG, by default SQLite there."""
    artefacts = ArtefactStore(root=str(home / "objects"))
    specs = SpecStore(artefacts=artefacts)
    tables = TableStore(
        # by its name, so that Dagster shows no password
        catalog_uri=dg.EnvVar(CATALOG) if os.environ.get(CATALOG) else f"sqlite:///{home / 'catalog.db'}",
        warehouse=f"file://{home / 'warehouse'}",
        locks=str(home / "locks"),
    )
    index = Index(path=str(home / "index.db"))
    return {
        "artefacts": artefacts,
        "specs": specs,
        "tables": tables,
        "inventory": Inventory(specs=specs, tables=tables, artefacts=artefacts, index=index),
    }
