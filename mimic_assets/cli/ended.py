"""Ended runs: what every command does first about runs whose process is gone."""

from typing import Any

import click
import dagster as dg

from mimic_assets.dead_runs import fail_dead_runs, fail_orphaned_runs


def end_dead_runs(instance: dg.DagsterInstance, resources: dict[str, Any], *, orphaned: bool = False) -> None:
    """Mark runs as failed whose process is gone, publish what their trainings left, and say so on standard error.

    Args:
        orphaned: whether also those that a UI or daemon started, see `mimic_assets.dead_runs.fail_orphaned_runs`.
    """
    dead = fail_dead_runs(instance) + (fail_orphaned_runs(instance) if orphaned else [])
    if dead:
        from mimic_assets.unfinished import publish_epochs_of

        for said in publish_epochs_of(instance, dead, resources):
            click.echo(f"mimic: {said}", err=True)
