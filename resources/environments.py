"""Environments: the one place where a laptop and a cluster differ, and where the root of everything is decided."""

import os
from pathlib import Path
from typing import Any

import dagster as dg

from resources.artefacts import ArtefactStore
from resources.index import Index
from resources.inventory import Inventory
from resources.sinks import AlertSink, LogSink, WebhookSink, require_webhook
from resources.specs import SpecStore
from resources.tables import TableStore

CATALOG = "MIMIC_CATALOG"  # URL of the catalog's database
ALERT_WEBHOOK = "MIMIC_ALERT_WEBHOOK"  # URL that gets an alert of every failed run


def mimic_home() -> Path:
    """Return the root of tables, artefacts and specs: MIMIC_HOME, or `.mimic` in the working directory."""
    return Path(os.environ.get("MIMIC_HOME") or ".mimic").absolute()


def alert_sink() -> AlertSink:
    """Return where alerts go: to the webhook of MIMIC_ALERT_WEBHOOK, or into the log.

    Raises:
        SpecError: MIMIC_ALERT_WEBHOOK is no http or https URL.
    """
    if not (url := os.environ.get(ALERT_WEBHOOK)):
        return LogSink()
    require_webhook(url)
    return WebhookSink(url=dg.EnvVar(ALERT_WEBHOOK))  # by its name, so that Dagster shows no secret


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
        "alerts": alert_sink(),
        "artefacts": artefacts,
        "specs": specs,
        "tables": tables,
        "inventory": Inventory(specs=specs, tables=tables, artefacts=artefacts, index=index),
    }
