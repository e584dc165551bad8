"""Maintenance as a Dagster job: tables first, then the object storage; its schedule is off until somebody turns it on."""

from typing import Any

import dagster as dg

from mimic_assets.failures import fails_clearly
from mimic_assets.live import in_use
from resources.artefacts import ArtefactStore
from resources.garbage import collect_garbage
from resources.maintenance import GRACE, KEEP, Terms
from resources.specs import SpecStore
from resources.tables import TableStore
from resources.upkeep import maintain_all


class MaintenanceConfig(dg.Config):
    """How long what is out of use stays."""

    keep_days: float = KEEP / 86400
    grace_hours: float = GRACE / 3600
    dry_run: bool = False


@dg.op(out=dg.Out(dg.Nothing))
@fails_clearly
def maintain_tables(
    context: dg.OpExecutionContext, config: MaintenanceConfig, tables: TableStore, artefacts: ArtefactStore
) -> dg.Output[None]:
    """Expire old versions of all tables, compact small files, remove files that nothing names."""
    done = list(maintain_all(tables, artefacts, [], lambda: _terms(context, config)))
    for result in done:
        context.log.info(f"{result.table}: {result.error or result.document()}")
    counts = {name: sum(getattr(result, name) for result in done) for name in ("expired", "compacted", "files", "bytes")}
    left = {result.table: result.error for result in done if result.error}
    shown: dict[str, Any] = {**counts, "tables": [result.document() for result in done], "left_alone": left}
    return dg.Output(None, metadata=shown)


@dg.op(ins={"tables_are_done": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), name="collect_garbage")
@fails_clearly
def collect(
    context: dg.OpExecutionContext, config: MaintenanceConfig, artefacts: ArtefactStore, specs: SpecStore
) -> dg.Output[None]:
    """Remove version folders, specs and files that no manifest and no unfinished run refers to."""
    found = collect_garbage(artefacts, specs, _terms(context, config))
    for item in found.garbage:
        context.log.info(f"{item.reason}: {item.path}, {item.bytes:,} bytes")
    removed = [item.document() for item in found.garbage]
    shown: dict[str, Any] = {
        "removed": len(removed),
        "bytes": found.bytes,
        "garbage": removed,
        "left_alone": list(found.left),
    }
    return dg.Output(None, metadata=shown)


@dg.job(
    description="Remove what is out of use: old versions and small files of tables, old files in the object storage.",
    executor_def=dg.in_process_executor,
)
def maintenance() -> None:
    """Maintain the tables, then collect garbage."""
    collect(tables_are_done=maintain_tables())


weekly_maintenance = dg.ScheduleDefinition(
    name="weekly_maintenance",
    job=maintenance,
    cron_schedule="0 3 * * 0",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Sundays at 3:00 UTC; off until it is turned on here.",
)


def _terms(context: dg.OpExecutionContext, config: MaintenanceConfig) -> Terms:
    return Terms(
        in_use=in_use(context.instance, apart_from=context.run_id),
        keep=config.keep_days * 86400,
        grace=config.grace_hours * 3600,
        dry_run=config.dry_run,
    )
