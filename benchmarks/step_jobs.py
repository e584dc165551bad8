"""What it costs that every step is a Job: dataset builds on a cluster beside the same builds in one process.

`mimic log-odds build-dataset` is executed with MIMIC_ENV=local, where its own process does everything, and by a platform
(code server, daemon) on the stand-in for the Kubernetes API of tests/cluster, where each step is a new Python process as in
a pod. The table is small, so that the work hardly counts. What a real cluster adds is not in it: pulling images, scheduling,
the network, Postgres instead of SQLite. With `--runs` the daemon is looked at while as many runs are in flight, that sleep.
"""

import collections
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import workload
from dagster import DagsterEvent, DagsterEventType
from reporting import machine

from mimic_core.specs import DatasetSpec

TESTS = Path(__file__).resolve().parents[1] / "tests/cluster"
MIMIC = str(Path(sys.executable).with_name("mimic"))
TABLE, DECISIONS = "bench.small", 5_000
LOOK_SECONDS = 0.2
POLL_SECONDS = 60  # between two looks of the daemon at runs, as deployed
SLEEP_SECONDS = "1.0"  # between two looks of a run at its steps, as deployed
SHARD_SECONDS = 60  # of work, to which the cost of a step is compared
PARTS = ("steps", "run", "daemon", "code server", "command")
IN_FLIGHT_SECONDS = 120  # how long the daemon is looked at when all runs were launched
MOST_FUNCTIONS = 25
SLEEP = ["sleep", "3600"]
BACKFILL = """mutation Fill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on PythonError { message } }
}"""


@dataclass
class Cost:
    """What a build took.

    Attributes:
        wall: seconds from the start of its command to its end.
        cpu: CPU seconds by what used them.
        step: peak memory of a process that executes steps, the largest, in MB.
        whole: the same of all processes together at one moment, libraries that they share counted for each.
        requests: to the API of Kubernetes.
        lives: seconds from the making of each Job that built shards to its end.
        shards: seconds from the making of the first of them to the end of the last.
    """

    wall: float
    cpu: dict[str, float]
    step: float
    whole: float
    requests: int = 0
    lives: list[float] = field(default_factory=list)
    shards: float = 0.0

    @property
    def all_cpu(self) -> float:
        """CPU seconds of all processes."""
        return sum(self.cpu.values())


def load_platforms() -> ModuleType:
    """Load what the tests of a cluster share, which is in no package."""
    place = importlib.util.spec_from_file_location("cluster_conftest", TESTS / "conftest.py")
    module = importlib.util.module_from_spec(place)  # type: ignore[arg-type]
    place.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def small_table() -> pa.Table:
    """Make a few thousand decisions, each of an individual of its own, so that no shard is empty."""
    rows = next(workload.clustered())
    one = pc.add(pc.multiply(rows["_individual"], workload.DECISIONS_PER_INDIVIDUAL), rows["_decision"])
    rows = rows.set_column(rows.column_names.index("_individual"), "_individual", one)
    return rows.filter(pc.less(one, DECISIONS))


