"""The conditional logit: CPU time of an estimate with its errors, beside SciPy on the same likelihood, and its memory.

Six parameters on the 8,568 training decisions of Swissmetro; then 20 parameters on 160,000 decisions of 2 to 10 choices of
the standard workload, in memory and read anew from the dataset's files for every pass. The baseline is SciPy's L-BFGS-B on
the same vectorised likelihood and exact gradient, to the same gradient, and the errors from one Hessian in plain NumPy; it
does not look for columns that are not identified. Both must agree. Imports and reading do not count.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.optimize
import workload
from reporting import Row, at_least, at_most, cpu_seconds, in_a_process, report_process, show
from stages import Home, dataset

from mimic_core import logit, splits
from mimic_core.contract import Rules, check_block
from mimic_core.evaluation import log_sum_exp
from mimic_core.interactions import Columns, columns
from mimic_core.rows import Rows
from mimic_core.sources import standard_columns
from mimic_core.streams import Stream, in_memory

PREPARE = Path(__file__).resolve().parents[1] / "examples/swissmetro/prepare.py"
SIX = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
SCALES = (1, 10)


def swissmetro() -> Rows:
    """Prepare the training rows of Swissmetro."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "swissmetro.parquet"
        subprocess.run([sys.executable, PREPARE, path], check=True, capture_output=True)  # noqa: S603
        table = standard_columns(pq.read_table(path))
    return check_block(table.filter(table["_train"]), Rules(features=tuple(SIX))).rows


def with_scipy(rows: Rows) -> np.ndarray:
    """Estimate by SciPy's L-BFGS-B with the exact gradient; returns estimates and errors clustered by individual."""
    x = rows.x.astype(np.float64)

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        utility = x @ beta
        total = log_sum_exp(utility, rows.starts)
        surprise = np.exp(utility - np.repeat(total, rows.counts)) - rows.selected
        return float(np.mean(total - utility[rows.selected])), surprise @ x / rows.decisions

    options = {"gtol": 1e-8, "ftol": 0, "maxiter": 10_000}
    beta = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options).x
    utility = x @ beta
    weighted = np.exp(utility - np.repeat(log_sum_exp(utility, rows.starts), rows.counts))[:, None] * x
    mean = np.add.reduceat(weighted, rows.starts)
    inverse = np.linalg.inv(weighted.T @ x - mean.T @ mean)
    _, first = np.unique(rows.individual[rows.starts], return_index=True)
    scores = np.add.reduceat(x[rows.selected] - mean, first)
    clustered = inverse @ (scores.T @ scores) @ inverse * (len(first) / (len(first) - 1))
    return np.concatenate([beta, np.sqrt(np.diag(clustered))])


def with_mimic(stream: Stream, features: Columns) -> np.ndarray:
    """Estimate; returns the same."""
    found = logit.estimate(stream, features)
    assert found.clustered is not None  # noqa: S101
    return np.concatenate([found.coefficients, np.sqrt(np.diag(found.clustered))])


def compared(name: str, rows: Rows, features: list[str], goal: float) -> list[Row]:
    """Estimate with both, which must agree."""
    found: dict[str, np.ndarray] = {}
    stream, wanted = in_memory(rows), columns((), features)
    seconds = cpu_seconds(
        {
            "mimic": lambda: found.update(mimic=with_mimic(stream, wanted)),
            "scipy": lambda: found.update(scipy=with_scipy(rows)),
        }
    )
    np.testing.assert_allclose(found["mimic"], found["scipy"], atol=1e-5)
    note = f" ({seconds['mimic']:.3f} s)"
    return [
        at_least(name, f"L-BFGS-B and errors ({seconds['scipy']:.3f} s)", seconds["scipy"] / seconds["mimic"], goal, note)
    ]


def from_files(folder: Path) -> None:
    """Estimate on a dataset that is read anew for every pass."""
    stream = splits.read_stream(folder, "train", list(workload.NAMES), most_bytes=0)
    logit.estimate(stream, columns((), workload.NAMES))


def build(home: Path, scale: int) -> Path:
    """Build the dataset of the workload, or of its tenfold; returns the folder of its version."""
    held, name = Home(home), f"bench.workload{scale}"
    held.hold(name, workload.clustered(scale))
    return held.whole_dataset(dataset(name))


def measure() -> list[Row]:
    """Measure everything."""
    rows = swissmetro()
    lines = compared("six parameters, Swissmetro", rows, SIX, 1)
    wanted, stream = columns((), SIX), in_memory(rows)
    seconds = cpu_seconds({"estimate": lambda: logit.estimate(stream, wanted)})["estimate"]
    lines.append(at_most("six parameters, Swissmetro: CPU seconds", "1 second", seconds, 0.3))
    with tempfile.TemporaryDirectory() as name:
        folders = {scale: build(Path(name), scale) for scale in SCALES}
        rows = splits.read_rows(folders[1], "train")
        lines += compared("20 parameters, 160,000 decisions", rows, list(workload.NAMES), 1)
        stream, wanted = in_memory(rows), columns((), workload.NAMES)
        passes = cpu_seconds({"memory": lambda: logit.estimate(stream, wanted), "files": lambda: from_files(folders[1])}, 3)
        ratio, note = passes["files"] / passes["memory"], f" ({passes['files']:.2f} s)"
        lines.append(at_most("the same, read anew for every pass", f"in memory ({passes['memory']:.2f} s)", ratio, 5, note))
        peaks = {scale: in_a_process(__file__, folders[scale])["peak"] for scale in SCALES}
        note = f" ({peaks[1]:.0f} -> {peaks[10]:.0f} MB)"
        lines.append(at_most("the same, peak memory at 10x", "1x", peaks[10] / peaks[1], 1.25, note))
    return lines


if __name__ == "__main__":
    if len(sys.argv) > 1:
        report_process(lambda: from_files(Path(sys.argv[1])))
    else:
        show(measure())
