"""Progress of a build: a bar per partition on a terminal, plain lines elsewhere; always on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, PartitionSpec, RunSpec

if TYPE_CHECKING:
    import dagster as dg
    from rich.progress import Progress

    from mimic_assets.cli.execution import Report

SHARD_STEPS = ("sample_shard[", "build_dataset_shard[", "score_shard[")


@contextmanager
def progress(spec: PartitionSpec, title: str) -> "Iterator[Report]":
    """Show the progress of one partition; gives the function that takes the run's events."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(title, highlight=False, soft_wrap=True)
        yield _Lines(spec, console.print).event
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        yield _Bar(spec, title, bars).event


def total_steps(spec: PartitionSpec) -> int | None:
    """Return the number of shards or epochs to expect; None where it is not known before (a solver's iterations)."""
    if isinstance(spec, ContrastSpec | DatasetSpec | InferenceSpec):
        return sum(spec.partitions.values())
    if isinstance(spec, RunSpec) and not spec.model.linear:
        return spec.model.epochs
    return None


def unit(spec: PartitionSpec) -> str:
    """Name what the progress of a partition counts."""
    if isinstance(spec, RunSpec):
        return "iteration" if spec.model.linear else "epoch"
    return "shard"


def step_done(event: "dg.DagsterEvent") -> str | None:
    """Name the shard, or give the losses of the epoch, that an event reports as done; None for any other event."""
    if event.event_type_value == "ASSET_OBSERVATION":
        numbers = {name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()}
        if "epoch" not in numbers:
            return None
        losses = (f"{name} {numbers[name]:.4f}" for name in ("loss", "val_loss") if name in numbers)
        return ", ".join(losses)
    name = (event.step_key or "").rpartition(".")[2]
    if event.event_type_value == "STEP_SUCCESS" and name.startswith(SHARD_STEPS):
        return name[name.index("[") + 1 : -1]
    return None


class _Lines:
    def __init__(self, spec: PartitionSpec, write) -> None:  # type: ignore[no-untyped-def]
        self._total, self._unit, self._done, self._write = total_steps(spec), unit(spec), 0, write

    def event(self, event: "dg.DagsterEvent") -> None:
        if (what := step_done(event)) is not None:
            self._done += 1
            of = f"/{self._total}" if self._total else ""
            self._write(f"  {self._unit} {self._done}{of}: {what}", highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, spec: PartitionSpec, title: str, bars: "Progress") -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=total_steps(spec), note="")

    def event(self, event: "dg.DagsterEvent") -> None:
        if (what := step_done(event)) is not None:
            self._bars.update(self._task, advance=1, note=what)
