"""Outcomes: what the decision-table contract found, as people read it and builds add it up, and what is refused for it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from mimic_core.errors import DecisionTableError, TableError

EXAMPLES = 5
TOO_LARGE = "decisions with more than max_choices"
MEND = (
    "mend these rows in the table, or what the config says of them (max_choices, missing_values_map, where), "
    'and build again; "invalid_decisions": "drop" in the config leaves these decisions out'
)


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
    """What the contract found in a block or a table.

    Attributes:
        rows, decisions: how many were checked.
        filtered_rows: how many more `where` left out.
        single_choice_decisions: decisions that offer one choice only (legal).
        largest_choice_set: most choices that one decision offers.
        violations: the broken rules; none when the table keeps the contract.
    """

    rows: int = 0
    decisions: int = 0
    filtered_rows: int = 0
    single_choice_decisions: int = 0
    largest_choice_set: int = 0
    violations: tuple[Violation, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the contract found, and the (decisions, 2) ids of the decisions that break a rule."""

    outcome: Outcome
    offending: pa.Table


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """How many decisions of a table were dropped, and what is wrong with them."""

    decisions: int
    violations: tuple[Violation, ...]


def document(outcome: Outcome, left_out: LeftOut | None = None) -> dict[str, Any]:
    """Return an outcome, and which decisions were dropped, as plain values for manifests and metadata."""
    dropped = left_out or LeftOut(decisions=0, violations=())
    return asdict(outcome) | {
        "violations": [asdict(violation) for violation in outcome.violations],
        "dropped_decisions": dropped.decisions,
        "left_out": [asdict(violation) for violation in dropped.violations],
    }


def add_up(outcomes: Iterable[Outcome]) -> Outcome:
    """Sum the outcomes of blocks; equal rules are merged."""
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
        filtered_rows=sum(outcome.filtered_rows for outcome in outcomes),
        single_choice_decisions=sum(outcome.single_choice_decisions for outcome in outcomes),
        largest_choice_set=max((outcome.largest_choice_set for outcome in outcomes), default=0),
        violations=tuple(merged.values()),
    )


def require_all_read(read: int, rows: int, table: str) -> None:
    """Refuse a build whose steps did not read each row of a table once.

    Raises:
        TableError: the files' statistics, by which steps choose what they read, do not fit the rows.
    """
    if read != rows:
        raise TableError(
            f"table {table}: its files hold {rows:,} rows, the steps of this build read {read:,}; nothing was published. "
            "The lowest and highest _individual that a file states for some row group do not fit its rows; write them anew"
        )


def require_kept(outcome: Outcome, table: str, *, made: str = "published", mend: str = MEND) -> None:
    """Refuse a table that breaks the contract, or of which a filter leaves nothing.

    Args:
        made: what is not done with the rows.
        mend: what to do about them.

    Raises:
        DecisionTableError: names every broken rule with its count and examples.
        TableError: no row is selected.
    """
    if outcome.violations:
        raise DecisionTableError(
            f"table {table} breaks the decision-table contract; nothing was {made}\n  "
            + "\n  ".join([*map(str, outcome.violations), *_advice(outcome), mend])
        )
    if outcome.filtered_rows and not outcome.rows:
        raise TableError(
            f"table {table}: `where` holds for none of its {outcome.filtered_rows:,} rows; nothing was published. "
            "Mend the config and build again"
        )


def _advice(outcome: Outcome) -> list[str]:
    """Say what else can be done about decisions that are too large."""
    if not any(violation.rule.startswith(TOO_LARGE) for violation in outcome.violations):
        return []
    return [
        f"the largest decision offers {outcome.largest_choice_set:,} choices: give that many as max_choices, or set "
        '"overflow": "sample" to keep the selected choice of such a decision and a uniform sample of the others'
    ]
