"""Balance: whether the rows of a contrast set are pairs of one selected and one rejected choice, as many of each individual.

Counted from the rows as they are written, so that a fault of the sampling is found by something else than the sampling.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.contrasts import OLD_DECISION
from mimic_core.errors import TableError
from mimic_core.rows import Bool
from mimic_core.sources import DECISION, INDIVIDUAL, SELECTED


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What was counted of some rows; counts of disjoint individuals are added by `add_balances`.

    Attributes:
        rows, selected: how many, and how many of them are selected.
        pairs: how many decisions of the contrast set.
        broken_pairs: how many of them are not one selected and one rejected row of one decision of the source.
        individuals: how many have a pair.
        uneven_individuals: how many of these have another number of pairs than the spec says.
    """

    rows: int = 0
    selected: int = 0
    pairs: int = 0
    broken_pairs: int = 0
    individuals: int = 0
    uneven_individuals: int = 0

    @property
    def kept(self) -> bool:
        """Whether all is as it should be."""
        return not self.broken_pairs and not self.uneven_individuals and 2 * self.selected == self.rows


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """What was counted of some pairs, of which an individual may have more elsewhere.

    Attributes:
        rows_of: (individuals, 2) `id`, and how many `rows` it has.
    """

    rows: int
    selected: int
    broken_pairs: int
    rows_of: pa.Table


def count_pairs(part: pa.Table) -> PairCounts:
    """Count rows as they are written, the two of a pair next to each other."""
    selected = np.asarray(part[SELECTED])
    found = pc.value_counts(part[INDIVIDUAL])
    return PairCounts(
        rows=len(part),
        selected=int(selected.sum()),
        broken_pairs=_broken_pairs(part, selected),
        rows_of=pa.table({"id": found.field("values"), "rows": found.field("counts")}),
    )


def balance(parts: Sequence[PairCounts], pairs_each: int) -> Balance:
    """Judge all pairs of some individuals, each of which must have `pairs_each`."""
    if not parts:
        return Balance()
    rows_of = pa.concat_tables([part.rows_of for part in parts])
    rows = rows_of.group_by("id").aggregate([("rows", "sum")])["rows_sum"].to_numpy()  # (individuals,)
    return Balance(
        rows=sum(part.rows for part in parts),
        selected=sum(part.selected for part in parts),
        pairs=sum(-(-part.rows // 2) for part in parts),
        broken_pairs=sum(part.broken_pairs for part in parts),
        individuals=len(rows),
        uneven_individuals=int((rows != 2 * pairs_each).sum()),
    )


def add_balances(parts: Iterable[Balance]) -> Balance:
    """Add the counts of disjoint individuals."""
    every = list(parts)
    return Balance(**{each.name: sum(getattr(part, each.name) for part in every) for each in fields(Balance)})


def require_balance(found: Balance, table: str, pairs_each: int) -> None:
    """Refuse a contrast set that is not balanced, which no config and no table can cause.

    Raises:
        TableError: says what is wrong.
    """
    if not found.kept:
        raise TableError(
            f"contrast set {table} is not balanced: {found.broken_pairs:,} of {found.pairs:,} pairs are not one selected "
            f"and one rejected row of a decision, {found.uneven_individuals:,} of {found.individuals:,} individuals have "
            f"another number of pairs than {pairs_each:,}, and {found.selected:,} of {found.rows:,} rows are selected, "
            "expected half; nothing was published. This is a fault of mimic: report it with the config"
        )


def _broken_pairs(part: pa.Table, selected: Bool) -> int:
    if len(part) % 2:
        return -(-len(part) // 2)
    one_decision = np.logical_and.reduce([_same(part[name]) for name in (INDIVIDUAL, DECISION, OLD_DECISION)])
    return int((~one_decision | (selected[::2] == selected[1::2])).sum())


def _same(column: pa.ChunkedArray) -> Bool:
    """Return (pairs,) whether the two values of each are the same."""
    values = column.combine_chunks()
    return np.asarray(pc.equal(values[:-1], values[1:]))[::2]
