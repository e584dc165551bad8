"""Inferences: probability, odds and log-odds of every choice from its utility, and the rows that hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mimic_core import contract
from mimic_core.errors import SpecError, TrainingError
from mimic_core.evaluation import Evaluation, evaluate, log_sum_exp
from mimic_core.sources import (
    CHOICE,
    DECISION,
    INDIVIDUAL,
    KEYS,
    TRAIN,
    Float64,
    Int64,
    Rows,
    Shard,
    sort_rows,
)

CODE_VERSION = "1"  # bump by hand when the same run and table give other rows

SCHEMA = pa.schema(
    [
        (INDIVIDUAL, pa.int64()),
        (DECISION, pa.int64()),
        (CHOICE, pa.int64()),
        (TRAIN, pa.bool_()),
        ("probability", pa.float64()),
        ("odds", pa.float64()),
        ("log_odds", pa.float64()),
        ("utility", pa.float64()),
        ("experiment_name", pa.string()),
        ("run_id", pa.string()),
        ("_partition", pa.int32()),
    ]
)


def choice_probabilities(utility: Float64, starts: Int64) -> tuple[Float64, Float64, Float64]:
    """Return probability, odds and log-odds of each row within its decision.

    probability = softmax of the utilities of the decision; log_odds = u_i - log(sum of exp(u_j) over the others);
    odds = exp(log_odds). The highest utility of a decision is left out of its own sum instead of subtracted from the total,
    so nothing cancels: log-odds stay finite for any finite utilities.

    Args:
        utility: (rows,) finite.
        starts: (decisions,) first row of each decision.

    Returns:
        Three arrays (rows,). A choice without alternatives has probability 1 and infinite odds and log-odds; odds may
        underflow to 0 or overflow to infinity and are never NaN.

    >>> [values.tolist() for values in choice_probabilities(np.array([1.0, 1.0, 5.0]), np.array([0, 2]))]
    [[0.5, 0.5, 1.0], [1.0, 1.0, inf], [0.0, 0.0, inf]]
    """
    if not len(starts):
        return np.empty(0), np.empty(0), np.empty(0)
    counts = np.diff(np.append(starts, len(utility)))
    decision = np.repeat(np.arange(len(starts)), counts)
    highest = np.maximum.reduceat(utility, starts)
    candidates = np.flatnonzero(utility == highest[decision])
    top = candidates[np.unique(decision[candidates], return_index=True)[1]]  # (decisions,) first of the highest
    with np.errstate(divide="ignore", over="ignore"):
        # of a gap beyond the range of float64, exp is 0, which is the right limit
        relative = utility - highest[decision]
        share = np.exp(relative)
        total = np.add.reduceat(share, starts)
        probability = share / total[decision]
        others = total[decision] - share  # at least 1 for every row but the top
        others[top] = 1.0
        log_odds = relative - np.log(others)
        rest = utility.copy()
        rest[top] = -np.inf
        second = np.maximum.reduceat(rest, starts)
        alone = np.isneginf(second)
        rest = np.where(alone[decision], 0.0, rest)
        log_odds[top] = np.where(alone, np.inf, utility[top] - log_sum_exp(rest, starts))
        odds = np.exp(log_odds)
    return probability, odds, log_odds


@dataclass(frozen=True, kw_only=True)
class CheckedShard:
    """Rows to score, and what the contract found in them."""

    rows: Rows
    outcome: contract.Outcome


def check_shard(table: pa.Table, features: Sequence[str], missing_values_map: Mapping[str, float]) -> CheckedShard:
    """Check and sort the rows of one shard; `_selected` and `_train` may be null or absent, a choice set of any size.

    Args:
        table: all rows of the shard's individuals in its split.
        features: those of the run, in its order.
        missing_values_map: the one stored with the run.
    """
    nulls = contract.check_nulls(table, features, missing_values_map, required=KEYS)
    rows = sort_rows(contract.without_null_keys(table), features, missing_values_map)
    outcome = contract.check_rows(rows, selected=False)
    return CheckedShard(rows=rows, outcome=contract.add_up([contract.Outcome(violations=tuple(nulls)), outcome]))


def evaluate_selected(rows: Rows, utility: Float64) -> Evaluation | None:
    """Evaluate the utilities of those decisions that have exactly one selected row; None when there are none."""
    if not len(rows):
        return None
    chosen = np.add.reduceat(rows.selected.astype(np.int64), rows.starts) == 1
    counts = rows.counts
    keep = np.repeat(chosen, counts)
    lengths = counts[chosen]
    return evaluate(utility[keep], rows.selected[keep], np.cumsum(lengths) - lengths)


def inference_rows(rows: Rows, utility: Float64, shard: Shard, *, experiment_name: str, run_id: str) -> pa.Table:
    """Build the rows of one shard of an inference table, in the order of individual, decision and choice.

    Raises:
        TrainingError: the network gave a utility that is not finite.
    """
    broken = ~np.isfinite(utility)
    if broken.any():
        at = np.flatnonzero(broken)[: contract.EXAMPLES]
        examples = ", ".join(f"individual {rows.individual[i]} decision {rows.decision[i]}" for i in at)
        raise TrainingError(
            f"run {run_id} gives {int(broken.sum()):,} of {len(rows):,} rows a utility that is not finite ({examples}); "
            "look for features far outside the training data, or train the run again"
        )
    probability, odds, log_odds = choice_probabilities(utility, rows.starts)
    columns = {
        INDIVIDUAL: rows.individual,
        DECISION: rows.decision,
        CHOICE: rows.choice,
        TRAIN: np.full(len(rows), shard.split == "train"),
        "probability": probability,
        "odds": odds,
        "log_odds": log_odds,
        "utility": utility,
        "experiment_name": pa.repeat(experiment_name, len(rows)),
        "run_id": pa.repeat(run_id, len(rows)),
        "_partition": np.full(len(rows), shard.index, np.int32),
    }
    return pa.table(columns, schema=SCHEMA)


def check_features(asked: Sequence[str], trained: Sequence[str], run_id: str) -> None:
    """Check that an inference names the features of its run, in any order.

    Raises:
        SpecError: another set of features.
    """
    missing, extra = sorted(set(trained) - set(asked)), sorted(set(asked) - set(trained))
    if missing or extra:
        parts = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(extra)} not used by it"] * bool(extra)
        raise SpecError(
            f"features: run {run_id[:12]}... was trained on {', '.join(trained)}; {'; '.join(parts)}; give exactly these"
        )


def decision_ids(rows: Rows) -> Int64:
    """Return (decisions, 2) individual and decision ids."""
    return np.stack([rows.individual[rows.starts], rows.decision[rows.starts]], axis=1)
