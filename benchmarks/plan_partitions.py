"""Planning when nothing changed: 1,000 and 10,000 registered partitions over 200 tables, beside reading everything anew.

A partition of every stage is published with the files that its manifest names. CPU time: medians of repetitions; the
commands are processes of their own.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from mimic_assets.planning import make_plan
from mimic_assets.registration import add_partitions
from mimic_core.configs import parse_spec
from mimic_core.manifests import seal
from mimic_core.specs import DatasetSpec, InferenceSpec, PartitionSpec, RunSpec
from mimic_core.world import CODE_VERSIONS, State, expected_inputs, wanted_version
from resources.environments import local_resources
from resources.tables import INFERENCE, SOURCE

TABLES, REPETITIONS = 200, 5
SIZES = (1_000, 10_000)
FEATURES = [f"x{number:02d}" for number in range(20)]
SCHEMA = pa.schema(
    [(name, pa.int64()) for name in ("_individual", "_decision", "_choice")]
    + [(name, pa.bool_()) for name in ("_selected", "_train")]
    + [(name, pa.float64()) for name in FEATURES]
)
MIMIC = Path(sys.executable).with_name("mimic")


def specs(count: int) -> Iterator[PartitionSpec]:
    """Make the specs of some partitions: in 20, one is a dataset, 17 are its runs, and two apply a run."""
    for family in range(count // 20):
        common = {"space": "s", "features": FEATURES, "database": "haven"}
        dataset = {"table": f"table{family % TABLES}", "max_choices": 3, "dataset": f"d{family}"}
        yield parse_spec(DatasetSpec, common | dataset)
        run = {"experiment_name": f"e{family}", "dataset": f"d{family}", "max_choices": 3, "table": "results"}
        runs = [parse_spec(RunSpec, common | run | {"model": {"layers": ["D16"], "seed": seed}}) for seed in range(17)]
        yield from runs
        for trained in runs[:2]:
            applied = {"experiment_name": f"e{family}", "run_id": trained.run_id, "table": f"table{family % TABLES}"}
            yield parse_spec(InferenceSpec, common | applied | {"upload_table": "scored"})


def make_tables(home: Path) -> None:
    """Make the tables, with one row each."""
    store = local_resources(home)["tables"]
    row = pa.table({field.name: pa.array([1], pa.int64()).cast(field.type) for field in SCHEMA}, SCHEMA)
    for number in range(TABLES):
        store.ensure(f"haven.table{number}", SCHEMA, kind=SOURCE)
        store.replace(f"haven.table{number}", [store.stage(f"haven.table{number}", [row])], None)
    store.ensure("haven.scored", SCHEMA, kind=INFERENCE)


def publish(home: Path, instance: dg.DagsterInstance, count: int) -> None:
    """Register partitions and publish what their builds would; written without the care that real ones take."""
    resources = local_resources(home)
    for spec in specs(count):
        write(home / f"objects/specs/{spec.asset}/{spec.key}/000001.json", stored(spec))
    registered = resources["inventory"].world().registered
    for asset in CODE_VERSIONS:
        add_partitions(instance, asset, [node.key for node in registered if node.asset == asset])
        world = resources["inventory"].world()  # with what the stages above have published
        for node, wants in registered.items():
            if node.asset != asset:
                continue
            names = ["config.json", "layers.py", "model.keras", "history.jsonl"] if asset == "model_run" else ["a", "b"]
            manifest = {
                "asset": asset,
                "key": node.key,
                "version": "20261121T000000Z-00000000",
                "counts": {"rows": 1},
                "fingerprint": wanted_version(node, world),
                "spec": json.loads(wants.document),
                "spec_digest": wants.digest,
                "code_version": CODE_VERSIONS[asset],
                "inputs": expected_inputs(node, world),
                "built_at": "2026-11-21T00:00:00+00:00",
                "seconds": 3.0,
                "dagster_run_id": "00000000",
                "files": [] if asset == "inference_table" else [{"path": name, "bytes": 0} for name in names],
                **({"table": "haven.scored"} if asset == "inference_table" else {}),
            }
            folder = home / "objects" / wants.folder
            for file in manifest["files"]:
                write(folder / manifest["version"] / file["path"], b"")
            write(folder / "manifest.json", seal(manifest))


def stored(spec: PartitionSpec) -> bytes:
    """Write down a spec as the store does."""
    return seal({"asset": spec.asset, "key": spec.key, "spec": spec.document, "layers": ""})


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def cpu_seconds(function: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    """Return the median CPU time of a call, in seconds."""
    times = []
    for _ in range(REPETITIONS):
        before()
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return statistics.median(times)


def command_seconds(*arguments: str) -> float:
    """Return the median CPU time of a command as a process of its own, in seconds."""
    times = []
    for _ in range(REPETITIONS):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([MIMIC, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  our own command
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    return statistics.median(times)


def measure(home: Path, instance: dg.DagsterInstance) -> dict[str, float]:
    """Return CPU seconds by what took them."""
    inventory = local_resources(home)["inventory"]
    plan, world = make_plan(instance, inventory)
    others = {node: partition.reasons for node, partition in plan.partitions.items() if partition.state != State.CURRENT}
    if others:
        raise SystemExit(f"{len(others)} partitions are not current, such as {next(iter(others.items()))}")
    print(f"  {len(world.registered):,} partitions, {len(world.sources)} source tables", flush=True)
    return {
        "everything read anew": cpu_seconds(lambda: make_plan(instance, inventory), (home / "index.db").unlink),
        "plan, nothing changed": cpu_seconds(lambda: make_plan(instance, inventory)),
        "mimic status": command_seconds("status", "--json"),
    }


def main() -> None:
    """Print the table."""
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, dagster {dg.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "mimic"
        os.environ |= {"MIMIC_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        home.mkdir()
        subprocess.run([MIMIC, "status"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  makes that of Dagster
        times = {"mimic status, empty": {0: command_seconds("status", "--json")}}
        with dg.DagsterInstance.get() as instance:
            make_tables(home)
            for size in SIZES:
                publish(home, instance, size)
                for what, seconds in measure(home, instance).items():
                    times.setdefault(what, {})[size] = seconds
    few, many = SIZES
    print(f"{'CPU seconds':<28}{f'{few:,}':>10}{f'{many:,}':>10}{'growth':>10}{'ratio to all anew':>20}")
    for what, seconds in times.items():
        if 0 in seconds:
            print(f"{what:<28}{seconds[0]:>10.2f}")
            continue
        ratio = seconds[many] / times["everything read anew"][many]
        print(f"{what:<28}{seconds[few]:>10.2f}{seconds[many]:>10.2f}{seconds[many] / seconds[few]:>10.1f}{ratio:>20.2f}")
    print(f"the goals at {many:,}: less than 2 for a tick, less than 3 for mimic status")


if __name__ == "__main__":
    main()