def config(folder: Path, name: str, shards: int, per_step: int) -> Path:
    """Write the config of a dataset."""
    database, table = TABLE.split(".")
    document = {
        "database": database,
        "table": table,
        "train_partitions": shards,
        "shards_per_step": per_step,
        "max_choices": workload.MAX_CHOICES,
        "features": workload.NAMES,
        "missing_values_map": dict.fromkeys(workload.NAMES, 0),
        "space": "bench",
        "dataset": name,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def steps_of(shards: int, per_step: int) -> int:
    """Count the steps of a build: one plans, one publishes, and those between build shards."""
    return 2 + -(-shards // per_step)


def megabytes(pid: int) -> dict[str, float]:
    """Return the memory of a process and its peak; nothing of one that ended."""
    # not ru_maxrss, which begins with the memory of the process that started this one
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return {line[:5]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {}


class Watch:
    """Looks again and again at the processes of a build.

    Attributes:
        peaks: by the part that a process plays, the largest peak in MB.
        whole: most of all at one moment.
        run_cpu: CPU seconds of the processes of runs, up to the last look.
    """

    def __init__(self, roles: Mapping[int, str], node: int | None) -> None:
        self.peaks: dict[str, float] = collections.defaultdict(float)
        self.whole = self.run_cpu = 0.0
        self._roles, self._node, self._ended = dict(roles), node, threading.Event()
        self._runs: dict[int, float] = {}
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.run_cpu = sum(self._runs.values())

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for process in psutil.Process(self._node).children() if self._node else ():
                if self._roles.get(process.pid, "new") == "new":
                    self._roles[process.pid] = role(process)
            now = {pid: megabytes(pid) for pid in self._roles}
            self.whole = max(self.whole, sum(found.get("VmRSS", 0.0) for found in now.values()))
            for pid, found in now.items():
                self.peaks[self._roles[pid]] = max(self.peaks[self._roles[pid]], found.get("VmHWM", 0.0))
                if self._roles[pid] == "run":
                    with suppress(psutil.Error):
                        self._runs[pid] = own_cpu(psutil.Process(pid))


def role(process: psutil.Process) -> str:
    """Tell the process of a step from that of a run; `new` is one that has not begun its command yet."""
    with suppress(psutil.Error):
        command = process.cmdline()
        return next((name for name in ("step", "run") if f"execute_{name}" in command), "new")
    return "new"


def own_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of a process."""
    times = process.cpu_times()
    return times.user + times.system


def childrens_cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of all processes that a process had and that ended."""
    times = process.cpu_times()
    return times.children_user + times.children_system


def watched(command: Sequence[object], environment: Mapping[str, str], servers: Mapping[int, str], node: int | None) -> Cost:
    """Execute a command, and see what it costs in all processes that work for it."""
    others = {psutil.Process(pid): name for pid, name in servers.items()}
    before = {name: own_cpu(process) for process, name in others.items()}
    steps = childrens_cpu(psutil.Process(node)) if node else 0.0
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with Watch({**servers, process.pid: "command"}, node) as watch:
        said = process.stdout.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        if node:
            ended(psutil.Process(node))
    if process.returncode:
        raise SystemExit(said)
    cpu = {name: own_cpu(each) - before[name] for each, name in others.items()}
    cpu |= {"command": usage.ru_utime + usage.ru_stime}
    if node:
        cpu |= {"run": watch.run_cpu, "steps": childrens_cpu(psutil.Process(node)) - steps - watch.run_cpu}
    return Cost(wall=wall, cpu=cpu, step=watch.peaks["step" if node else "command"], whole=watch.whole)


def ended(node: psutil.Process) -> None:
    """Wait until all containers of a node are gone: the process of a run ends a little after its run."""
    while node.children():
        time.sleep(LOOK_SECONDS / 2)


@contextmanager
def platform(folder: Path, slots: int) -> Iterator[Any]:
    """Give a platform that executes containers anew, with its servers and so many slots for steps that build shards."""
    tests = load_platforms()
    with tests.platform_on(folder, tests.load("stand_in"), poll_seconds=POLL_SECONDS, modules=()) as made:
        made.settings["DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS"] = SLEEP_SECONDS
        with made.instance as instance:
            instance.event_log_storage.set_concurrency_slots("shards", slots)
        made.serve()
        code, daemon = (process.pid for process in made._processes)
        made.servers = {code: "code server", daemon: "daemon"}
        made.node = made.cluster._node.pid
        yield made


def on_the_cluster(made: Any, dataset: Path) -> Cost:
    """Build a dataset by Jobs."""
    before = sum(made.cluster.requests.values())
    cost = watched([MIMIC, "log-odds", "build-dataset", dataset], made.environment, made.servers, made.node)
    jobs = made.steps(made.runs("tfrecord_dataset")[-1].run_id)
    times = [job["metadata"] for step, job in jobs.items() if "[" in step]
    cost.lives = [each["ended"] - each["began"] for each in times]
    cost.shards = max(each["ended"] for each in times) - min(each["began"] for each in times)
    cost.requests = sum(made.cluster.requests.values()) - before
    return cost


def median(costs: Sequence[Cost]) -> Cost:
    """Return the medians of repetitions."""

    def middle(name: str) -> float:
        return statistics.median(getattr(cost, name) for cost in costs)

    cpu = {part: statistics.median(cost.cpu.get(part, 0.0) for cost in costs) for part in PARTS}
    lives = [seconds for cost in costs for seconds in cost.lives]
    shards = sum(cost.shards for cost in costs)
    return Cost(middle("wall"), cpu, middle("step"), middle("whole"), int(middle("requests")), lives, shards)


def measure(sizes: Sequence[int], batch: int, slots: int, repetitions: int, most_steps: int) -> None:
    """Build datasets in both ways, by turns, and print what they took."""
    details = []
    with tempfile.TemporaryDirectory() as name, platform(Path(name) / "cluster", slots) as made:
        local = prepare(made, Path(name))
        build(made, local, config(Path(name), "warm-up", 1, 1))
        for shards, per_step in [(shards, per_step) for shards in sizes for per_step in (1, batch)]:
            if (steps := steps_of(shards, per_step)) > most_steps:
                continue
            often = repetitions if shards == min(sizes) else 1
            datasets = [config(Path(name), f"d-{shards}-{per_step}-{turn}", shards, per_step) for turn in range(often)]
            pairs = [build(made, local, dataset) for dataset in datasets]
            alone, jobs = (median(costs) for costs in zip(*pairs, strict=True))
            which = {"shards": shards, "a step": per_step, "steps": steps}
            show(which | compared(alone, jobs, steps), first=not details)
            details.append(which | divided(jobs, slots, steps))
            more = (jobs.all_cpu - alone.all_cpu) / steps
            details[-1] |= {f"cost beside {SHARD_SECONDS} s a shard": f"{more / (SHARD_SECONDS * per_step):.1%}"}
    print()
    for row in details:
        show(row, first=row is details[0])


def compared(alone: Cost, jobs: Cost, steps: int) -> dict[str, object]:
    """Return what a build took in one process, and by Jobs."""
    return {
        "in process: s": alone.wall,
        "CPU s": alone.all_cpu,
        "MB": f"{alone.whole:.0f}",
        "as Jobs: s": jobs.wall,
        "CPU s ": jobs.all_cpu,
        "MB of a step": f"{jobs.step:.0f}",
        "MB of all": f"{jobs.whole:.0f}",
        "ratio: s": jobs.wall / alone.wall,
        "CPU s  ": jobs.all_cpu / alone.all_cpu,
        "more per step: s": f"{(jobs.wall - alone.wall) / steps:.2f}",
        "CPU s   ": f"{(jobs.all_cpu - alone.all_cpu) / steps:.2f}",
    }


def divided(jobs: Cost, slots: int, steps: int) -> dict[str, object]:
    """Return what used the CPU seconds of a build by Jobs, and how its steps went."""
    return {f"CPU s: {part}" if part == PARTS[0] else part: jobs.cpu[part] for part in PARTS} | {
        "requests a step": f"{jobs.requests / steps:.1f}",
        "a Job of shards: s": statistics.median(jobs.lives),
        "slots used": f"{sum(jobs.lives) / jobs.shards / min(slots, steps - 2):.0%}",
    }


def prepare(made: Any, folder: Path) -> dict[str, str]:
    """Give the table to the cluster, and to one process; returns the variables of the latter."""
    local = made.environment | {
        "MIMIC_ENV": "local",
        "MIMIC_HOME": f"{folder}/mimic",
        "MIMIC_CATALOG": f"sqlite:///{folder}/catalog.db",
        "DAGSTER_HOME": f"{folder}/dagster",
    }
    pq.write_table(small_table(), folder / "table.parquet")
    for environment in (local, made.environment):
        importing = [MIMIC, "tables", "import", TABLE, str(folder / "table.parquet")]
        subprocess.run(importing, check=True, capture_output=True, env=environment)  # noqa: S603
    return local


def build(made: Any, local: Mapping[str, str], dataset: Path) -> tuple[Cost, Cost]:
    """Build a dataset in one process, and by Jobs."""
    return watched([MIMIC, "log-odds", "build-dataset", dataset], local, {}, None), on_the_cluster(made, dataset)


def show(row: Mapping[str, object], *, first: bool = False) -> None:
    """Print a line of a table of Markdown; before the first one the names of the columns."""
    if first:
        print(f"| {' | '.join(name.strip() for name in row)} |\n{'|---' * len(row)}|")
    said = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row.values()]
    print(f"| {' | '.join(said)} |", flush=True)


def look_at_the_daemon(runs: int, py_spy: str | None) -> None:
    """Have a backfill launch runs whose processes sleep, and print the daemon's share of a core meanwhile, and then."""
    tests = load_platforms()
    asleep = {"poll_seconds": POLL_SECONDS, "modules": (), "command": lambda _pod, _command: SLEEP}
    with (
        tempfile.TemporaryDirectory() as name,
        tests.platform_on(Path(name) / "cluster", tests.load("stand_in"), most_runs=2 * runs, **asleep) as made,
    ):
        keys = [made.register(DatasetSpec, dataset=f"d{number}") for number in range(runs)]
        made.serve(ui=True)
        daemon = psutil.Process(made.daemon.pid)
        report(made, daemon, "without runs", IN_FLIGHT_SECONDS, first=True)
        profile = Path(name) / "profile"
        profiler = record(py_spy, daemon.pid, profile) if py_spy else None
        began, cpu, asked = time.monotonic(), own_cpu(daemon), sum(made.cluster.requests.values())
        params = {"assetSelection": [{"path": ["tfrecord_dataset"]}], "partitionNames": keys}
        made.ask(BACKFILL, params=params)
        tests.load("stand_in").waiting(lambda: len(made.cluster.pods) >= runs, 600, f"launching {runs} runs")
        tell(made, daemon, f"launches {runs} runs", began, cpu, asked)
        if profiler:
            profiler.send_signal(signal.SIGINT)
            profiler.wait(60)
        with made.instance as instance:
            for run in instance.get_runs():  # what a sleeping process does not say; only runs that began are looked at
                instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, run.job_name), run.run_id)
        report(made, daemon, f"with {runs} runs in flight", IN_FLIGHT_SECONDS)
        if profiler:
            show_profile(profile)


