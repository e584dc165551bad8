"""Planning: what the commands share that go by the planner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    from mimic_core.planner import Plan
    from mimic_core.world import World


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The present plan, what it was made from, and the instance and resources to work it off with."""

    instance: "dg.DagsterInstance"
    resources: dict[str, Any]
    plan: "Plan"
    world: "World"


@contextmanager
def planned() -> Iterator[Planned]:
    """Mark runs whose process is gone as failed, then plan.

    Raises:
        StorageError: the catalog, or a folder of the object storage, cannot be read.
    """
    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.planning import make_plan

    resources = local_resources()
    with open_instance() as instance:
        end_dead_runs(instance, resources)
        plan, world = make_plan(instance, resources["inventory"])
        yield Planned(instance=instance, resources=resources, plan=plan, world=world)
