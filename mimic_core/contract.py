"""The decision-table contract: which rows of a shard break which rule, with counts and examples, and their sum over shards.

Nothing here raises for bad rows: shards report, the build adds the reports up and refuses to publish a broken table,
so that a person sees every broken rule at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import DecisionTableError
from mimic_core.sources import (
    DECISION,
    FLAGS,
    INDIVIDUAL,
    KEYS,
    Bool,
    Int64,
    Rows,
    feature_values,
)

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule: how many rows, decisions or individuals break it, and the ids of up to five."""

    rule: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        return f"{self.rule}: {self.count:,} ({shown})"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the contract found in a shard or a table.

    Attributes:
        rows, decisions: how many were checked.
        single_choice_decisions: decisions that offer one choice only (legal).
        largest_choice_set: most choices that one decision offers.
        violations: the broken rules; none when the table keeps the contract.
    """

    rows: int = 0
    decisions: int = 0
    single_choice_decisions: int = 0
    largest_choice_set: int = 0
    violations: tuple[Violation, ...] = field(default=())


def check_nulls(
    table: pa.Table,
    features: Sequence[str],
    missing_values_map: Mapping[str, float],
    required: Sequence[str] = (*KEYS, *FLAGS),
) -> list[Violation]:
    """Report nulls in required columns, and feature values that are missing or infinite, by row."""
    found = []
    for name in required:
        if name in table.column_names and table[name].null_count:
            found.append(_rows_violation(f"rows with a null {name}", table, np.asarray(pc.is_null(table[name]))))
    for name in features:
        values = feature_values(table, name, missing_values_map.get(name))
        if np.isfinite(values).all():
            continue
        missing, infinite = np.isnan(values), np.isinf(values)
        if missing.any():
            rule = f"rows whose feature {name!r} is null or NaN without an entry in missing_values_map"
            found.append(_rows_violation(rule, table, missing))
        if infinite.any():
            rule = f"rows whose feature {name!r} is infinite (or too large for float32)"
            found.append(_rows_violation(rule, table, infinite))
    return found


def check_rows(rows: Rows, *, max_choices: int | None = None, selected: bool = True) -> Outcome:
    """Report decisions of sorted rows that break a rule.

    Args:
        rows: a shard without null keys.
        max_choices: most rows that a decision may have; None allows any number.
        selected: whether each decision needs exactly one selected row.
    """
    if not len(rows):
        return Outcome()
    counts = rows.counts
    found: list[Violation] = []
    repeated = np.append(False, rows.choice[1:] == rows.choice[:-1])
    repeated[rows.starts] = False
    duplicates = np.logical_or.reduceat(repeated, rows.starts)
    _add(found, "decisions that offer a _choice twice", rows, duplicates)
    if selected:
        chosen = np.add.reduceat(rows.selected.astype(np.int64), rows.starts)
        _add(found, "decisions with no selected row", rows, chosen == 0)
        _add(found, "decisions with two or more selected rows", rows, chosen > 1)
    if max_choices is not None:
        _add(found, f"decisions with more than max_choices = {max_choices} rows", rows, counts > max_choices)
    return Outcome(
        rows=len(rows),
        decisions=rows.decisions,
        single_choice_decisions=int((counts == 1).sum()),
        largest_choice_set=int(counts.max()),
        violations=tuple(found),
    )


def without_null_keys(table: pa.Table) -> pa.Table:
    """Drop the rows that belong to no decision because a key is null; `check_nulls` reports them."""
    for name in KEYS:
        if table[name].null_count:
            table = table.filter(pc.is_valid(table[name]))
    return table


def document(outcome: Outcome, violations: Sequence[Violation] = ()) -> dict[str, Any]:
    """Return an outcome as plain values, for manifests and metadata."""
    return asdict(outcome) | {"violations": [asdict(v) for v in (*violations, *outcome.violations)]}


def add_up(outcomes: Iterable[Outcome]) -> Outcome:
    """Sum the outcomes of shards; equal rules are merged."""
    outcomes = list(outcomes)
    merged: dict[str, Violation] = {}
    for violation in (violation for outcome in outcomes for violation in outcome.violations):
        before = merged.get(violation.rule, Violation(rule=violation.rule, count=0, examples=()))
        merged[violation.rule] = Violation(
            rule=violation.rule,
            count=before.count + violation.count,
            examples=(*before.examples, *violation.examples)[:EXAMPLES],
        )
    return Outcome(
        rows=sum(outcome.rows for outcome in outcomes),
        decisions=sum(outcome.decisions for outcome in outcomes),
        single_choice_decisions=sum(outcome.single_choice_decisions for outcome in outcomes),
        largest_choice_set=max((outcome.largest_choice_set for outcome in outcomes), default=0),
        violations=tuple(merged.values()),
    )


def check_disjoint_individuals(train: Int64, test: Int64) -> list[Violation]:
    """Report individuals that stand in both splits.

    Args:
        train, test: (individuals,) ids of each split, without repeats.
    """
    both = np.intersect1d(train, test, assume_unique=True)
    if not len(both):
        return []
    examples = tuple(f"individual {i}" for i in both[:EXAMPLES])
    return [Violation(rule="individuals in both train and test", count=len(both), examples=examples)]


def check_whole_decisions(train: Int64, test: Int64) -> list[Violation]:
    """Report decisions with rows in both splits.

    Args:
        train, test: (decisions, 2) ids of individual and decision, without repeats within a split.
    """
    pair = np.dtype([("individual", np.int64), ("decision", np.int64)])
    first, second = (np.ascontiguousarray(ids).view(pair).ravel() for ids in (train, test))
    both = np.intersect1d(first, second, assume_unique=True)
    if not len(both):
        return []
    examples = tuple(f"individual {i} decision {d}" for i, d in both[:EXAMPLES])
    return [Violation(rule="decisions with _train both true and false", count=len(both), examples=examples)]


def require_kept(outcome: Outcome, violations: Sequence[Violation], table: str) -> None:
    """Refuse a table that breaks the contract.

    Raises:
        DecisionTableError: names every broken rule with its count and examples.
    """
    broken = [*violations, *outcome.violations]
    if broken:
        raise DecisionTableError(
            f"table {table} breaks the decision-table contract; nothing was published\n  "
            + "\n  ".join(str(violation) for violation in broken)
            + "\n  mend these rows in the table, or what the config says of them (max_choices, missing_values_map), "
            "and build again"
        )


def _add(found: list[Violation], rule: str, rows: Rows, broken: Bool) -> None:
    if broken.any():
        at = rows.starts[np.flatnonzero(broken)[:EXAMPLES]]
        ids = zip(rows.individual[at], rows.decision[at], strict=True)
        examples = tuple(f"individual {i} decision {d}" for i, d in ids)
        found.append(Violation(rule=rule, count=int(broken.sum()), examples=examples))


def _rows_violation(rule: str, table: pa.Table, broken: Bool) -> Violation:
    shown = table.select(list(KEYS)).filter(pa.array(broken)).slice(0, EXAMPLES).to_pylist()
    examples = tuple(f"individual {row[INDIVIDUAL]} decision {row[DECISION]}" for row in shown)
    return Violation(rule=rule, count=int(broken.sum()), examples=examples)
