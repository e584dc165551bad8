"""Ended runs: what every command does first about runs whose process is gone."""

from typing import Any

import click
import dagster as dg

from mimic_assets.dead_runs import fail_dead_runs


def end_dead_runs(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    """Mark runs as failed whose process is gone, publish what their trainings left, and say so on standard error."""
    if dead := fail_dead_runs(instance):
        from mimic_assets.unfinished import publish_epochs_of

        for said in publish_epochs_of(instance, dead, resources):
            click.echo(f"mimic: {said}", err=True)