def report(made: Any, daemon: psutil.Process, when: str, seconds: float, *, first: bool = False) -> None:
    """Print what the daemon takes while some time passes."""
    began, cpu, asked = time.monotonic(), own_cpu(daemon), sum(made.cluster.requests.values())
    time.sleep(seconds)
    tell(made, daemon, when, began, cpu, asked, first=first)


def tell(made: Any, daemon: psutil.Process, when: str, began: float, cpu: float, asked: int, *, first: bool = False) -> None:
    """Print what the daemon took since then."""
    seconds, used = time.monotonic() - began, own_cpu(daemon) - cpu
    row = {"the daemon": when, "seconds": seconds, "CPU s": used, "of a core": f"{used / seconds:.0%}"}
    requests = sum(made.cluster.requests.values()) - asked
    show(row | {"requests": requests, "MB": f"{megabytes(daemon.pid)['VmRSS']:.0f}"}, first=first)


def record(py_spy: str, pid: int, profile: Path) -> subprocess.Popen[bytes]:
    """Record the stacks of the threads of a process that are on a core."""
    command = [py_spy, "record", "--pid", str(pid), "--format", "raw", "--output", str(profile), "--rate", "50"]
    return subprocess.Popen([*command, "--duration", "3600", "--nonblocking"], stdout=subprocess.DEVNULL)  # noqa: S603


