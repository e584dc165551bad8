"""Unfinished trainings: the epochs of runs that failed or died without publishing them reach the results table."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from mimic_assets.attempts import nodes_of
from mimic_assets.epochs import publish_unfinished
from mimic_assets.failures import attempt
from mimic_assets.live import unfinished_of
from mimic_core.specs import RunSpec


def publish_epochs_of(instance: dg.DagsterInstance, run_ids: Iterable[str], resources: dict[str, Any]) -> list[str]:
    """Publish the epochs of the trainings that some ended runs did not finish, and return what is to be said of it.

    Args:
        resources: those of this environment, by name.
    """
    ended = list(run_ids)
    runs = instance.get_runs(dg.RunsFilter(run_ids=ended)) if ended else []
    keys = {node.key for run in runs for node in nodes_of(run) if node.asset == RunSpec.asset}
    said = []
    for key in sorted(keys):
        if unfinished_of(instance, key) or not resources["specs"].has(RunSpec.asset, key):
            continue  # who trains it now publishes at its own end
        published, problem = attempt(_publish, key, resources)
        if problem:
            said.append(f"the epochs of run {key} are not published: {problem}")
        elif published:
            said.append(f"run {key} ended unfinished; its {published:,} epochs are in the results table")
    return said


def _publish(key: str, resources: dict[str, Any]) -> int:
    return publish_unfinished(resources["specs"].get(RunSpec, key).spec, resources["tables"], resources["artefacts"])
