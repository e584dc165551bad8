"""Reports: what can be said of the trained runs of one experiment, from what each of them stored.

Runs are ranked on decisions that all of them were judged on; a run that was judged on others is listed apart, with why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import mean, stdev
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.comparison import SCHEMA, comparable, same_decisions
from mimic_core.errors import NotFoundError
from mimic_core.leaderboard import RESAMPLES, Contest, Extreme, Leaderboard, contest, rank
from mimic_core.run_names import SEED, differences_of, label_runs, name_run, same_but_seed
from mimic_core.specs import RunSpec

CODE_VERSION = "1"  # bump by hand when the same runs give another report
SPLITS = ("test", "validation", "train")  # runs are ranked on the first in which decisions of some run have a weight above 0
OVER_SEEDS = ("nll", "d_nlp", "accuracy")

Texts = Callable[[RunSpec, Sequence[int]], Mapping[int, str]]


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A trained run, as it is stored.

    Attributes:
        layers: its layers file.
        manifest: what was published of it.
        history: the objects of `history.jsonl`.
        individuals: `individuals.parquet`; None where the run stored none.
        coefficients: the table of a linear run, else None.
        changed: whether its spec changed since it was trained.
    """

    spec: RunSpec
    layers: str
    manifest: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    individuals: pa.Table | None
    coefficients: Mapping[str, Any] | None
    changed: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report on an experiment.

    Attributes:
        document: all of its numbers as plain values: what `report.json` holds.
        runs: those that are ranked, the best first.
        labels: of these.
        board: their ranking.
        best_two: the first two of them, individual by individual; None where there is one only.
    """

    document: dict[str, Any]
    runs: tuple[ReportedRun, ...]
    labels: tuple[str, ...]
    board: Leaderboard
    best_two: Contest | None


def compose(
    experiment: str,
    trained: Sequence[ReportedRun],
    not_trained: Sequence[tuple[RunSpec, str]],
    texts: Texts = lambda *_: {},
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """Compose the report on an experiment.

    Args:
        experiment: its key.
        trained: at least one.
        not_trained: the other runs, each with its layers file.
        texts: gives the ids of individuals that are text in the source of a run, by what its dataset has in their place.
        resamples, seed: of the bootstrap over individuals.

    Raises:
        NotFoundError: no run stored what a comparison needs.
    """
    specs = [*(run.spec for run in trained), *(spec for spec, _ in not_trained)]
    layers = [*(run.layers for run in trained), *(text for _, text in not_trained)]
    labels, settings = label_runs(specs, layers), differences_of(specs, layers)
    split, chosen, reasons = _same_decisions(experiment, trained)
    tables = [_of_split(trained[at], split) for at in chosen]
    board = rank(tables, resamples=resamples, seed=seed)
    ranked = [chosen[standing.run] for standing in board.standings]
    best_two = None
    if len(ranked) > 1:
        best_two = contest(*(_of_split(trained[at], split) for at in ranked[:2]), resamples=resamples, seed=seed)
    rows = [
        {
            "run_id": trained[at].spec.run_id,
            "label": labels[at],
            "model": name_run(trained[at].spec),
            "settings": settings[at],
            "nll": asdict(standing.nll),
            "difference": asdict(standing.difference) if standing.difference else None,
            "d_nlp": asdict(standing.d_nlp),
            **_metrics(trained[at], split),
            "notes": _notes(trained[at]),
        }
        for standing, at in zip(board.standings, ranked, strict=True)
    ]
    groups = same_but_seed([trained[at].spec for at in ranked], [trained[at].layers for at in ranked])
    firsts = [ranked[group[0]] for group in groups]
    named = label_runs(
        [trained[at].spec for at in firsts], [trained[at].layers for at in firsts], apart_from=SEED, longest=200
    )
    document = {
        "experiment": experiment,
        "dataset": dict(trained[ranked[0]].manifest["inputs"]["tfrecord_dataset"]),
        "split": split,
        "decisions": board.decisions,
        "individuals": board.individuals,
        "resamples": resamples,
        "seed": seed,
        "leaderboard": rows,
        "over_seeds": [
            _over_seeds(label, [rows[place] for place in group]) for label, group in zip(named, groups, strict=True)
        ],
        "apart": [
            {
                "run_id": trained[at].spec.run_id,
                "label": labels[at],
                "nll": trained[at].manifest["metrics"].get(f"{split}_nll"),
                "reason": reason,
                "notes": _notes(trained[at]),
            }
            for at, reason in reasons.items()
        ],
        "not_trained": [
            {"run_id": spec.run_id, "label": label}
            for (spec, _), label in zip(not_trained, labels[len(trained) :], strict=True)
        ],
        "best_two": None if best_two is None else _contested(best_two, rows, partial(texts, trained[ranked[0]].spec)),
    }
    return Report(
        document=document,
        runs=tuple(trained[at] for at in ranked),
        labels=tuple(labels[at] for at in ranked),
        board=board,
        best_two=best_two,
    )


def _same_decisions(experiment: str, runs: Sequence[ReportedRun]) -> tuple[str, list[int], dict[int, str]]:
    """Return the split on which runs are ranked, the places of those that are, and why the others are not.

    Of several versions of a dataset, and of several sets of decisions, those of most runs count, then the newest.
    """
    of_splits = {split: [comparable(_of_split(run, split)) for run in runs] for split in SPLITS}
    stored = [split for split, found in of_splits.items() if any(map(len, found))]
    if not stored and any(run.individuals is not None and len(run.individuals) for run in runs):
        raise NotFoundError(
            f"no trained run of experiment {experiment} was judged on a decision of a weight above 0; give the decisions "
            "that are to count one in the column _weight, build the dataset and train again"
        )
    if not stored:
        raise NotFoundError(
            f"no trained run of experiment {experiment} stored what a comparison needs; train them again by "
            "`mimic log-odds run-experiment CONFIG`"
        )
    split, groups, reasons = stored[0], list[list[int]](), dict[int, str]()
    tables = of_splits[split]
    for at, run in enumerate(runs):
        if run.individuals is None:
            reasons[at] = "it was trained before runs stored what a comparison needs; train it again"
        elif not len(tables[at]):
            reasons[at] = f"it has no {split} decisions of a weight above 0"
        else:
            for group in groups:
                if _dataset(runs[group[0]]) == _dataset(run) and same_decisions(tables[group[0]], tables[at]):
                    group.append(at)
                    break
            else:
                groups.append([at])
    chosen = max(groups, key=lambda group: (len(group), max(runs[at].manifest["built_at"] for at in group)))
    for group in groups:
        if group is not chosen:
            reasons |= {at: _otherwise(runs[at], runs[chosen[0]], split) for at in group}
    return split, chosen, dict(sorted(reasons.items()))


def _otherwise(run: ReportedRun, others: ReportedRun, split: str) -> str:
    mine, theirs = run.manifest["inputs"]["tfrecord_dataset"], others.manifest["inputs"]["tfrecord_dataset"]
    if mine["key"] != theirs["key"]:
        return f"it was trained on another dataset, {mine['key']}"
    if mine["fingerprint"] != theirs["fingerprint"]:
        return f"it was trained on another version of the dataset, {mine['fingerprint'][:12]}"
    return f"its {split} decisions are others: it has another validation share or seed"


def _dataset(run: ReportedRun) -> str:
    return str(run.manifest["inputs"]["tfrecord_dataset"]["fingerprint"])


def _of_split(run: ReportedRun, split: str) -> pa.Table:
    if run.individuals is None:
        return SCHEMA.empty_table()
    return run.individuals.filter(pc.equal(run.individuals["split"], split)).drop_columns(["split"])


def _metrics(run: ReportedRun, split: str) -> dict[str, Any]:
    metrics = run.manifest["metrics"]
    of_split = {name: metrics.get(f"{split}_{name}") for name in ("accuracy", "rho_squared", "calibration_error")}
    of_run = {name: metrics[name] for name in ("epochs", "exported_epoch")}
    return of_split | of_run | {"seconds": run.manifest["seconds"]}


def _notes(run: ReportedRun) -> list[str]:
    changed = ["its spec or layers file changed since it was trained; train it again"] if run.changed else []
    return [*changed, *run.manifest.get("notes", [])]


def _over_seeds(label: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of runs that differ by their seed only."""
    values = {name: [_value(row[name]) for row in rows] for name in OVER_SEEDS}
    spread = {f"{name}_mean": mean(found) for name, found in values.items()}
    spread |= {f"{name}_sd": stdev(found) for name, found in values.items()}
    return {"label": label, "run_ids": [row["run_id"] for row in rows], **spread}


def _value(number: float | Mapping[str, float]) -> float:
    return number["value"] if isinstance(number, Mapping) else number


def _contested(
    found: Contest, rows: Sequence[Mapping[str, Any]], texts: Callable[[Sequence[int]], Mapping[int, str]]
) -> dict[str, Any]:
    named = texts([extreme.individual for extreme in (*found.first_most, *found.second_most)])

    def described(extreme: Extreme) -> dict[str, Any]:
        return asdict(extreme) | {"individual": named.get(extreme.individual, extreme.individual)}

    return {
        "first": rows[0]["run_id"],
        "second": rows[1]["run_id"],
        "first_better": found.first_better,
        "second_better": found.second_better,
        "equal": found.equal,
        "share": asdict(found.share),
        "first_most": [described(extreme) for extreme in found.first_most],
        "second_most": [described(extreme) for extreme in found.second_most],
    }
