"""Tallies: what blocks of a table hold and what the contract found in them, in numbers that add up over blocks and steps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mimic_core import contract, outcomes
from mimic_core.rows import decision_starts
from mimic_core.sources import INDIVIDUAL, SPLITS


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What some rows hold.

    Attributes:
        outcome: what the contract found.
        rows_read: how many rows were read, also those of dropped decisions.
        rows, decisions, individuals: split -> how many there are.
        keys: split -> ids of what must not be in both splits, where blocks alone do not show it: of individuals, or of
            decisions for rules without labels.
    """

    outcome: outcomes.Outcome
    rows_read: int
    rows: Mapping[str, int]
    decisions: Mapping[str, int]
    individuals: Mapping[str, int]
    keys: Mapping[str, pa.Table]


def tally(block: contract.Block, rules: contract.Rules, *, whole: bool) -> Tally:
    """Count what a block holds; `whole` says that it has the rows of both splits of its individuals."""
    train, rows = block.train, block.rows
    firsts = {"decisions": rows.starts, "individuals": decision_starts(rows.individual, rows.individual)}
    counts = {name: _by_split(int(train[first].sum()), len(first)) for name, first in firsts.items()}
    keys: dict[str, pa.Table] = {}
    if not whole:
        keys = {split: _keys(block, rules, split) for split in SPLITS}
    counts["rows"] = _by_split(int(train.sum()), len(train))
    return Tally(outcome=block.outcome, rows_read=block.rows_read, keys=keys, **counts)


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """Add up the tallies of blocks without a common individual in a split."""
    parts = list(tallies)
    counts = {
        name: {split: sum(getattr(part, name)[split] for part in parts) for split in SPLITS}
        for name in ("rows", "decisions", "individuals")
    }
    held = {split: [part.keys[split] for part in parts if split in part.keys] for split in SPLITS}
    keys = {split: pa.concat_tables(tables) for split, tables in held.items() if tables}
    outcome, rows_read = outcomes.add_up(part.outcome for part in parts), sum(part.rows_read for part in parts)
    return Tally(outcome=outcome, rows_read=rows_read, keys=keys, **counts)


def in_both_splits(whole: Tally) -> list[outcomes.Violation]:
    """Report what has rows in both splits in different blocks."""
    if not whole.keys:
        return []
    train, test = (whole.keys[split] for split in SPLITS)
    if train.column_names == [INDIVIDUAL]:
        ids = (keys[INDIVIDUAL].combine_chunks() for keys in (train, test))
        return contract.check_disjoint_individuals(*ids)
    return contract.check_whole_decisions(train, test)


def _by_split(train: int, all_of_them: int) -> dict[str, int]:
    return {"train": train, "test": all_of_them - train}


def _keys(block: contract.Block, rules: contract.Rules, split: str) -> pa.Table:
    if rules.labelled:
        return pa.table({INDIVIDUAL: block.individuals(split)})
    return block.decisions(split)
