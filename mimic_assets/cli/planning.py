"""Planning: what the commands share that go by the planner."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_json

if TYPE_CHECKING:
    import dagster as dg

    from mimic_core.planner import Plan
    from mimic_core.world import World

MOST_NAMED = 3  # partitions in one line


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The present plan, what it was made from, and the instance and resources to work it off with."""

    instance: "dg.DagsterInstance"
    resources: dict[str, Any]
    plan: "Plan"
    world: "World"


@contextmanager
def opened() -> "Iterator[tuple[dg.DagsterInstance, dict[str, Any]]]":
    """Open the Dagster instance and the resources of this machine, and mark runs whose process is gone as failed."""
    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.cli.environment import local_resources, open_instance

    resources = local_resources()
    with open_instance() as instance:
        end_dead_runs(instance, resources)
        yield instance, resources


@contextmanager
def planned() -> Iterator[Planned]:
    """Mark runs whose process is gone as failed, then plan.

    Raises:
        StorageError: the catalog, or a folder of the object storage, cannot be read.
    """
    from mimic_assets.planning import make_plan

    with opened() as (instance, resources):
        plan, world = make_plan(instance, resources["inventory"])
        yield Planned(instance=instance, resources=resources, plan=plan, world=world)


def ends_without_home(keys: Sequence[str], document: Mapping[str, Any] | None) -> bool:
    """Tell whether there is no home to look at, and then say so; nothing is made.

    Args:
        keys: that were asked for.
        document: what `--json` prints of a home in which nothing is; None without that option.

    Raises:
        NotFoundError: there is no home, and so none of the keys.
    """
    from mimic_assets.cli.environment import missing_home
    from mimic_core.errors import NotFoundError

    if not (missing := missing_home()):
        return False
    if keys:
        raise NotFoundError(f"there is no partition {keys[0]!r}: {missing}")
    click.echo(missing, err=document is not None)
    if document is not None:
        print_json(document)
    return True


def say_what_is_current(current: Sequence[str]) -> None:
    """Say on standard error which partitions that are built now were up to date already."""
    from mimic_core.wording import listed

    if current:
        click.echo(
            f"mimic: up to date already: {listed(current, MOST_NAMED)}; built again, as this command builds always "
            "(`mimic rebuild` builds only what is not up to date)",
            err=True,
        )
