"""The decision-table contract: which rows and decisions break which rule, with counts and examples.

Nothing here raises for bad rows: blocks report, the build adds the reports up and refuses to publish a broken table,
so that a person sees every broken rule at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.filters import Condition, selected_rows
from mimic_core.identifiers import require_different, surrogates
from mimic_core.outcomes import EXAMPLES, TOO_LARGE, Checked, Outcome, Violation, add_up
from mimic_core.rows import Bool, Float32, Int64, Rows, decision_starts, feature_matrix, flag_values, numbers, sort_keys
from mimic_core.shards import shard_index
from mimic_core.sources import ALTERNATIVE, DECISION, FLAGS, INDIVIDUAL, KEYS, OFFSET, SELECTED, TRAIN, WEIGHT

LOOKED_AT = 1_000  # broken rows, for examples of different decisions
ROWS_AT_ONCE = 4_000_000  # of a table are held at once, 330 MB, 650 MB if ids are text; a larger one is read again
LEAK = "individuals in both train and test"
SPLIT_DECISION = "decisions with _train both true and false"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What one use of a table asks of it.

    Attributes:
        features: columns that must be numbers after `missing_values_map` is applied.
        missing_values_map: feature -> the value that replaces a null or NaN.
        max_choices: most rows that a decision may have; None allows any number.
        labelled: whether each decision needs exactly one selected row and each individual one split; else flags may be
            null or absent, weights and log-probabilities null, and only a decision must stand in one split.
        where: conditions on the rows that are used; the others are left out, whole decisions only.
        sampling_weights: column that must be positive and finite; None where nothing is sampled by weights.
    """

    features: tuple[str, ...] = ()
    missing_values_map: Mapping[str, float] = field(default_factory=dict)
    max_choices: int | None = None
    labelled: bool = True
    where: tuple[Condition, ...] = ()
    sampling_weights: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that must be there to check the rules, beside reserved ones and those of the filter."""
        return self.features if self.sampling_weights is None else (*self.features, self.sampling_weights)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Whole individuals of a table, checked, as flat rows.

    Attributes:
        table: the rows as the table has them, in any order, also those that `where` leaves out.
        order: (rows,) which of them are used, in the order of individual, decision and choice.
        in_order: whether that is all of them, as they are.
        rows: these, the features in the order of the rules; those with a null id are missing.
        train: (rows,) whether each of them is for training.
        outcome: what the contract found.
        rows_read: how many rows there were before decisions were dropped.
    """

    table: pa.Table
    order: Int64
    in_order: bool
    rows: Rows
    train: Bool
    outcome: Outcome
    rows_read: int

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return columns of the rows that are used as the table has them, in order."""
        chosen = self.table.select(names)
        return chosen if self.in_order else chosen.take(pa.array(self.order))

    def individuals(self, split: str) -> pa.Array:
        """Return (individuals,) the ids of those of a split as the table has them."""
        first = decision_starts(self.rows.individual, self.rows.individual)
        mine = first[self.train[first] == (split == "train")]
        return self.table[INDIVIDUAL].take(pa.array(self.order[mine])).combine_chunks()

    def decisions(self, split: str) -> pa.Table:
        """Return (decisions, 2) the ids of those of a split as the table has them."""
        first = self.rows.starts[self.train[self.rows.starts] == (split == "train")]
        return self.table.select([INDIVIDUAL, DECISION]).take(pa.array(self.order[first]))


def check_block(table: pa.Table, rules: Rules, dropped: pa.Table | None = None) -> Block:
    """Check the rows of whole individuals, and make flat rows of those that are used.

    Args:
        table: columns `_individual`, `_decision`, `_choice`, the flags that exist, the features, those of the filter.
        dropped: (decisions, 2) ids of decisions to leave out, as `check_table` found them; with it rows without an id are
            left out too.
    """
    rows_read = len(table)
    if dropped is not None:
        table = _without(table, dropped)
    found = _Found(rules)
    x = found.add(table)
    checked, decisions = found.judged()
    order = decisions.row
    in_order = len(order) == len(x) and bool((np.diff(order) == 1).all())
    flags = {
        name: flag_values(table, name)[order] if name in table.column_names else np.zeros(len(order), np.bool_)
        for name in FLAGS
    }
    weight = _numbers(table, WEIGHT, order[decisions.starts])
    rows = Rows(
        individual=decisions.individual,
        decision=decisions.decision,
        choice=decisions.choice,
        selected=flags[SELECTED],
        x=x if in_order else x[order],
        starts=decisions.starts,
        weight=None if weight is None else np.where(np.isnan(weight), np.float32(0), weight),
        alternative=surrogates(table[ALTERNATIVE])[order] if ALTERNATIVE in table.column_names else None,
        offset=_numbers(table, OFFSET, order),
    )
    return Block(
        table=table,
        order=order,
        in_order=in_order,
        rows=rows,
        train=flags[TRAIN],
        outcome=checked.outcome,
        rows_read=rows_read,
    )


def check_table(read: Callable[[], Iterable[pa.RecordBatch]], rows: int, rules: Rules) -> Checked:
    """Check a table of any size, in memory that its size does not change.

    Args:
        read: begins a new stream of the table's rows.
        rows: how many there are.
    """
    parts = max(1, -(-rows // ROWS_AT_ONCE))
    found = [check_decisions(_individuals(read(), part, parts), rules) for part in range(parts)]
    outcome = add_up(part.outcome for part in found)
    offending = pa.concat_tables([part.offending for part in found], promote_options="permissive")  # no rows, no types
    return Checked(outcome=outcome, offending=offending)


def check_decisions(batches: Iterable[pa.RecordBatch], rules: Rules) -> Checked:
    """Check whole decisions in one pass, in any order of the rows; only ids and flags stay in memory.

    Args:
        batches: columns `_individual`, `_decision`, `_choice`, the flags that exist, the features, those of the filter.
        rules: what is asked.

    >>> row = pa.record_batch({"_individual": [1], "_decision": [1], "_choice": [0], "_selected": [False], "_train": [True]})
    >>> [str(violation) for violation in check_decisions([row], Rules()).outcome.violations]
    ['decisions with no selected row: 1 (individual 1 decision 1)']
    """
    found = _Found(rules)
    for batch in batches:
        found.add(batch)
    return found.judged()[0]


def check_disjoint_individuals(train: pa.Array, test: pa.Array) -> list[Violation]:
    """Report individuals that stand in both splits.

    Args:
        train, test: (individuals,) ids of each split, without repeats.
    """
    both = train.filter(pc.is_in(train, test))
    examples = tuple(f"individual {i}" for i in both[:EXAMPLES].to_pylist())
    return [Violation(rule=LEAK, count=len(both), examples=examples)] if len(both) else []


def check_whole_decisions(train: pa.Table, test: pa.Table) -> list[Violation]:
    """Report decisions with rows in both splits.

    Args:
        train, test: (decisions, 2) ids of individual and decision, without repeats within a split.
    """
    both = train.join(test, [INDIVIDUAL, DECISION], join_type="left semi")
    examples = _examples(both.slice(0, EXAMPLES))
    return [Violation(rule=SPLIT_DECISION, count=len(both), examples=examples)] if len(both) else []


_USED = "used"


class _Found:
    """What the rows of a table that were seen so far break by themselves, and their ids and flags."""

    def __init__(self, rules: Rules) -> None:
        self._rules, self._rows = rules, 0
        self._ids: list[pa.Table] = []
        self._wrong: dict[str, list[Int64]] = {}

    def add(self, part: pa.Table | pa.RecordBatch) -> Float32:
        """Look at more rows; returns their (rows, features) values."""
        rules = self._rules
        ids = part.select([name for name in (*KEYS, *FLAGS, WEIGHT) if name in part.schema.names])
        used = selected_rows(part, rules.where)
        x = feature_matrix(part, rules.features, rules.missing_values_map)
        for rule, wrong in (*_row_rules(ids, x, rules), *_optional_rules(part, rules), *_weight_rules(part, rules)):
            if (wrong & used).any():
                self._wrong.setdefault(rule, []).append(self._rows + np.flatnonzero(wrong & used))
        ids = ids if isinstance(ids, pa.Table) else pa.Table.from_batches([ids])
        self._ids.append(ids.append_column(_USED, pa.array(used)) if rules.where else ids)
        self._rows += part.num_rows
        return x

    def judged(self) -> tuple[Checked, "_Decisions"]:
        """Say what all of them break, and give the decisions that are used."""
        if not self._rows:
            nothing = np.empty(0, np.int64)
            empty = pa.table({name: pa.nulls(0) for name in (INDIVIDUAL, DECISION)})
            none = _Decisions(row=nothing, individual=nothing, decision=nothing, choice=nothing, starts=nothing)
            return Checked(outcome=Outcome(), offending=empty), none
        broken = [_Broken(rule=rule, rows=np.concatenate(at)) for rule, at in self._wrong.items()]
        return _checked(pa.concat_tables(self._ids), self._rules, broken)


@dataclass(frozen=True, kw_only=True)
class _Broken:
    """A broken rule and the rows that show it: every row, or the first of every decision or individual."""

    rule: str
    rows: Int64
    unit: str = DECISION


@dataclass(frozen=True, kw_only=True)
class _Decisions:
    """Rows in the order of their keys.

    Attributes:
        row: (rows,) where each stands in the table.
        individual, decision, choice: (rows,) int64; surrogates where ids are text.
        starts: (decisions,) the first row of each decision.
    """

    row: Int64
    individual: Int64
    decision: Int64
    choice: Int64
    starts: Int64

    @property
    def counts(self) -> Int64:
        return np.diff(np.append(self.starts, len(self.row)))

    def where(self, rows: Bool) -> "_Decisions":
        """Keep some rows, given in the order of the keys; a decision keeps all or none of its own."""
        starts = np.cumsum(np.append(0, rows))[self.starts[rows[self.starts]]]
        kept = (values[rows] for values in (self.row, self.individual, self.decision, self.choice))
        row, individual, decision, choice = kept
        return _Decisions(row=row, individual=individual, decision=decision, choice=choice, starts=starts)


def _row_rules(ids: pa.Table | pa.RecordBatch, x: Float32, rules: Rules) -> Iterable[tuple[str, Bool]]:
    """Name the rules that rows break by themselves, with (rows,) which they are.

    Args:
        x: (rows, features) their values, missing ones replaced.
    """
    for name in (*KEYS, *FLAGS) if rules.labelled else KEYS:
        column = ids.column(name)
        if column.null_count:
            yield f"rows with a null {name}", np.asarray(pc.is_null(column))
    if np.isfinite(x).all():
        return
    for j, name in enumerate(rules.features):
        yield f"rows whose feature {name!r} is null or NaN without an entry in missing_values_map", np.isnan(x[:, j])
        yield f"rows whose feature {name!r} is infinite (or too large for float32)", np.isinf(x[:, j])


def _optional_rules(part: pa.Table | pa.RecordBatch, rules: Rules) -> Iterable[tuple[str, Bool]]:
    """Name the rules that rows break by what they hold in reserved columns that a table need not have."""
    known = rules.labelled  # what nobody knows yet of future rows is no fault of theirs
    if (weight := _numbers(part, WEIGHT)) is not None:
        wrong = np.isinf(weight) | (weight < 0) | (np.isnan(weight) & known)
        yield f"rows whose {WEIGHT} is {'null, negative or not finite' if known else 'negative or infinite'}", wrong
    if ALTERNATIVE in part.schema.names and part.column(ALTERNATIVE).null_count:
        yield f"rows with a null {ALTERNATIVE}", np.asarray(pc.is_null(part.column(ALTERNATIVE)))
    if (offset := _numbers(part, OFFSET)) is not None:
        wrong = np.isinf(offset) | (np.isnan(offset) & known)
        yield f"rows whose {OFFSET} is {'null or not finite' if known else 'infinite'}", wrong


def _weight_rules(part: pa.Table | pa.RecordBatch, rules: Rules) -> Iterable[tuple[str, Bool]]:
    """Name the rule that rows break by a weight by which no choice can be sampled."""
    if rules.sampling_weights is not None:
        weight = numbers(part, rules.sampling_weights)
        broken = f"rows whose sampling weight {rules.sampling_weights!r} is null, zero, negative or not finite"
        yield broken, ~(np.isfinite(weight) & (weight > 0))


def _numbers(part: pa.Table | pa.RecordBatch, name: str, rows: Int64 | slice = slice(None)) -> Float32 | None:
    """Return (rows,) values of a column, a null as NaN; None where there is no such column."""
    return feature_matrix(part, [name], {})[rows, 0] if name in part.schema.names else None


def _checked(ids: pa.Table, rules: Rules, broken: list[_Broken]) -> tuple[Checked, _Decisions]:
    decisions, filtered = _sorted(ids), 0
    if rules.where:
        used = flag_values(ids, _USED)[decisions.row]
        kept = np.add.reduceat(used, decisions.starts, dtype=np.int64) if len(used) else np.empty(0, np.int64)
        partly = (kept > 0) & (kept < decisions.counts)
        broken.append(
            _Broken(rule="decisions of which `where` keeps only some rows", rows=decisions.row[decisions.starts[partly]])
        )
        filtered = len(ids) - int(flag_values(ids, _USED).sum())
        decisions = decisions.where(np.repeat(kept == decisions.counts, decisions.counts))
    broken += _decision_rules(ids, decisions, rules)
    broken = [rule for rule in broken if len(rule.rows)]
    offending = [_decisions_of(ids, rule) for rule in broken] or [ids.select([INDIVIDUAL, DECISION]).slice(0, 0)]
    outcome = Outcome(
        rows=len(ids) - filtered,
        decisions=len(decisions.starts),
        filtered_rows=filtered,
        single_choice_decisions=int((decisions.counts == 1).sum()),
        largest_choice_set=int(decisions.counts.max(initial=0)),
        violations=tuple(_violation(ids, rule) for rule in broken),
    )
    return Checked(outcome=outcome, offending=_distinct(pa.concat_tables(offending))), decisions


def _sorted(ids: pa.Table) -> _Decisions:
    """Sort the rows that have all three ids; the others are reported by themselves."""
    for name in KEYS:
        require_different(ids[name], name)
    keys, row = [surrogates(ids[name]) for name in KEYS], np.arange(len(ids))
    if any(ids[name].null_count for name in KEYS):
        row = np.flatnonzero(np.logical_and.reduce([pc.is_valid(ids[name]) for name in KEYS]))
        keys = [key[row] for key in keys]
    order, (individual, decision, choice) = sort_keys(*keys)
    row = row if order is None else row[order]
    starts = decision_starts(individual, decision)
    return _Decisions(row=row, individual=individual, decision=decision, choice=choice, starts=starts)


def _decision_rules(ids: pa.Table, decisions: _Decisions, rules: Rules) -> Iterable[_Broken]:
    """Name the rules that decisions and individuals can break, each with the rows of those that do."""
    first = decisions.starts
    if not len(first):
        return

    def of_decisions(rule: str, wrong: Bool) -> _Broken:
        return _Broken(rule=rule, rows=decisions.row[first[wrong]])

    again = np.append(False, decisions.choice[1:] == decisions.choice[:-1])
    again[first] = False
    yield of_decisions("decisions that offer a _choice twice", np.logical_or.reduceat(again, first))
    if rules.labelled:
        chosen = np.add.reduceat(flag_values(ids, SELECTED)[decisions.row], first, dtype=np.int64)
        yield of_decisions("decisions with no selected row", chosen == 0)
        yield of_decisions("decisions with two or more selected rows", chosen > 1)
    if rules.max_choices is not None:
        rule = f"{TOO_LARGE} = {rules.max_choices} rows"
        yield of_decisions(rule, decisions.counts > rules.max_choices)
    if (weight := _numbers(ids, WEIGHT, decisions.row)) is not None:
        weight = np.where(np.isnan(weight), np.float32(-1), weight)  # one that is unknown is another one than 0
        uneven = np.minimum.reduceat(weight, first) < np.maximum.reduceat(weight, first)
        yield of_decisions(f"decisions with more than one {WEIGHT}", uneven)
    if TRAIN in ids.column_names:
        train = flag_values(ids, TRAIN)[decisions.row]
        if not rules.labelled:
            yield of_decisions(SPLIT_DECISION, _mixed(train, ~train, first))
            return
        test = np.asarray(pc.fill_null(pc.invert(ids[TRAIN]), False))[decisions.row]
        starts = decision_starts(decisions.individual, decisions.individual)
        leaking = starts[_mixed(train, test, starts)]
        yield _Broken(rule=LEAK, rows=decisions.row[leaking], unit=INDIVIDUAL)


def _mixed(first: Bool, second: Bool, starts: Int64) -> Bool:
    """Return (groups,) whether a group has rows of both kinds."""
    return np.logical_or.reduceat(first, starts) & np.logical_or.reduceat(second, starts)


def _violation(ids: pa.Table, broken: _Broken) -> Violation:
    shown = ids.take(pa.array(broken.rows[:LOOKED_AT]))
    if broken.unit == INDIVIDUAL:
        examples = tuple(f"individual {i}" for i in shown[INDIVIDUAL].slice(0, EXAMPLES).to_pylist())
    else:
        examples = _examples(shown)
    return Violation(rule=broken.rule, count=len(broken.rows), examples=examples)


def _examples(decisions: pa.Table) -> tuple[str, ...]:
    """Name the first few different decisions."""
    ids = zip(decisions[INDIVIDUAL].to_pylist(), decisions[DECISION].to_pylist(), strict=True)
    return tuple(f"individual {i} decision {d}" for i, d in list(dict.fromkeys(ids))[:EXAMPLES])


def _decisions_of(ids: pa.Table, broken: _Broken) -> pa.Table:
    """Return the ids of the decisions that a broken rule concerns; of an individual all of them."""
    shown = ids.take(pa.array(broken.rows))
    if broken.unit == INDIVIDUAL:
        used = ids.filter(ids[_USED]) if _USED in ids.column_names else ids
        shown = used.filter(pc.is_in(used[INDIVIDUAL], shown[INDIVIDUAL].combine_chunks()))
    return shown.select([INDIVIDUAL, DECISION])


def _distinct(ids: pa.Table) -> pa.Table:
    return ids.group_by([INDIVIDUAL, DECISION]).aggregate([])


def _without(table: pa.Table, dropped: pa.Table) -> pa.Table:
    """Leave out decisions as wholes, and rows that belong to none because an id is null."""
    if len(dropped):
        ids = table.select([INDIVIDUAL, DECISION]).append_column("row", pa.array(np.arange(len(table))))
        rows = ids.join(dropped, [INDIVIDUAL, DECISION], join_type="left anti")["row"]
        table = table.take(pa.array(np.sort(rows)))
    for name in KEYS:
        table = table.filter(pc.is_valid(table[name])) if table[name].null_count else table
    return table


def _individuals(batches: Iterable[pa.RecordBatch], part: int, parts: int) -> Iterable[pa.RecordBatch]:
    """Keep the rows of those individuals that fall to one of several passes."""
    for batch in batches:
        if parts == 1:
            yield batch
        else:
            yield batch.filter(pa.array(shard_index(surrogates(batch.column(INDIVIDUAL)), parts) == part))
