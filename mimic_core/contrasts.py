"""Contrasts: pairs of one selected and one rejected choice of a decision, sampled evenly by a seeded hash.

Sampling is uniform within a decision, never across decisions by what a choice is, so the conditional logit that is estimated
on the pairs stays consistent without a correction.

Source: D. McFadden, Modelling the choice of residential location, 1978 (the uniform conditioning property).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mimic_core import contract
from mimic_core.errors import TableError
from mimic_core.rows import Int64, Rows, hash64
from mimic_core.sources import CHOICE, DECISION
from mimic_core.specs import ContrastSpec

CODE_VERSION = "1"  # bump by hand when the same spec and table give other rows

OLD_DECISION, OLD_CHOICE = "_old_decision", "_old_choice"
PAIRS_PER_PART = 250_000  # bounds the memory of what is made from a block

UInt64 = npt.NDArray[np.uint64]


def contrast_schema(schema: pa.Schema, table: str) -> pa.Schema:
    """Return the columns of a contrast table: those of its source, and where each row comes from.

    Raises:
        TableError: the source has such columns already.
    """
    taken = [name for name in (OLD_DECISION, OLD_CHOICE) if name in schema.names]
    if taken:
        raise TableError(
            f"table {table} has {' and '.join(map(repr, taken))}, which a contrast set adds to the columns of "
            "its source; sample from the table that this one was made from, or leave the column out"
        )
    old = [pa.field(name, schema.field(of).type) for name, of in ((OLD_DECISION, DECISION), (OLD_CHOICE, CHOICE))]
    new = [field.with_type(pa.int64()) if field.name in (DECISION, CHOICE) else field for field in schema]
    return pa.schema([*new, *old])


def rules(spec: ContrastSpec) -> contract.Rules:
    """Return what a contrast set asks of its table; features are copied as they are, so they are not checked."""
    return contract.Rules(where=spec.conditions)


def usable_individuals(rows: Rows) -> int:
    """Count the individuals with at least one decision that offers a rejected choice."""
    return len(np.unique(rows.individual[rows.starts[rows.counts > 1]]))


def sample(block: contract.Block, spec: ContrastSpec) -> Iterator[pa.Table]:
    """Pair sampled selections with sampled rejected choices of the same decision.

    An individual's decisions that offer a rejected choice are put in an order by a hash of (seed, individual, decision) and
    drawn in turn, `decisions_per_individual` times; the rejected choices of a decision are ordered by a hash that adds the
    choice, and its draws take the next `alternatives_per_decision` of them in turn. So use counts differ by at most one over
    the decisions of an individual and over the rejected choices of a decision, and nothing depends on other individuals.

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
    draws = spec.decisions_per_individual * spec.alternatives_per_decision
    table = block.table.combine_chunks()  # rows are gathered from it many times over
    for individual, rank, rows in sampled_rows(block.rows, spec):
        with np.errstate(over="ignore"):
            identifier = np.repeat(individual * np.int64(draws) + rank, 2)
        yield _paired(table.take(pa.array(block.order[rows])), identifier)


def sampled_rows(rows: Rows, spec: ContrastSpec) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Select the rows of pairs.

    Yields:
        (pairs,) individuals and ranks within them, and (2 * pairs,) which rows, the selected and the rejected one in turn.
    """
    frame = _frame(rows, spec.seed)
    draws = spec.decisions_per_individual * spec.alternatives_per_decision
    pairs = len(frame.individual) * draws
    for start in range(0, pairs, PAIRS_PER_PART):
        i, rank = np.divmod(np.arange(start, min(start + PAIRS_PER_PART, pairs)), draws)  # (pairs,)
        draw, alternative = np.divmod(rank, spec.alternatives_per_decision)
        again, turn = np.divmod(draw, frame.usable[i])  # how often the decision was drawn before, and which it is
        decision = frame.decision[frame.first_decision[i] + turn]
        turn = (again * spec.alternatives_per_decision + alternative) % frame.rejections[decision]
        rejected = frame.rejected[frame.first_rejected[decision] + turn]
        yield frame.individual[i], rank, np.stack([frame.selected[decision], rejected], axis=1).ravel()


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What can be drawn from sorted rows, in the order in which it is drawn.

    Attributes:
        individual: (individuals,) ids of those with a usable decision.
        first_decision, usable: (individuals,) where their decisions begin in `decision`, and how many there are.
        decision: (usable decisions,) position among all decisions.
        selected, rejections: (decisions,) row of the selected choice, and number of rejected ones.
        first_rejected: (decisions,) where a decision's rejected choices begin in `rejected`.
        rejected: (rejected choices,) row.
    """

    individual: Int64
    first_decision: Int64
    usable: Int64
    decision: Int64
    selected: Int64
    rejections: Int64
    first_rejected: Int64
    rejected: Int64


def _frame(rows: Rows, seed: int) -> _Frame:
    individual = rows.individual[rows.starts]  # (decisions,)
    # every level of keys is hashed with the hash of the level above it
    decision_hash = _hashed(hash64(individual, seed), rows.decision[rows.starts])
    rejections = rows.counts - 1
    order = np.lexsort((decision_hash, individual))
    order = order[rejections[order] > 0]
    ids, first, usable = np.unique(individual[order], return_index=True, return_counts=True)
    rejected = np.flatnonzero(~rows.selected)
    of = np.repeat(np.arange(rows.decisions), rejections)  # (rejected choices,)
    rejected = rejected[np.lexsort((_hashed(decision_hash[of], rows.choice[rejected]), of))]
    return _Frame(
        individual=ids,
        first_decision=first,
        usable=usable,
        decision=order,
        selected=np.flatnonzero(rows.selected),
        rejections=rejections,
        first_rejected=np.cumsum(rejections) - rejections,
        rejected=rejected,
    )


def _hashed(above: UInt64, values: Int64) -> UInt64:
    return hash64((above ^ values.view(np.uint64)).view(np.int64))


def _paired(rows: pa.Table, identifier: Int64) -> pa.Table:
    """Turn copied rows, selected and rejected in turn, into new decisions of two choices."""
    old = {OLD_DECISION: rows[DECISION], OLD_CHOICE: rows[CHOICE]}
    new = {DECISION: pa.array(identifier), CHOICE: pa.array(np.tile(np.array([0, 1]), len(rows) // 2))}
    for name, column in new.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    for name, column in old.items():
        rows = rows.append_column(name, column)
    return rows


def require_contrasts(individuals: int, outcome: contract.Outcome, table: str) -> None:
    """Refuse a table from which nothing can be drawn.

    Raises:
        TableError: no decision offers a rejected choice.
    """
    if not individuals:
        raise TableError(
            f"table {table}: none of its {outcome.decisions:,} decisions has a rejected choice to contrast with; "
            "give at least one decision two or more choices and build again"
        )
