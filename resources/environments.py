"""Environments: the one place where a laptop and a cluster differ, and where the root of everything is decided."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import dagster as dg

from mimic_core.compute import ComputeSpec
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError, did_you_mean
from resources.artefacts import ArtefactStore
from resources.catalogs import GLUE
from resources.compute import STAGES, StepCompute
from resources.file_cache import DEFAULT_BYTES
from resources.freshness import Freshness
from resources.garbage import STEPS
from resources.index import Index
from resources.inventory import Inventory
from resources.previews import Previews
from resources.rebuilding import RebuildPolicy
from resources.sinks import AlertSink, LogSink, WebhookSink, require_webhook
from resources.spec_folder import SpecFolder
from resources.specs import SpecStore
from resources.step_jobs import step_jobs
from resources.storage import S3
from resources.tables import TableStore

ENVIRONMENT = "MIMIC_ENV"  # where work runs
LOCAL, KUBERNETES = "local", "kubernetes"
COMPUTE = "MIMIC_COMPUTE"  # what steps get in a cluster, by asset, as JSON
GPU_IMAGE = "MIMIC_GPU_IMAGE"  # image of the steps that get a GPU in a cluster
STEP_KEY = "DAGSTER_RUN_STEP_KEY"  # dagster-k8s sets it where a step is a Job
CATALOG = "MIMIC_CATALOG"  # URL of the catalog's database, or the databases of Glue
WAREHOUSE = "MIMIC_WAREHOUSE"  # s3:// URL below which the tables' files are
ARTEFACTS = "MIMIC_ARTEFACTS"  # s3:// URL of the object storage
CACHE = "MIMIC_CACHE"  # folder of local copies of what is in S3
CACHE_GIB = "MIMIC_CACHE_GIB"  # how much of it is kept
ALLOW_LAYERS_CODE = "MIMIC_ALLOW_LAYERS_CODE"  # 1: layers files may be executed in a cluster
SPECS = "MIMIC_SPECS"  # folder of spec files that people drop
REBUILD = "MIMIC_REBUILD"  # 1: the platform rebuilds by itself, unless that is switched off in the UI
POLICY = {  # variable -> field of the policy, and the least that it may be
    "MIMIC_SETTLE_SECONDS": ("settle_seconds", 0),
    "MIMIC_MAX_IN_FLIGHT": ("max_in_flight", 1),
    "MIMIC_MAX_RUNS_PER_CHANGE": ("max_runs_per_change", 0),
}
OWNER = re.compile(r"team:[^\s,]+|[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", re.ASCII)  # those that Dagster takes
ALERT_WEBHOOK = "MIMIC_ALERT_WEBHOOK"  # URL that gets an alert of every failed run
COMPUTE_EXAMPLE = '{"model_run": {"gpu": 0, "memory": "4Gi"}}'
MOST_PREVIEW_ROWS = 100
PREVIEW_ROWS = "MIMIC_PREVIEW_ROWS"  # how many rows of a build Dagster's pages show
OWNERS = "MIMIC_OWNERS"  # who answers for the assets, in the UI
CODE_URL = "MIMIC_CODE_URL"  # where this code can be read, in the UI; else its files on this machine are named
FRESH_DAYS = "MIMIC_FRESH_DAYS"  # after so many days without a change a source table is stale
# variables beside those of the homes
OPTIONAL = (
    ENVIRONMENT,
    COMPUTE,
    GPU_IMAGE,
    ALLOW_LAYERS_CODE,
    CATALOG,
    WAREHOUSE,
    ARTEFACTS,
    CACHE,
    CACHE_GIB,
    SPECS,
    ALERT_WEBHOOK,
    OWNERS,
    CODE_URL,
    REBUILD,
    PREVIEW_ROWS,
    FRESH_DAYS,
    *POLICY,
)


def mimic_home() -> Path:
    """Return the root of tables, artefacts and specs: MIMIC_HOME, or `.mimic` in the working directory."""
    return Path(os.environ.get("MIMIC_HOME") or ".mimic").absolute()


def spec_folder(home: Path) -> Path:
    """Return the folder of spec files: MIMIC_SPECS, or `specs` below `home`."""
    return Path(os.environ.get(SPECS) or home / "specs").absolute()


def warehouse(home: Path) -> str:
    """Return the URL of the folder of the tables' files: MIMIC_WAREHOUSE, or `warehouse` below `home`.

    Raises:
        SpecError: it is no URL of S3, or none is given although the catalog is that of Glue.
    """
    if not (url := _s3_url(WAREHOUSE)) and (os.environ.get(CATALOG) or "").startswith(GLUE):
        raise SpecError(
            f"{CATALOG} is {os.environ[CATALOG]!r} and {WAREHOUSE} is unset, so other machines would not find the tables "
            "that Glue names; let it name where they are, such as s3://BUCKET/warehouse"
        )
    return url or f"file://{home / 'warehouse'}"


def artefact_store(home: Path) -> ArtefactStore:
    """Return the object storage: that of MIMIC_ARTEFACTS, or `objects` below `home`.

    Raises:
        SpecError: it is no URL of S3, or MIMIC_CACHE_GIB is no number.
    """
    kept = _number(CACHE_GIB, 0) * 2**30 if os.environ.get(CACHE_GIB) else DEFAULT_BYTES
    # a pod's home is shared or far away, its temporary files are not; those of a person may be in memory
    cache = os.environ.get(CACHE) or ("" if in_cluster() else str(home / "cache"))
    return ArtefactStore(root=_s3_url(ARTEFACTS) or str(home / "objects"), cache=cache, cache_bytes=kept)


def rebuilds_by_itself() -> bool:
    """Tell whether MIMIC_REBUILD switches rebuilding on.

    Raises:
        SpecError: it is neither 0 nor 1.
    """
    return _switch(REBUILD)


def layers_code_allowed() -> bool:
    """Tell whether layers files, which are code, may be executed: on one machine, and in a cluster where it is allowed.

    Raises:
        SpecError: MIMIC_ALLOW_LAYERS_CODE is neither 0 nor 1.
    """
    allowed = _switch(ALLOW_LAYERS_CODE)
    return allowed or not in_cluster()


def rebuild_policy() -> RebuildPolicy:
    """Return how eagerly the platform rebuilds, by MIMIC_SETTLE_SECONDS and the others in `POLICY`.

    Raises:
        SpecError: a value is no number, or too small.
    """
    return RebuildPolicy(**{field: _number(name, least) for name, (field, least) in POLICY.items() if os.environ.get(name)})


def previews() -> Previews:
    """Return how many rows of a build are shown, by MIMIC_PREVIEW_ROWS.

    Raises:
        SpecError: it is no number, or one of rows that Dagster could not keep with every build.
    """
    rows = _number(PREVIEW_ROWS, 0) if os.environ.get(PREVIEW_ROWS) else Previews().rows
    if rows > MOST_PREVIEW_ROWS:
        raise SpecError(
            f"{PREVIEW_ROWS} is {rows:,}, expected at most {MOST_PREVIEW_ROWS}, as Dagster keeps them with every build; "
            "mend it in the environment or .env"
        )
    return Previews(rows=rows)


def freshness() -> Freshness:
    """Return how old the content of a source table may be, by MIMIC_FRESH_DAYS.

    Raises:
        SpecError: it is no number of at least 1.
    """
    return Freshness(days=_number(FRESH_DAYS, 1)) if os.environ.get(FRESH_DAYS) else Freshness()


def alert_sink() -> AlertSink:
    """Return where alerts go: to the webhook of MIMIC_ALERT_WEBHOOK, or into the log.

    Raises:
        SpecError: MIMIC_ALERT_WEBHOOK is no http or https URL.
    """
    if not (url := os.environ.get(ALERT_WEBHOOK)):
        return LogSink()
    require_webhook(url)
    return WebhookSink(url=dg.EnvVar(ALERT_WEBHOOK))  # by its name, so that Dagster shows no secret


def owners() -> list[str]:
    """Return who answers for the assets: MIMIC_OWNERS, teams and e-mail addresses between commas, or `team:mimic`.

    Raises:
        SpecError: one of them is neither.
    """
    found = [owner.strip() for owner in (os.environ.get(OWNERS) or "team:mimic").split(",")]
    if wrong := [owner for owner in found if not OWNER.fullmatch(owner)]:
        raise SpecError(
            f"{OWNERS} names {', '.join(map(repr, wrong))}, expected team:NAME or an e-mail address, with commas between "
            "several; mend it in the environment or in .env"
        )
    return found


def code_url() -> str | None:
    """Return the URL of the folder of this code in a repository, MIMIC_CODE_URL without a slash at its end; None without.

    Raises:
        SpecError: it is no http or https URL.
    """
    if not (url := os.environ.get(CODE_URL)):
        return None
    if not url.startswith(("http://", "https://")):
        raise SpecError(
            f"{CODE_URL} is {url!r}, expected an http or https URL such as https://github.com/ORGANISATION/mimic/blob/main; "
            "mend it in the environment or in .env"
        )
    return url.rstrip("/")


def in_cluster() -> bool:
    """Tell whether steps are Jobs of Kubernetes, by MIMIC_ENV.

    Raises:
        SpecError: it names no environment, or the catalog would be a file that the pods share.
    """
    name = os.environ.get(ENVIRONMENT) or LOCAL
    if name not in (LOCAL, KUBERNETES):
        raise SpecError(
            f"{ENVIRONMENT} is {name!r}, expected {LOCAL!r} or {KUBERNETES!r}, or nothing for {LOCAL!r}; mend it in the "
            "environment or in .env"
        )
    if name == KUBERNETES and not os.environ.get(CATALOG):
        raise SpecError(
            f"{ENVIRONMENT} is {KUBERNETES!r} and {CATALOG} is unset, so the catalog of tables would be a file of SQLite "
            "on a volume to which pods on several nodes write, which damages it; give the URL of a Postgres database there, "
            "such as postgresql://USER:PASSWORD@HOST/DATABASE, or glue:DATABASE for Glue"
        )
    return name == KUBERNETES


def in_pod_of_step() -> bool:
    """Tell whether this process executes one step in a Job of its own.

    Raises:
        SpecError: as `in_cluster` does.
    """
    return in_cluster() and STEP_KEY in os.environ


def step_compute() -> dict[str, ComputeSpec]:
    """Return what the steps of each asset get in a cluster where nothing else is asked for, by MIMIC_COMPUTE.

    Raises:
        SpecError: it is no JSON object of assets, or has a wrong value.
    """
    text = os.environ.get(COMPUTE) or "{}"
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"{COMPUTE}: this is not JSON: {error}; expected {COMPUTE_EXAMPLE}") from error
    if not isinstance(found, dict) or not all(isinstance(asked, dict) for asked in found.values()):
        raise SpecError(f"{COMPUTE} is {text}, expected an object with one for each asset, such as {COMPUTE_EXAMPLE}")
    if unknown := sorted(found.keys() - set(STAGES)):
        near = did_you_mean(unknown[0], STAGES)
        raise SpecError(f"{COMPUTE}: {unknown[0]!r} is no asset{near}; the assets are {', '.join(STAGES)}")
    return {asset: parse_spec(ComputeSpec, asked, f"{COMPUTE}: {asset}") for asset, asked in found.items()}


def executor(specs: SpecStore) -> dg.ExecutorDefinition:
    """Return what executes the steps of a run: this process, or a Job of Kubernetes for each.

    Args:
        specs: what they ask for in a cluster.

    Raises:
        SpecError: a setting is wrong.
    """
    if not in_cluster():
        return dg.in_process_executor
    return step_jobs(StepCompute(specs=specs, stages=step_compute()), os.environ.get(GPU_IMAGE) or None)


def environment_resources(home: Path) -> dict[str, Any]:
    """Return the resources of the environment that MIMIC_ENV names.

    In a cluster `home` is on a volume that all pods share, unless tables and artefacts are in S3; what steps hand to each
    other is beside the artefacts. The index, which may be lost at any time, is in each pod.

    Raises:
        SpecError: a setting is wrong.
    """
    if not in_cluster():
        return local_resources(home)
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]  # several homes may share a machine, in tests
    found = local_resources(home, Path(tempfile.gettempdir()) / f"mimic-index-{digest}.db")
    return found | {"io_manager": _hand_over(found["artefacts"].where(STEPS))}


def local_resources(home: Path, index_file: Path | None = None) -> dict[str, Any]:
    """Return the resources of one machine: files below `home`, but for what a setting puts elsewhere.

    Args:
        home: the root of everything.
        index_file: of the index, if it is not below `home`.

    Raises:
        SpecError: a setting is wrong.
    """
    artefacts = artefact_store(home)
    specs = SpecStore(artefacts=artefacts)
    tables = TableStore(
        # by its name, so that Dagster shows no password
        catalog_uri=dg.EnvVar(CATALOG) if os.environ.get(CATALOG) else f"sqlite:///{home / 'catalog.db'}",
        warehouse=warehouse(home),
        locks=str(home / "locks"),
    )
    index = Index(path=str(index_file or home / "index.db"))
    return {
        "alerts": alert_sink(),
        "artefacts": artefacts,
        "specs": specs,
        "tables": tables,
        "inventory": Inventory(specs=specs, tables=tables, artefacts=artefacts, index=index),
        "spec_folder": SpecFolder(path=str(spec_folder(home))),
        "rebuild_policy": rebuild_policy(),
        "previews": previews(),
        "freshness": freshness(),
    }


def _hand_over(where: str) -> dg.ConfigurableIOManagerFactory[Any]:
    """Return what keeps, at a path or URL, what the steps of a run hand to each other."""
    if not where.startswith(S3):
        return dg.FilesystemIOManager(base_dir=where)
    from dagster_aws.s3 import S3PickleIOManager, S3Resource

    bucket, _, prefix = where.removeprefix(S3).partition("/")
    return S3PickleIOManager(s3_resource=S3Resource(), s3_bucket=bucket, s3_prefix=prefix)


def _s3_url(name: str) -> str:
    """Return the URL of S3 that a variable holds, without a slash at its end; empty where it is unset."""
    value = os.environ.get(name) or ""
    if value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[\w.=-]+)*/?", value, re.ASCII):
        raise SpecError(
            f"{name} is {value!r}, expected s3://BUCKET or s3://BUCKET/PREFIX; mend it in the environment or .env"
        )
    return value.rstrip("/")


def _switch(name: str) -> bool:
    value = os.environ.get(name) or "0"
    if value not in ("0", "1"):
        raise SpecError(f"{name} is {value!r}, expected 1, or 0 or nothing; mend it in the environment or in .env")
    return value == "1"


def _number(name: str, least: int) -> int:
    value = os.environ[name]
    if not value.isascii() or not value.isdigit() or int(value) < least:
        raise SpecError(
            f"{name} is {value!r}, expected a whole number of at least {least}; mend it in the environment or .env"
        )
    return int(value)


def _places() -> None:
    """Check where tables and artefacts are."""
    warehouse(mimic_home())
    artefact_store(mimic_home())


CHECKS = (
    in_cluster,
    _places,
    step_compute,
    layers_code_allowed,
    alert_sink,
    previews,
    rebuild_policy,
    rebuilds_by_itself,
    owners,
    code_url,
    freshness,
)  # what refuses a wrong setting
