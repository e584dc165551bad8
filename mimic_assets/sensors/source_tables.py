"""The sensor that observes the source tables whose content changed, and has a run look at what is in them."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from mimic_assets.jobs import PROFILES
from mimic_assets.live import UNFINISHED
from mimic_assets.partitions import source_tables
from mimic_assets.registration import add_partitions
from mimic_assets.source_pages import is_observed, seen
from mimic_core.freshness import is_stale
from mimic_core.manifests import fingerprint
from mimic_core.profiles import profile_version
from mimic_core.source_watch import Asked, Wanted, choose
from mimic_core.world import SOURCE, TableState
from resources.artefacts import ArtefactStore
from resources.freshness import Freshness
from resources.inventory import Inventory
from resources.profiles import has_profile


@dg.sensor(
    job_name=PROFILES,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Observes the source tables whose content changed, adds partitions for new ones, removes those of tables "
    f"that are gone, and starts the job {PROFILES} for those that nobody looked into since, that cannot be read, or that "
    "became too old.",
)
def source_table_sensor(
    context: dg.SensorEvaluationContext, inventory: Inventory, artefacts: ArtefactStore, freshness: Freshness
) -> dg.SensorResult:
    """Report an observation for each table that holds something else than at the last tick, and request a run."""
    cursor = json.loads(context.cursor or "{}")
    last = set(cursor.get("contents", ()))
    # before the tables: what is imported in between is there, and not gone
    known = set(context.instance.get_dynamic_partitions(str(source_tables.name)))
    tables = inventory.sources()
    contents = {name: _content(name, table) for name, table in tables.items()}
    changed = [name for name in tables if contents[name] not in last]
    for name in changed:
        if tables[name].error:
            context.log.error(f"table {name} cannot be observed: {tables[name].error}")
    for gone in known - tables.keys():
        context.instance.delete_dynamic_partition(str(source_tables.name), gone)
    if new := [name for name in tables if name not in known]:
        add_partitions(context.instance, SOURCE, new)
    readable = {name: table for name, table in tables.items() if not table.error}
    said = [name for name in changed if name in readable and not is_observed(context.instance, name, readable[name])]
    asked = Asked(**cursor.get("asked", {}))
    busy = context.instance.get_runs(dg.RunsFilter(job_name=PROFILES, statuses=UNFINISHED), limit=1)
    wanted = None if busy else _wanted(tables, asked, artefacts, freshness)
    requests = [_request(wanted)] if wanted and (wanted.profiles or wanted.ages) else []
    asked = wanted.asked if wanted else asked
    return dg.SensorResult(
        asset_events=[event for name in said for event in seen(name, readable[name])],
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason(_why_nothing(len(said), len(tables), wanted)),
        # Dagster keeps the cursors of many ticks, so it is short
        cursor=json.dumps({"contents": sorted(contents.values()), "asked": asdict(asked)}),
    )


def _wanted(tables: Mapping[str, TableState], asked: Asked, artefacts: ArtefactStore, freshness: Freshness) -> Wanted:
    readable = {name: table for name, table in tables.items() if not table.error}
    versions = {name: profile_version(table) for name, table in readable.items()}
    lacking = {name: version for name, version in versions.items() if not has_profile(artefacts, name, version)}
    now = time.time()
    stale = {name for name, table in readable.items() if is_stale(table.changed_at, now, freshness.days)}
    return choose(tables, lacking, stale, asked)


def _request(wanted: Wanted) -> dg.RunRequest:
    config: dict[str, Any] = {"tables": list(wanted.profiles), "ages_of": list(wanted.ages)}
    return dg.RunRequest(job_name=PROFILES, run_config={"ops": {SOURCE: {"config": config}}})


def _why_nothing(changed: int, tables: int, wanted: Wanted | None) -> str:
    said = f"{changed} of {tables} tables changed" if changed else f"none of {tables} tables changed"
    if wanted is None:
        return f"{said}; a run of {PROFILES} is unfinished"
    if wanted.given_up:
        return f"{said}; {wanted.given_up} have no profile although runs were to make it: press Observe to try again"
    return said


def _content(name: str, table: TableState) -> str:
    return fingerprint([name, table.error or table.token])[:10]
