"""Inferences: probability, odds and log-odds of every choice from its utility, and the rows that hold them.

Which features move the probability, and how much, is added on request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core import contract, outcomes
from mimic_core.effects import EffectSums, own_effects, sum_effects
from mimic_core.errors import SpecError, TableError, TrainingError, did_you_mean
from mimic_core.evaluation import Measured, log_sum_exp, measure
from mimic_core.filters import Condition
from mimic_core.identifiers import surrogates
from mimic_core.rows import Float64, Int64, take_decisions
from mimic_core.shards import Part
from mimic_core.sources import ALTERNATIVE, DECISION, INDIVIDUAL, KEYS, TRAIN

CODE_VERSION = "1"  # bump by hand when the same run and table give other rows

SCORES = pa.schema(
    [
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


def inference_schema(source: pa.Schema, explain: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of an inference table: ids and labels as its source has them, the scores, and the derivatives.

    Args:
        explain: the features by which probabilities are differentiated.
    """
    given = [source.field(name) for name in (*KEYS, ALTERNATIVE) if name in source.names]
    return pa.schema([*given, *SCORES, *((derivative_column(name), pa.float64()) for name in explain)])


def check_destination(have: pa.Schema, wanted: pa.Schema, *, table: str, source: str) -> None:
    """Check that the rows of an inference fit the table that others were written to.

    Args:
        have: the columns of the inference table `table`.
        wanted: those that `inference_schema` gives for the table `source`.

    Raises:
        TableError: a column has another type, as ids and labels of another source may.
    """
    problems = [
        f"column {field.name!r} is {have.field(field.name).type}, and would be {field.type} for table {source}"
        for field in wanted
        if field.name in have.names and have.field(field.name).type != field.type
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise TableError(f"table {table} holds inferences of other types:\n  {listed}\n  give another upload_table")


def derivative_column(feature: str) -> str:
    """Return the name of the column that holds the derivative of the probability by a feature."""
    return f"d_probability_d_{feature}"


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


def rules(
    features: Sequence[str], missing_values_map: Mapping[str, float], where: Sequence[Condition] = ()
) -> contract.Rules:
    """Return what an inference asks of its table; `_selected` and `_train` may be null or absent, a choice set of any size.

    Args:
        features: those of the run, in its order.
        missing_values_map: the one stored with the run.
    """
    return contract.Rules(
        features=tuple(features), missing_values_map=missing_values_map, labelled=False, where=tuple(where)
    )


def measure_selected(
    block: contract.Block, utility: Float64, split: str, shares: Mapping[int, float] | None = None
) -> Measured:
    """Measure the utilities of those decisions of a split that have exactly one selected row.

    Args:
        utility: (rows,) finite.
        shares: of each alternative among the selected choices that the run was trained on, by its code.
    """
    rows = block.rows
    if not len(rows):
        return Measured()
    chosen = np.add.reduceat(rows.selected.astype(np.int64), rows.starts) == 1
    chosen &= block.train[rows.starts] == (split == "train")
    # the features are in the utility already
    taken = take_decisions(replace(rows, x=rows.x[:, :0]), np.flatnonzero(chosen))
    return measure(taken, utility[np.repeat(chosen, rows.counts)], shares)


def inference_rows(block: contract.Block, utility: Float64, part: Part, *, experiment_name: str, run_id: str) -> pa.Table:
    """Build the rows of an inference table, in the order of individual, decision and choice.

    Args:
        block: whole decisions that keep the contract.
        utility: (rows,) of its rows in order.
        part: the shards to which the rows belong.

    Raises:
        TrainingError: the network gave a utility that is not finite.
    """
    rows, ids = block.rows, block.columns([name for name in (*KEYS, ALTERNATIVE) if name in block.table.column_names])
    mend = "look for features far outside the training data, or train the run again"
    _require_finite(utility, "utility", block, run_id, mend)
    probability, odds, log_odds = choice_probabilities(utility, rows.starts)
    index = np.array([shard.index for shard in part.shards], np.int32)
    columns = {
        **{name: ids[name] for name in ids.column_names},
        TRAIN: block.train,
        "probability": probability,
        "odds": odds,
        "log_odds": log_odds,
        "utility": utility,
        "experiment_name": pa.repeat(experiment_name, len(rows)),
        "run_id": pa.repeat(run_id, len(rows)),
        "_partition": index[part.places(rows.individual, block.train)],
    }
    return pa.table(columns, schema=inference_schema(ids.schema))


def explain_rows(
    rows: pa.Table,
    block: contract.Block,
    slope: Float64,
    explain: Sequence[str],
    features: Sequence[str],
    *,
    run_id: str,
    table_rows: int | None = None,
) -> tuple[pa.Table, EffectSums]:
    """Return the rows of an inference table with a derivative of the probability by each of some features, and sums.

    Args:
        rows: of `inference_rows`.
        block: that they were made of.
        slope: (rows, explained features) derivatives of the utilities.
        explain: names of the explained features.
        features: names along the last axis of the block's `x`.
        table_rows: of the whole table, by which the sums are kept small; see `sum_effects`.

    Raises:
        TrainingError: the network gave a derivative that is not finite.
    """
    for name, values in zip(explain, slope.T, strict=True):
        what = f"derivative by {name!r}"
        _require_finite(values, what, block, run_id, f"take {name!r} out of explain, or train a model of smooth layers")
    probability, odds = (rows[name].to_numpy() for name in ("probability", "odds"))
    x = block.rows.x[:, [features.index(name) for name in explain]]
    found = own_effects(probability, odds, slope, x)
    for name, values in zip(explain, found.marginal.T, strict=True):
        rows = rows.append_column(derivative_column(name), pa.array(values))
    return rows, sum_effects(block.rows, probability, found, x, alternative_labels(block), table_rows)


def alternative_labels(block: contract.Block) -> dict[int, int | str]:
    """Return what each surrogate of an alternative stands for; empty without `_alternative`."""
    if ALTERNATIVE not in block.table.column_names:
        return {}
    found = pc.unique(block.columns([ALTERNATIVE])[ALTERNATIVE])
    return dict(zip(surrogates(found).tolist(), found.to_pylist(), strict=True))


def _require_finite(values: Float64, what: str, block: contract.Block, run_id: str, mend: str) -> None:
    broken = ~np.isfinite(values)
    if broken.any():
        at = np.flatnonzero(broken)[: outcomes.EXAMPLES]
        shown = block.columns(KEYS).take(pa.array(at)).to_pylist()
        examples = ", ".join(f"individual {row[INDIVIDUAL]} decision {row[DECISION]}" for row in shown)
        raise TrainingError(
            f"run {run_id} gives {int(broken.sum()):,} of {len(values):,} rows a {what} that is not finite ({examples}); "
            f"{mend}"
        )


def check_features(asked: Sequence[str], trained: Sequence[str], run_id: str, in_interactions: Sequence[str] = ()) -> None:
    """Check that an inference names the features of its run, in any order.

    Args:
        in_interactions: columns that only interactions of the run name; they may be named or left out.

    Raises:
        SpecError: another set of features.
    """
    missing, extra = sorted(set(trained) - set(asked)), sorted(set(asked) - {*trained, *in_interactions})
    if missing or extra:
        parts = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(extra)} not used by it"] * bool(extra)
        raise SpecError(
            f"features: run {run_id[:12]}... was trained on {', '.join(trained)}; {'; '.join(parts)}; give exactly these"
            + (f" (and, if you like, {', '.join(in_interactions)}, which its interactions name)" if in_interactions else "")
        )


def check_explained(asked: Sequence[str], features: Sequence[str]) -> None:
    """Check that a run reads the features by which its probabilities are to be differentiated.

    Raises:
        SpecError: it does not, or one is named twice.
    """
    for index, name in enumerate(asked):
        if name not in features:
            near = did_you_mean(name, features)
            raise SpecError(f"explain: {name!r} is not one of the features of the run{near}; they are {', '.join(features)}")
        if name in asked[:index]:
            raise SpecError(f"explain: {name!r} stands more than once; name each feature once")
