"""Planning: the planner over what there is in this moment, with the runs of a Dagster instance."""

import gc
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import dagster as dg

from mimic_assets import attempts
from mimic_assets.requests import awaited
from mimic_core import planner
from mimic_core.model_specs import ModelSpec
from mimic_core.planner import Plan
from mimic_core.report_ages import experiments, with_reports
from mimic_core.world import RUN, Node, Unfinished, World
from resources.artefacts import ArtefactStore
from resources.inventory import Inventory
from resources.requests import open_requests
from resources.trainings import epochs_to_go_on_after


def make_plan(instance: dg.DagsterInstance, inventory: Inventory, apart_from: str | None = None) -> tuple[Plan, World]:
    """Say of every partition what it is and why; returns also what that was made from.

    Args:
        apart_from: id of a run that does not count, the one that asks.

    Raises:
        StorageError: the catalog, or a folder of the object storage, cannot be read.
    """
    with _without_collecting():
        # before the runs, and these before the manifests: what goes on in between is seen in one of the two
        requests = open_requests(inventory.artefacts)
        flights = attempts.in_flight(instance, apart_from)
        flights = awaited(instance, requests, time.time()) | flights
        world = replace(inventory.world(), in_flight=flights)
        plan = planner.plan(world)
        wanted = {node: partition.version for node, partition in plan.partitions.items() if partition.ready}
        failed = attempts.failed(instance, wanted) if wanted else {}
        unfinished = _unfinished(world, wanted, inventory.artefacts)
        if not failed and not unfinished:
            return plan, world
        world = replace(world, failed=failed, unfinished=unfinished)
        return planner.plan(world), world


def plan_with_reports(
    instance: dg.DagsterInstance, inventory: Inventory, apart_from: str | None = None
) -> tuple[Plan, World]:
    """Return what `make_plan` does, with the reports in both, for which nothing is built by itself."""
    plan, world = make_plan(instance, inventory, apart_from)
    made = inventory.reports(experiments(world))
    return with_reports(plan, world, made), replace(world, manifests={**world.manifests, **made})


def _unfinished(world: World, wanted: Mapping[Node, str], artefacts: ArtefactStore) -> dict[Node, Unfinished]:
    """Return the trainings that go on when their runs are built in the versions that these should have."""
    found = {}
    for node, version in wanted.items():
        wants = world.registered[node]
        if node.asset == RUN and (epochs := epochs_to_go_on_after(artefacts, wants.folder, version)):
            most = ModelSpec.model_validate(json.loads(wants.document)["model"]).epochs
            seconds = [epoch["seconds"] for epoch in epochs if epoch.get("seconds") is not None]
            found[node] = Unfinished(epochs=len(epochs), most=most, seconds=median(seconds) if seconds else None)
    return found


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep Python from looking for garbage: with 10,000 partitions that takes a third of the time, and finds nothing."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
