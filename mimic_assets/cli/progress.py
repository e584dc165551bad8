"""Progress of a build: a bar per partition on a terminal, plain lines elsewhere; always on standard error."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mimic_core.shards import count_parts
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, PartitionSpec, RunSpec

if TYPE_CHECKING:
    import dagster as dg
    from rich.progress import Progress

PART_STEPS = ("sample_part[", "build_dataset_part[", "score_part[")
SAY_SECONDS = 30  # between two lines that differ in a number only
OBSERVATION = "ASSET_OBSERVATION"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Where the progress of some partitions is shown.

    Attributes:
        reports: by partition key, what takes the events of its run.
        say: shows what all of them wait for.
    """

    reports: "Mapping[str, Report]"
    say: Callable[[str], None]


@contextmanager
def progress(specs: Sequence[PartitionSpec]) -> Iterator[Shown]:
    """Show the progress of partitions that are built at the same time."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        # the lines of several partitions come mixed, so each says which it is of
        names = {spec.key: f"{title(spec)}: " if len(specs) > 1 else "" for spec in specs}
        if len(specs) == 1:
            console.print(title(specs[0]), highlight=False, soft_wrap=True)
        say = _Saying(lambda text: console.print(f"  {text}", highlight=False, soft_wrap=True))
        yield Shown(reports={spec.key: _Lines(spec, names[spec.key], console.print).event for spec in specs}, say=say.say)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        say = _Saying(lambda text: bars.console.print(text, highlight=False))
        yield Shown(reports={spec.key: _Bar(spec, bars).event for spec in specs}, say=say.say)


@contextmanager
def rows_done(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many rows of a file are done, told by what this gives; without a terminal only if that takes long."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        said_at = time.monotonic()

        def say(rows: int) -> None:
            nonlocal said_at
            if time.monotonic() > said_at + SAY_SECONDS:
                said_at = time.monotonic()
                console.print(f"{what}: {rows:,} of {total:,} rows", highlight=False, soft_wrap=True)

        yield say
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    counted = TextColumn("{task.completed:,}/{task.total:,} rows")
    with Progress(TextColumn("{task.description}"), BarColumn(), counted, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task(what, total=total)

        def show(rows: int) -> None:
            bars.update(task, completed=rows)
            if rows >= total:
                bars.stop()  # what follows may be printed on the same terminal

        yield show


def title(spec: PartitionSpec) -> str:
    """Name a partition in a line."""
    return f"{spec.asset} {spec.key}"


def total_steps(spec: PartitionSpec) -> int | None:
    """Return how many steps over shards or epochs to expect; None where it is not known before (a solver's iterations)."""
    if isinstance(spec, ContrastSpec | DatasetSpec | InferenceSpec):
        return count_parts(spec.partitions, spec.shards_per_step)
    if isinstance(spec, RunSpec) and not spec.model.linear:
        return spec.model.epochs
    return None


def unit(spec: PartitionSpec) -> str:
    """Name what the progress of a partition counts."""
    if isinstance(spec, RunSpec):
        return "iteration" if spec.model.linear else "epoch"
    return "part"


class Done(NamedTuple):
    """What an event reports as done.

    Attributes:
        what: the name of the part, or the losses of the epoch.
        number: of the epoch, where a training may have gone on after one; None of a part.
    """

    what: str
    number: int | None = None


class Told(NamedTuple):
    """What an event of a run tells those who follow it.

    Attributes:
        done: a part or an epoch that is done.
        pool: the pool for whose slot a step waits.
        begins: whether a step begins.
    """

    done: Done | None = None
    pool: str | None = None
    begins: bool = False


Report = Callable[[Told], None]


def told_by(event: "dg.DagsterEvent") -> Told | None:
    """Say what an event tells; None for most."""
    numbers: dict[str, Any] = {}
    if event.event_type_value == OBSERVATION:
        numbers = {name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()}
    elif event.is_engine_event:
        pool = event.engine_event_data.metadata.get("pool")
        numbers = {} if pool is None else {"pool": str(pool.value)}
    return told_in(event.event_type_value, event.step_key or "", numbers)


def told_in(kind: str, step: str, numbers: Mapping[str, Any]) -> Told | None:
    """Say what an event of some kind tells, by its step and the values of its metadata; None for most."""
    if "pool" in numbers:
        return Told(pool=numbers["pool"])
    if kind == OBSERVATION and "epoch" in numbers:
        losses = (f"{name} {numbers[name]:.4f}" for name in ("loss", "val_loss") if name in numbers)
        return Told(done=Done(", ".join(losses), numbers["epoch"]))
    name = step.rpartition(".")[2]
    if kind == "STEP_SUCCESS" and name.startswith(PART_STEPS):
        return Told(done=Done(name[name.index("[") + 1 : -1]))
    return Told(begins=True) if kind == "STEP_START" else None


class _Saying:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._said, self._time = write, "", 0.0

    def say(self, text: str) -> None:
        changed = [word for word in text.split() if not word.isdigit()] != [w for w in self._said.split() if not w.isdigit()]
        if changed or (text != self._said and time.monotonic() > self._time + SAY_SECONDS):
            self._said, self._time = text, time.monotonic()
            self._write(text)


class _Lines:
    def __init__(self, spec: PartitionSpec, name: str, write) -> None:  # type: ignore[no-untyped-def]
        self._total, self._unit, self._done = total_steps(spec), unit(spec), 0
        self._write, self._name = write, name
        self._pool: str | None = None

    def event(self, told: Told) -> None:
        if done := told.done:
            self._done = done.number or self._done + 1
            of = f"/{self._total}" if self._total else ""
            self._write(f"  {self._name}{self._unit} {self._done}{of}: {done.what}", highlight=False, soft_wrap=True)
            self._pool = None
        elif told.pool is not None and told.pool != self._pool:  # every step says so
            self._pool = told.pool
            self._write(f"  {self._name}waits for a slot of the pool {told.pool}", highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, spec: PartitionSpec, bars: "Progress") -> None:
        self._bars, self._done = bars, 0
        self._task = bars.add_task(title(spec), total=total_steps(spec), note="")

    def event(self, told: Told) -> None:
        if done := told.done:
            self._done = done.number or self._done + 1
            self._bars.update(self._task, completed=self._done, note=done.what)
        elif told.pool is not None:
            self._bars.update(self._task, note=f"waits for a slot of the pool {told.pool}")
