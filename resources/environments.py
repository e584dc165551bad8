"""Environments: the one place where a laptop and a cluster differ, and where the root of everything is decided."""

import os
from pathlib import Path
from typing import Any

import dagster as dg

from mimic_core.errors import SpecError
from resources.artefacts import ArtefactStore
from resources.index import Index
from resources.inventory import Inventory
from resources.rebuilding import RebuildPolicy
from resources.sinks import AlertSink, LogSink, WebhookSink, require_webhook
from resources.spec_folder import SpecFolder
from resources.specs import SpecStore
from resources.tables import TableStore

CATALOG = "MIMIC_CATALOG"  # URL of the catalog's database
SPECS = "MIMIC_SPECS"  # folder of spec files that people drop
REBUILD = "MIMIC_REBUILD"  # 1: the platform rebuilds by itself, unless that is switched off in the UI
POLICY = {  # variable -> field of the policy, and the least that it may be
    "MIMIC_SETTLE_SECONDS": ("settle_seconds", 0),
    "MIMIC_MAX_IN_FLIGHT": ("max_in_flight", 1),
    "MIMIC_MAX_RUNS_PER_CHANGE": ("max_runs_per_change", 0),
}
ALERT_WEBHOOK = "MIMIC_ALERT_WEBHOOK"  # URL that gets an alert of every failed run
OPTIONAL = (CATALOG, SPECS, ALERT_WEBHOOK, REBUILD, *POLICY)  # variables beside those of the homes


def mimic_home() -> Path:
    """Return the root of tables, artefacts and specs: MIMIC_HOME, or `.mimic` in the working directory."""
    return Path(os.environ.get("MIMIC_HOME") or ".mimic").absolute()


def spec_folder(home: Path) -> Path:
    """Return the folder of spec files: MIMIC_SPECS, or `specs` below `home`."""
    return Path(os.environ.get(SPECS) or home / "specs").absolute()


def rebuilds_by_itself() -> bool:
    """Tell whether MIMIC_REBUILD switches rebuilding on.

    Raises:
        SpecError: it is neither 0 nor 1.
    """
    value = os.environ.get(REBUILD) or "0"
    if value not in ("0", "1"):
        raise SpecError(f"{REBUILD} is {value!r}, expected 1, or 0 or nothing; mend it in the environment or in .env")
    return value == "1"


def rebuild_policy() -> RebuildPolicy:
    """Return how eagerly the platform rebuilds, by MIMIC_SETTLE_SECONDS and the others in `POLICY`.

    Raises:
        SpecError: a value is no number, or too small.
    """
    return RebuildPolicy(**{field: _number(name, least) for name, (field, least) in POLICY.items() if os.environ.get(name)})


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
    """Return the resources of one machine: files below `home`, and the catalog of MIMIC_CATALOG, by default SQLite there.

    Raises:
        SpecError: a setting of the rebuilds is wrong.
    """
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
        "spec_folder": SpecFolder(path=str(spec_folder(home))),
        "rebuild_policy": rebuild_policy(),
    }


def _number(name: str, least: int) -> int:
    value = os.environ[name]
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise SpecError(
            f"{name} is {value!r}, expected a whole number of at least {least}; mend it in the environment or .env"
        )
    return int(value)