def show_profile(profile: Path) -> None:
    """Print in which functions of Dagster a process was, what these call included."""
    stacks = [line.rpartition(" ") for line in profile.read_text(encoding="utf-8").splitlines()]
    total, inside = sum(int(count) for *_, count in stacks), collections.Counter[str]()
    for stack, _, count in stacks:
        for function in {frame.rpartition(":")[0] for frame in stack.split(";") if "(dagster" in frame}:
            inside[function] += int(count)
    print()
    for number, (function, count) in enumerate(inside.most_common(MOST_FUNCTIONS)):
        show({"while it launches them, in": f"`{function})`", "of its time": f"{count / total:.0%}"}, first=not number)


@click.command()
@click.option("--sizes", default="8,64,256", help="Shards of the builds.")
@click.option("--batch", default=8, help="Shards of a step in the other build of each size.")
@click.option("--slots", default=2 * (os.cpu_count() or 1), help="Steps that build shards at once.")
@click.option("--repetitions", default=3, help="Of the smallest builds; the others are measured once.")
@click.option("--most-steps", default=100, help="Leave out builds of more: 256 take 20 minutes.")
@click.option("--runs", default=0, help="Look at the daemon instead, with so many runs in flight.")
@click.option("--py-spy", help="The program of that name: also print where the daemon is while it launches them.")
def main(sizes: str, batch: int, slots: int, repetitions: int, most_steps: int, runs: int, py_spy: str | None) -> None:
    """Print what Jobs cost, as tables of Markdown."""
    print(f"{machine()}\n", flush=True)
    if runs:
        look_at_the_daemon(runs, py_spy)
        return
    print(
        f"{DECISIONS:,} decisions; the pool `shards` has {slots} slots; every Job is a new Python process on this machine."
    )
    print("Pulling images, scheduling and the network of a real cluster come on top.\n", flush=True)
    measure([int(size) for size in sizes.split(",")], batch, slots, repetitions, most_steps)


if __name__ == "__main__":
    main()
