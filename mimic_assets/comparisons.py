"""Comparisons of trained runs: finds what each run stored of its individuals, and says what their difference is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic_assets.run_files import INDIVIDUALS, find_run, read_run_file, trained_manifest
from mimic_core.comparison import Comparison, Difference, compare
from mimic_core.errors import NotFoundError, SpecError
from mimic_core.specs import RunSpec
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Two runs, the split on which they are compared, and how they differ there.

    Attributes:
        runs: the keys of the first and the second run.
        seed: of the resamples.
    """

    runs: tuple[str, str]
    split: str
    seed: int
    found: Comparison

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"runs": list(self.runs), "split": self.split, "seed": self.seed, **asdict(self.found)}

    def rows(self) -> list[list[str]]:
        """Return the cells of a small table: NLL and D-NLP of both runs, their difference and its interval."""
        numbers = (self.found.nll, self.found.d_nlp)
        return [
            [self.split, "NLL", "D-NLP"],
            [_short(self.runs[0]), *(f"{each.first:.4f}" for each in numbers)],
            [_short(self.runs[1]), *(f"{each.second:.4f}" for each in numbers)],
            ["difference", *(f"{each.difference:+.4f}" for each in numbers)],
            ["95% interval", *(f"{each.low:+.4f} to {each.high:+.4f}" for each in numbers)],
        ]

    def conclusion(self) -> str:
        """Say in one sentence whether the runs differ."""
        nll: Difference = self.found.nll
        if not nll.is_clear:
            return "The interval of the difference in NLL includes 0: these decisions do not tell which run is better."
        better = _short(self.runs[0] if nll.difference < 0 else self.runs[1])
        return f"The interval of the difference in NLL excludes 0: {better} is better."


def compare_runs(
    specs: SpecStore, artefacts: ArtefactStore, asked: Sequence[str], *, split: str, resamples: int, seed: int
) -> RunComparison:
    """Compare two trained runs on the decisions of a split.

    Args:
        asked: two keys, or beginnings of run ids, as `mimic_assets.retirement.run_key` takes them.
        split: "train", "validation" or "test".

    Raises:
        NotFoundError: a run is not trained, or stored nothing to compare it by.
        SpecError: no such run, or runs of different datasets, versions of a dataset or decisions.
        CorruptFileError: a file is damaged.
    """
    runs = [find_run(name, specs) for name in asked]
    manifests = [trained_manifest(run, artefacts) for run in runs]
    _require_one_dataset(manifests)
    tables = [_individuals(run, found, split, artefacts) for run, found in zip(runs, manifests, strict=True)]
    found = compare(*tables, resamples=resamples, seed=seed)
    return RunComparison(runs=(runs[0].key, runs[1].key), split=split, seed=seed, found=found)


def _require_one_dataset(manifests: Sequence[dict[str, Any]]) -> None:
    first, second = (each["inputs"]["tfrecord_dataset"] for each in manifests)
    if first["fingerprint"] == second["fingerprint"]:
        return
    if first["key"] == second["key"]:
        raise SpecError(
            f"the runs were trained on different versions of dataset {first['key']} ({first['fingerprint'][:12]} and "
            f"{second['fingerprint'][:12]}), so their numbers are not of the same decisions; train the older run again"
        )
    raise SpecError(
        f"the runs were trained on different datasets ({first['key']} and {second['key']}), so their numbers are not of the "
        "same decisions; compare runs of one dataset"
    )


def _individuals(run: RunSpec, manifest: dict[str, Any], split: str, artefacts: ArtefactStore) -> pa.Table:
    """Read what a run stored of the individuals of a split."""
    data = read_run_file(run, manifest, INDIVIDUALS, artefacts)
    if data is None:
        raise NotFoundError(
            f"run {run.key} was trained before runs stored what a comparison needs ({INDIVIDUALS}); train it again "
            "by `mimic log-odds run-experiment CONFIG`"
        )
    table = pq.read_table(pa.BufferReader(data))
    found = table.filter(pc.equal(table["split"], split)).drop_columns(["split"])
    if not len(found):
        there = ", ".join(pc.unique(table["split"]).to_pylist())
        raise NotFoundError(f"run {run.key} has no {split} decisions; it has those of: {there}")
    return found


def _short(key: str) -> str:
    where, _, run_id = key.rpartition("/")
    return f"{where}/{run_id[:8]}"
