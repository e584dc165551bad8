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

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
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


def train(config: Path, remark: str = "") -> list[dict[str, Any]]:
    """Train the models of an experiment; each run gets a name after its layers, and the features that it uses."""
    experiment = json.loads(config.read_text())
    models = [model for model in experiment["models"] for _ in model.get("seeds", [0])]
    runs = build("run-experiment", config)
    for entry, model in zip(runs, models, strict=True):
        layers = ", ".join(model["layers"]) or "linear"
        entry |= {"name": f"{layers}{remark} ({entry['run_id'][:8]})", "features": experiment["features"]}
    return runs


def score(entry: dict[str, Any]) -> dict[str, Any]:
    """Apply a run to the whole table, say how good it is there, and return what the inference says."""
    (space, experiment, _), run_id = entry["key"].split("/"), entry["run_id"]
    config = HOME / f"swissmetro_inference_{run_id[:8]}.json"
    document = {
        "database": "demo",
        "table": "swissmetro",
        "train_partitions": 2,
        "test_partitions": 1,
        "features": entry["features"],
        "space": space,
        "experiment_name": experiment,
        "run_id": run_id,
        "upload_table": "swissmetro_inference",
    }
    config.write_text(json.dumps(document, indent=2))
    (scored,) = build("run-batch-infer", config)
    rows, nll = scored["counts"]["rows"], scored["metrics"]["test_nll"]
    print(f"{rows:,} rows scored into table {scored['location']}; test NLL {nll:.4f}")
    return scored


def predict(entry: dict[str, Any], table: Path) -> None:
    """Score the first decision of a table from a file of its own, without importing it."""
    rows = pq.read_table(table).slice(0, 3)
    file, scored = HOME / "one_decision.csv", HOME / "one_decision_scored.csv"
    pa.csv.write_csv(rows, file)
    run("mimic", "predict", entry["run_id"], file, "--output", scored, "--force")
    predicted = pa.csv.read_csv(scored).to_pylist()
    print("probabilities:", ", ".join(f"{row['_alternative']} {row['probability']:.4f}" for row in predicted))


def show(title: str, runs: list[dict[str, Any]]) -> None:
    """Print one row per run, the best test log-likelihood first."""
    table = Table(title=title)
    table.add_column("run")
    for heading in ("train NLL", "test NLL", "test NLL at last epoch", "test accuracy", "McFadden rho-squared (test)"):
        table.add_column(heading, justify="right")
    columns = ("train_nll", "test_nll", "last_val_loss", "test_accuracy", "test_rho_squared")
    for entry in sorted(runs, key=lambda entry: entry["metrics"]["test_nll"]):
        numbers = (entry["metrics"].get(name) for name in columns)
        table.add_row(entry["name"], *("" if number is None else f"{number:.4f}" for number in numbers))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=140).print(table)


def main() -> None:
    """Run the whole way."""
    began = time.monotonic()
    raw = HOME / "swissmetro.parquet"
    print(run("python", HERE / "prepare.py", raw), end="")
    print(run("mimic", "tables", "import", "demo.swissmetro", raw), end="")
    build("build-dataset", HERE / "dataset.json")
    (linear,) = train(HERE / "experiment_linear.json")
    print(run("mimic", "runs", "coefficients", linear["run_id"], "--ratio", "tt", "co"))
    (interactions,) = train(HERE / "experiment_interactions.json", " with interactions")
    print(run("mimic", "runs", "compare", interactions["run_id"], linear["run_id"]))
    best = min(train(HERE / "experiment_networks.json"), key=lambda entry: entry["metrics"]["test_nll"])
    runs = [linear, interactions, best]
    score(best)
    build("build-contrast", HERE / "contrast.json")
    build("build-dataset", HERE / "dataset_contrasts.json")
    (on_contrasts,) = train(HERE / "experiment_contrasts.json", ", trained on contrasts")
    # its own numbers are of pairs; only those on the full choice sets compare with the others
    runs.append(on_contrasts | {"metrics": score(on_contrasts)["metrics"]})
    predict(best, raw)
    print(run("mimic", "report", "swissmetro-networks"))
    show("Swissmetro, 8,568 training and 2,151 test decisions", runs)
    print("All rows are evaluated on the full choice sets, also the one that was trained on contrasts (pairs of choices).")
    print("The test numbers of networks are a little too good: the test split chose their epochs, and the best of them.")
    print(f"done in {time.monotonic() - began:.0f} s; look at all of it in the Dagster UI with: make dev")


if __name__ == "__main__":
    main()
