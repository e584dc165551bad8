"""The first run on real data: Swissmetro from its raw table to inferences, each step the command that a person would type.

It keeps everything under MIMIC_HOME (default `.mimic`) and ends with a table of the runs and the next command.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mimic_assets.cli.environment import prepare

HERE = Path(os.path.relpath(Path(__file__).parent))
BIN = Path(sys.executable).parent
HOME = Path(os.path.relpath(prepare()["MIMIC_HOME"]))


def run(*command: str | Path) -> str:
    """Show a command, run it, and return what it prints on standard output; ends the demo if it fails."""
    words = [str(word) for word in command]
    print(f"$ {' '.join(word for word in words if word != '--json')}", flush=True)
    result = subprocess.run([str(BIN / words[0]), *words[1:]], stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        print(result.stdout, end="")
        sys.exit(f"the demo ends here: `{' '.join(words)}` ended with exit code {result.returncode}")
    return result.stdout


def build(command: str, config: Path) -> list[dict[str, Any]]:
    """Run a `mimic log-odds` command and return what it says of each partition."""
    partitions: list[dict[str, Any]] = json.loads(run("mimic", "log-odds", command, config, "--json"))["partitions"]
    return partitions


def show(title: str, runs: list[dict[str, Any]], names: dict[str, str]) -> None:
    """Print one row per run, the best test log-likelihood first."""
    table = Table(title=title)
    table.add_column("run")
    for heading in ("train NLL", "test NLL", "test NLL at last epoch", "test accuracy", "McFadden rho-squared (test)"):
        table.add_column(heading, justify="right")
    columns = ("train_nll", "test_nll", "last_val_loss", "test_accuracy", "test_rho_squared")
    for entry in sorted(runs, key=lambda entry: entry["metrics"]["test_nll"]):
        numbers = (entry["metrics"].get(name) for name in columns)
        table.add_row(names[entry["run_id"]], *("" if number is None else f"{number:.4f}" for number in numbers))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=140).print(table)


def run_names(configs: list[Path], runs: list[dict[str, Any]]) -> dict[str, str]:
    """Name each run after its layers."""
    models = [model for config in configs for model in json.loads(config.read_text())["models"]]
    texts = [", ".join(model["layers"]) or "linear (conditional logit)" for model in models]
    return {run["run_id"]: f"{text} ({run['run_id'][:8]})" for run, text in zip(runs, texts, strict=True)}


def main() -> None:
    """Run the whole way."""
    began = time.monotonic()
    raw = HOME / "swissmetro.parquet"
    print(run("python", HERE / "prepare.py", raw), end="")
    print(run("mimic", "tables", "import", "demo.swissmetro", raw), end="")
    build("build-dataset", HERE / "dataset.json")
    experiments = [HERE / "experiment_linear.json", HERE / "experiment_networks.json"]
    runs = [run for config in experiments for run in build("run-experiment", config)]
    best = min(runs, key=lambda run: run["metrics"]["test_nll"])
    inference = HOME / "swissmetro_inference.json"
    inference.write_text(json.dumps(inference_config(best), indent=2))
    (scored,) = build("run-batch-infer", inference)
    rows, nll = scored["counts"]["rows"], scored["metrics"]["test_nll"]
    print(f"{rows:,} rows scored into table {scored['location']}; test NLL {nll:.4f}")
    show("Swissmetro, 8,568 training and 2,151 test decisions", runs, run_names(experiments, runs))
    print("The test numbers of the networks are a little too good: the exported epoch was chosen on the test split.")
    print(f"done in {time.monotonic() - began:.0f} s; look at all of it in the Dagster UI with: make dev")


def inference_config(run: dict[str, Any]) -> dict[str, Any]:
    """Write the config that applies a run to the whole table."""
    space, experiment, run_id = run["key"].split("/")
    networks = json.loads((HERE / "experiment_networks.json").read_text())
    linear = json.loads((HERE / "experiment_linear.json").read_text())
    features = next(spec["features"] for spec in (networks, linear) if spec["experiment_name"] == experiment)
    return {
        "database": "demo",
        "table": "swissmetro",
        "train_partitions": 2,
        "test_partitions": 1,
        "features": features,
        "space": space,
        "experiment_name": experiment,
        "run_id": run_id,
        "upload_table": "swissmetro_inference",
    }


if __name__ == "__main__":
    main()
