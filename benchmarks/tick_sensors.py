"""Ticks of the sensors when nothing changed: 1,000 and 10,000 partitions over 200 tables, all from the spec folder.

CPU time, medians of repetitions, in a process that has loaded the code location, as the code server has.
"""

import json
import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import dagster as dg
from plan_partitions import MIMIC, SIZES, cpu_seconds, make_tables, publish, specs, write

from mimic_assets.definitions import defs
from mimic_core.specs import RunSpec
from resources.environments import local_resources

SENSORS = ("source_table_sensor", "spec_sensor", "up_to_date_sensor", "rebuild_sensor")
LONG_AGO = 1_700_000_000


def drop_files(home: Path, count: int) -> None:
    """Write the configs of all partitions into the spec folder; the runs of a dataset are one experiment."""
    experiments = defaultdict(list)
    for spec in specs(count):
        if isinstance(spec, RunSpec):
            experiments[spec.experiment_name].append(spec.document)
        else:
            write(home / "specs" / spec.asset / f"{spec.key.replace('/', '-')}.json", json.dumps(spec.document).encode())
    for name, runs in experiments.items():
        shared = {key: value for key, value in runs[0].items() if key != "model"}
        document = shared | {"models": [run["model"] for run in runs]}
        write(home / f"specs/experiments/{name}.json", json.dumps(document).encode())
    write(home / "specs/experiments/layers.py", b"")  # as `publish` registers them
    for path in [*(home / "specs").rglob("*.json"), home / "specs/experiments/layers.py"]:
        os.utime(path, (LONG_AGO, LONG_AGO))


def main() -> None:
    """Print the table."""
    times: dict[str, dict[int, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "mimic"
        os.environ |= {"MIMIC_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        home.mkdir()
        subprocess.run([MIMIC, "status"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  makes that of Dagster
        with dg.DagsterInstance.get() as instance:
            make_tables(home)
            for size in SIZES:
                publish(home, instance, size)
                drop_files(home, size)
                definitions, resources = defs(), local_resources(home)
                job = definitions.resolve_job_def("answer_up_to_date")
                cursors: dict[str, str | None] = {}

                def tick(name: str) -> dg.SensorResult | str | None:
                    sensor = definitions.resolve_sensor_def(name)  # noqa: B023  called within the iteration
                    made = dg.build_sensor_context(instance, cursors.get(name), sensor_name=name, resources=resources)  # noqa: B023
                    with made as context:
                        data = sensor.evaluate_tick(context)
                    cursors[name] = data.cursor  # noqa: B023
                    return data.skip_message

                for name in SENSORS:
                    tick(name)
                for _ in range(size // 2_000 + 1):
                    job.execute_in_process(instance=instance)
                for name in SENSORS:
                    print(f"  {size:,}: {name}: {tick(name)}", flush=True)
                    times[name][size] = cpu_seconds(lambda name=name: tick(name))  # type: ignore[misc]
    few, many = SIZES
    print(f"{'CPU seconds':<28}{f'{few:,}':>10}{f'{many:,}':>10}{'growth':>10}")
    for name, seconds in times.items():
        print(f"{name:<28}{seconds[few]:>10.2f}{seconds[many]:>10.2f}{seconds[many] / seconds[few]:>10.1f}")
    print(f"the goal at {many:,}: less than 2 for a tick")


if __name__ == "__main__":
    main()
