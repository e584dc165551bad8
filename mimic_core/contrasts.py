"""Contrasts: pairs of one selected and one rejected choice of a decision, sampled by a seeded hash, evenly or by weights.

Even sampling is uniform within a decision, never across decisions by what a choice is, so the conditional logit that is
estimated on the pairs stays consistent without a correction. By weights, choices are preferred for what they are, and the
pairs carry the log-probabilities by which training corrects for that.

Source: D. McFadden, Modelling the choice of residential location, 1978 (the uniform conditioning property).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mimic_core import contract, outcomes
from mimic_core.errors import TableError
from mimic_core.rows import Int64, Rows, numbers
from mimic_core.sampling import UInt64, WeightedChoices, hash_below, hash_decisions, weighted_choices
from mimic_core.sources import CHOICE, DECISION, OFFSET
from mimic_core.specs import ContrastSpec, SamplingWeights

CODE_VERSION = "1"  # bump by hand when the same spec and table give other rows

OLD_DECISION, OLD_CHOICE = "_old_decision", "_old_choice"
PAIRS_PER_PART = 250_000  # bounds the memory of what is made from a block


def contrast_schema(schema: pa.Schema, table: str, weights: SamplingWeights | None) -> pa.Schema:
    """Return the columns of a contrast table: its source's, where each row comes from, and with weights its log-probability.

    Raises:
        TableError: the source has such columns already.
    """
    added = [OLD_DECISION, OLD_CHOICE, *([OFFSET] if weights else [])]
    taken = [name for name in added if name in schema.names]
    if taken:
        raise TableError(
            f"table {table} has {' and '.join(map(repr, taken))}, which a contrast set adds to the columns of "
            "its source; sample from the table that this one was made from, or leave the column out"
        )
    old = [pa.field(name, schema.field(of).type) for name, of in ((OLD_DECISION, DECISION), (OLD_CHOICE, CHOICE))]
    new = [field.with_type(pa.int64()) if field.name in (DECISION, CHOICE) else field for field in schema]
    return pa.schema([*new, *old, *([pa.field(OFFSET, pa.float64())] if weights else [])])


def rules(spec: ContrastSpec) -> contract.Rules:
    """Return what a contrast set asks of its table; features are copied as they are, so they are not checked."""
    return contract.Rules(where=spec.conditions, sampling_weights=spec.sampling.weights if spec.sampling else None)


def usable_individuals(rows: Rows) -> int:
    """Count the individuals with at least one decision that offers a rejected choice."""
    return len(np.unique(rows.individual[rows.starts[rows.counts > 1]]))


def pairs_each(spec: ContrastSpec) -> int:
    """Return how many pairs are sampled of each usable individual."""
    return spec.decisions_per_individual * spec.alternatives_per_decision


def sample(block: contract.Block, spec: ContrastSpec) -> Iterator[pa.Table]:
    """Pair sampled selections with sampled rejected choices of the same decision.

    An individual's decisions that offer a rejected choice are put in an order by a hash of (seed, individual, decision) and
    drawn in turn, `decisions_per_individual` times; the rejected choices of a decision are ordered by a hash that adds the
    choice, and its draws take the next `alternatives_per_decision` of them in turn. So use counts differ by at most one over
    the decisions of an individual and over the rejected choices of a decision, and nothing depends on other individuals.

    With weights, decisions are drawn in the same turn, but each rejected choice is an independent draw with replacement, of
    a probability in proportion to its weight: how often the rejected choices of a decision are used is not even.

    Args:
        block: whole individuals that keep the contract.
        spec: how many draws, and the seed.

    Yields:
        Two rows per new decision, in parts of a bounded size, in the order of the draws within the individuals; `_choice` is
        0 for the selected and 1 for the rejected row. The new `_decision` is `_individual * draws + rank` in 64-bit
        arithmetic, with draws = decisions_per_individual * alternatives_per_decision and the rank from 0 to draws - 1 within
        the individual: unique in the whole table unless individual ids spread over more than 2^64 / draws, as the
        surrogates of text ids do; always unique within the individual.
    """
    draws = pairs_each(spec)
    table = block.table.combine_chunks()  # rows are gathered from it many times over
    weighted = None
    if spec.sampling and block.rows.decisions:
        weighted = weighted_choices(block.rows, numbers(table, spec.sampling.weights)[block.order])
    for individual, rank, rows in sampled_rows(block.rows, spec, weighted):
        with np.errstate(over="ignore"):
            identifier = np.repeat(individual * np.int64(draws) + rank, 2)
        pairs = _paired(table.take(pa.array(block.order[rows])), identifier)
        if weighted is not None:
            pairs = pairs.append_column(OFFSET, pa.array(weighted.log_probabilities(rows)))
        yield pairs


def sampled_rows(
    rows: Rows, spec: ContrastSpec, weighted: WeightedChoices | None = None
) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Select the rows of pairs.

    Args:
        weighted: the same rows with the weights by which rejected choices are drawn; None samples evenly.

    Yields:
        (pairs,) individuals and ranks within them, and (2 * pairs,) which rows, the selected and the rejected one in turn.
    """
    hashes = hash_decisions(rows, spec.seed)  # every level of keys is hashed with the hash of the level above it
    frame = _frame(rows, hashes)
    in_turn = _in_turn(rows, hashes) if weighted is None else np.empty(0, np.int64)
    draws = pairs_each(spec)
    pairs = len(frame.individual) * draws
    for start in range(0, pairs, PAIRS_PER_PART):
        i, rank = np.divmod(np.arange(start, min(start + PAIRS_PER_PART, pairs)), draws)  # (pairs,)
        draw, alternative = np.divmod(rank, spec.alternatives_per_decision)
        again, turn = np.divmod(draw, frame.usable[i])  # how often the decision was drawn before, and which it is
        decision = frame.decision[frame.first_decision[i] + turn]
        if weighted is not None:
            rejected = weighted.draw(decision, hash_below(hashes[decision], rank))
        else:
            turn = (again * spec.alternatives_per_decision + alternative) % frame.rejections[decision]
            rejected = in_turn[frame.first_rejected[decision] + turn]
        yield frame.individual[i], rank, np.stack([frame.selected[decision], rejected], axis=1).ravel()


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What can be drawn from sorted rows, in the order in which it is drawn.

    Attributes:
        individual: (individuals,) ids of those with a usable decision.
        first_decision, usable: (individuals,) where their decisions begin in `decision`, and how many there are.
        decision: (usable decisions,) position among all decisions.
        selected, rejections: (decisions,) row of the selected choice, and number of rejected ones.
        first_rejected: (decisions,) where a decision's rejected choices begin among all of them.
    """

    individual: Int64
    first_decision: Int64
    usable: Int64
    decision: Int64
    selected: Int64
    rejections: Int64
    first_rejected: Int64


def _frame(rows: Rows, hashes: UInt64) -> _Frame:
    """Order what can be drawn; `hashes` are (decisions,)."""
    individual = rows.individual[rows.starts]  # (decisions,)
    rejections = rows.counts - 1
    order = np.lexsort((hashes, individual))
    order = order[rejections[order] > 0]
    ids, first, usable = np.unique(individual[order], return_index=True, return_counts=True)
    return _Frame(
        individual=ids,
        first_decision=first,
        usable=usable,
        decision=order,
        selected=np.flatnonzero(rows.selected),
        rejections=rejections,
        first_rejected=np.cumsum(rejections) - rejections,
    )


def _in_turn(rows: Rows, hashes: UInt64) -> Int64:
    """Return (rejected choices,) rows of the decisions in turn, those of each in the order in which it draws them."""
    of = np.repeat(np.arange(rows.decisions), rows.counts - 1)  # (rejected choices,)
    rejected = np.flatnonzero(~rows.selected)
    return rejected[np.lexsort((hash_below(hashes[of], rows.choice[rejected]), of))]


def _paired(rows: pa.Table, identifier: Int64) -> pa.Table:
    """Turn copied rows, selected and rejected in turn, into new decisions of two choices."""
    old = {OLD_DECISION: rows[DECISION], OLD_CHOICE: rows[CHOICE]}
    new = {DECISION: pa.array(identifier), CHOICE: pa.array(np.tile(np.array([0, 1]), len(rows) // 2))}
    for name, column in new.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    for name, column in old.items():
        rows = rows.append_column(name, column)
    return rows


def require_contrasts(individuals: int, outcome: outcomes.Outcome, table: str) -> None:
    """Refuse a table from which nothing can be drawn.

    Raises:
        TableError: no decision offers a rejected choice.
    """
    if not individuals:
        raise TableError(
            f"table {table}: none of its {outcome.decisions:,} decisions has a rejected choice to contrast with; "
            "give at least one decision two or more choices and build again"
        )
