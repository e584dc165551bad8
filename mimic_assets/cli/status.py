"""`mimic status`: every partition of every stage, and whether it is built, missing or failed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    import dagster as dg

RUNNING = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
RECENT_RUNS = 5_000  # looked through for failures, newest first


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def status(as_json: bool) -> None:
    """Show what is built, missing or failed.

    Every partition of every stage with its version, counts, and since when.

    \b
    Example:
      mimic status
    """
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.cli.execution import fail_dead_runs

    resources = local_resources()
    with open_instance() as instance:
        fail_dead_runs(instance)
        latest = _latest_runs(instance)
        rows = [*_sources(resources["tables"]), *_partitions(instance, resources, latest)]
    if as_json:
        click.echo(json.dumps({"partitions": rows}, indent=1))
    elif rows:
        _print(rows)
    else:
        click.echo("nothing yet; import a table with `mimic tables import DATABASE.TABLE FILE`")


def _sources(tables: Any) -> Iterator[dict[str, Any]]:
    from mimic_core.errors import MimicError
    from resources.tables import SOURCE

    for name in tables.names(SOURCE):
        try:
            pin = tables.pin(name)
        except MimicError as error:  # the files of a registered table are gone
            yield _row("source_table", name, "failed", None, {}, None, str(error))
            continue
        since = datetime.fromtimestamp(tables.changed_at(pin), UTC).isoformat(timespec="seconds")
        yield _row("source_table", name, "built", pin.token, {"rows": pin.rows}, since)


def _partitions(
    instance: "dg.DagsterInstance", resources: dict[str, Any], latest: "dict[tuple[str, str], dg.RunRecord]"
) -> Iterator[dict[str, Any]]:
    from mimic_assets.reasons import failure
    from mimic_core.errors import CorruptFileError
    from mimic_core.specs import PARTITION_SPECS

    for kind in PARTITION_SPECS:
        for key in resources["specs"].registered(kind.asset):
            run = latest.get((kind.asset, key))
            try:
                manifest = resources["artefacts"].manifest(resources["specs"].get(kind, key).spec.folder)
            except CorruptFileError as error:
                yield _row(kind.asset, key, "failed", None, {}, None, str(error))
                continue
            state, since = _state(manifest, run)
            counts = manifest["counts"] if manifest else {}
            hint = failure(instance, run.dagster_run.run_id) if state == "failed" and run else None
            yield _row(kind.asset, key, state, manifest and manifest["version"], counts, since, hint)


def _state(manifest: dict[str, Any] | None, run: "dg.RunRecord | None") -> tuple[str, str | None]:
    import dagster as dg

    built_at = datetime.fromisoformat(manifest["built_at"]) if manifest else None
    if run is not None:
        since = datetime.fromtimestamp(run.end_time or run.create_timestamp.timestamp(), UTC)
        # a run that began before the published build ended lost to it and changes nothing
        newer = built_at is None or run.create_timestamp > built_at
        if run.dagster_run.status.value in RUNNING:
            return "running", since.isoformat(timespec="seconds")
        if run.dagster_run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED) and newer:
            return "failed", since.isoformat(timespec="seconds")
    return ("built", built_at.isoformat(timespec="seconds")) if built_at else ("missing", None)


def _latest_runs(instance: "dg.DagsterInstance") -> "dict[tuple[str, str], dg.RunRecord]":
    """Find the newest run of each partition."""
    from mimic_assets.jobs import BUILDS

    by_job = {job.name: asset for asset, job in BUILDS.items()}
    latest: dict[tuple[str, str], dg.RunRecord] = {}
    for record in instance.get_run_records(limit=RECENT_RUNS):
        run, key = record.dagster_run, record.dagster_run.tags.get("dagster/partition")
        assets = {asset.to_user_string() for asset in run.asset_selection or ()}
        for asset in assets or {by_job.get(run.job_name, "")}:
            if key is not None:
                latest.setdefault((asset, key), record)
    return latest


def _row(
    asset: str,
    key: str,
    state: str,
    version: str | None,
    counts: dict[str, int],
    since: str | None,
    error: str | None = None,
) -> dict[str, Any]:
    return {
        "asset": asset,
        "key": key,
        "status": state,
        "version": version,
        "counts": counts,
        "since": since,
        "error": error,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("asset")
    table.add_column("partition", overflow="fold")  # a run id that is cut short cannot be copied
    for name in ("status", "version", "counts", "since"):
        table.add_column(name)
    colours = {"built": "green", "failed": "red", "missing": "yellow"}
    for row in rows:
        counts = ", ".join(f"{name} {value:,}" for name, value in list(row["counts"].items())[:4])
        colour = colours.get(row["status"], "cyan")
        table.add_row(
            row["asset"],
            row["key"],
            f"[{colour}]{row['status']}[/]",
            row["version"] or "",
            counts,
            row["since"] or "",
        )
    print_table(table)
    for row in rows:
        if row["error"]:
            click.echo(f"{row['asset']} {row['key']}: {row['error']}")
