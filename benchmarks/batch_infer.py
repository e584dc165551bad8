"""Batch inference beside reading and writing the same columns, and beside pandas padding and one `model.predict`.

The limit reads the table's columns to Arrow batches and writes the inference rows with the writer of tables. The network's
own arithmetic, measured on the same rows in memory, is taken off before the ratio to the limit.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import workload
from reporting import Row, at_least, at_most, cpu_seconds, show
from stages import LAYERS, Home, inference

from mimic_core import layers_files, networks
from mimic_core.contract import check_block
from mimic_core.inferences import rules
from mimic_core.model_specs import ModelSpec

TABLE, SAMPLED = "bench.clustered", 20_000  # decisions


def limit(home: Home, columns: Sequence[str], rows: pa.Table, destination: str) -> None:
    """Read what an inference reads, and write what it writes."""
    for _ in home.tables.batches(home.tables.pin(TABLE), columns):
        pass
    home.tables.discard(home.tables.stage(destination, [rows]))


def padded(frame: pd.DataFrame, model: object, target: Path) -> None:
    """Pad all decisions with pandas, predict all choices at once, and write probabilities and log-odds."""
    frame = frame.fillna(dict.fromkeys(workload.NAMES, 0.0)).sort_values(["_individual", "_decision", "_choice"])
    groups = frame.groupby(["_individual", "_decision"], sort=False)
    frame = frame.assign(number=groups.ngroup(), place=groups.cumcount())
    wide = frame.pivot(index="number", columns="place", values=list(workload.NAMES)).fillna(0.0)
    x = wide.to_numpy(np.float32).reshape(len(wide), workload.FEATURES, -1).transpose(0, 2, 1)
    utility = model.predict(x.reshape(-1, workload.FEATURES), verbose=0).reshape(len(wide), -1)  # type: ignore[attr-defined]
    offered = np.arange(utility.shape[1]) < groups.size().to_numpy()[:, None]
    weight = np.where(offered, np.exp(utility), 0.0)
    probability = (weight / weight.sum(axis=1, keepdims=True))[offered]
    log_odds = np.log(probability) - np.log1p(-probability)
    keys = frame[["_individual", "_decision", "_choice", "_train"]]
    scored = keys.assign(probability=probability, odds=np.exp(log_odds), log_odds=log_odds, utility=utility[offered])
    scored.to_parquet(target)


def measure() -> list[Row]:
    """Measure an inference."""
    layers, _ = layers_files.load_layers(layers_files.default_layers(LAYERS))
    model = networks.build_network(ModelSpec(layers=LAYERS), workload.FEATURES, layers)
    utilities = networks.utility_function(model)
    with tempfile.TemporaryDirectory() as folder:
        home, target = Home(Path(folder)), Path(folder) / "written"
        pin = home.hold(TABLE, workload.clustered())
        spec = inference(TABLE)
        run = home.run(spec)
        rows = pa.concat_tables([pq.read_table(file) for file in home.infer(spec, run)])
        columns = home.tables.schema_of(pin).names
        filled = rules(workload.NAMES, run["missing_values_map"])
        blocks = [check_block(part, filled).rows.x for part in workload.clustered()]
        frame = next(workload.clustered()).to_pandas()
        few = pd.concat([frame, next(workload.clustered()).to_pandas().assign(_individual=lambda t: t._individual + 10**6)])

        def score() -> None:
            for file in home.infer(spec, run):
                file.unlink()

        seconds = cpu_seconds(
            {
                "limit": lambda: limit(home, columns, rows, spec.destination),
                "ours": score,
                "arithmetic": lambda: [utilities(x) for x in blocks],
                "padded": lambda: padded(few, model, target),
            }
        )
    per_decision = seconds["padded"] / SAMPLED
    ours = seconds["ours"] / workload.DECISIONS
    unit = f" ({ours * 1e6:.1f} us per decision)"
    beyond = (seconds["ours"] - seconds["arithmetic"]) / seconds["limit"]
    return [
        at_most("run-batch-infer, less the network's arithmetic", "read + write of the same columns", beyond, 2.0, unit),
        at_least("run-batch-infer", "pandas padding + one model.predict", per_decision / ours, 6),
    ]


if __name__ == "__main__":
    show(measure())
