"""The check of whole tables: against a plain reference, in any order and number of passes, and what it would leave out."""

from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core import contract
from mimic_core.contract import Rules, check_block, check_decisions, check_table
from mimic_core.filters import parse_filter
from mimic_core.identifiers import surrogates
from mimic_core.shards import shard_index
from mimic_core.sources import INDIVIDUAL, KEYS

COLUMNS = ("_individual", "_decision", "_choice", "_selected", "_train", "size", "region")
KINDS = (pa.int64(), pa.int64(), pa.int64(), pa.bool_(), pa.bool_(), pa.float64(), pa.string())
RULES = Rules(features=("size",), max_choices=3)

ids = st.sampled_from([0, 1, -3, 2**63 - 1, None])
flags = st.sampled_from([True, False, None])
sizes = st.sampled_from([1.0, 2.0, None, float("nan"), float("inf"), 1e39])
rows_of_tables = st.lists(st.tuples(ids, ids, ids, flags, flags, sizes, st.sampled_from(["n", "s", None])), max_size=12)
sound = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 4)), max_size=12, unique_by=lambda d: d[:2])


def table(rows, text=False):
    kinds = [pa.string() if text and name in KEYS else kind for name, kind in zip(COLUMNS, KINDS, strict=True)]
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    columns = [[None if v is None else f"id {v}" for v in c] if k == pa.string() and n in KEYS else list(c)
               for n, k, c in zip(COLUMNS, kinds, columns, strict=True)]  # fmt: skip
    return pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=list(COLUMNS))


def sound_rows(decisions):
    """Rows that keep the contract: (individual, decision, number of choices) each."""
    return [
        (i, d, c, c == 0, i % 2 == 0, 1.0, "n" if d % 2 else "s")
        for i, d, choices in decisions
        for c in range(min(choices, 3))
    ]


def reference(rows, rules):  # noqa: C901  the rules one after the other, as a person would read them
    """What is broken, by plain Python: rule -> count, and the decisions that are concerned."""
    broken, wrong = Counter(), set()

    def found(rule, *decisions):
        broken[rule] += 1
        wrong.update(decisions)

    labelled, used, whole = rules.labelled, [], defaultdict(list)
    for row in rows:
        if None not in row[:3]:
            whole[row[:2]].append(row)
        if not rules.where or row[6] == "n":
            used.append(row)
    if rules.where:
        for decision, members in whole.items():
            if {row[6] == "n" for row in members} == {True, False}:
                found("decisions of which `where` keeps only some rows", decision)
                whole[decision] = []
            elif members[0][6] != "n":
                whole[decision] = []
    for row in used:
        for name, value in zip(COLUMNS[: 5 if labelled else 3], row, strict=False):
            if value is None:
                found(f"rows with a null {name}", row[:2])
        if row[5] is None or np.isnan(row[5]):
            found("rows whose feature 'size' is null or NaN without an entry in missing_values_map", row[:2])
        elif row[5] > 3.4e38:
            found("rows whose feature 'size' is infinite (or too large for float32)", row[:2])
    trains = defaultdict(set)
    for decision, members in whole.items():
        if not members:
            continue
        if len({row[2] for row in members}) < len(members):
            found("decisions that offer a _choice twice", decision)
        selected = sum(row[3] is True for row in members)
        if labelled and selected == 0:
            found("decisions with no selected row", decision)
        if labelled and selected > 1:
            found("decisions with two or more selected rows", decision)
        if rules.max_choices and len(members) > rules.max_choices:
            found(f"decisions with more than max_choices = {rules.max_choices} rows", decision)
        trains[decision[0]] |= {row[4] for row in members if row[4] is not None}
        if not labelled and {bool(row[4]) for row in members} == {True, False}:
            found("decisions with _train both true and false", decision)
    for individual, splits in trains.items():
        if labelled and len(splits) == 2:
            found("individuals in both train and test", *(row[:2] for row in used if row[0] == individual))
    return broken, wrong


def counts(outcome):
    return Counter({violation.rule: violation.count for violation in outcome.violations})


def offending(checked):
    ids = checked.offending.select(["_individual", "_decision"]).to_pydict() if len(checked.offending) else {}
    return set(zip(*ids.values(), strict=True)) if ids else set()


@pytest.mark.parametrize("where", ["", "region = 'n'"], ids=["all", "where"])
@pytest.mark.parametrize("labelled", [True, False])
@given(rows=rows_of_tables, cut=st.integers(1, 5))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_what_is_broken_is_what_a_plain_reading_of_the_rules_finds(labelled, where, rows, cut):
    rules = Rules(features=("size",), max_choices=2, labelled=labelled, where=parse_filter(where) if where else ())
    checked = check_decisions(table(rows).to_batches(max_chunksize=cut), rules)
    broken, wrong = reference(rows, rules)
    assert counts(checked.outcome) == broken
    assert offending(checked) == wrong


@pytest.mark.parametrize("where", ["", "region = 'n'"], ids=["all", "where"])
@given(rows=rows_of_tables, cut=st.integers(1, 5))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_a_block_finds_the_same_and_has_the_whole_decisions_that_are_used_in_order(where, rows, cut):
    rules = Rules(features=("size",), max_choices=2, where=parse_filter(where) if where else ())
    source = pa.Table.from_batches(table(rows).to_batches(max_chunksize=cut), table(rows).schema)
    block = check_block(source, rules)
    assert block.outcome == check_decisions(table(rows).to_batches(), rules).outcome
    left_out = {row[:2] for row in rows if where and row[6] != "n" and None not in row[:3]}
    used = sorted((row for row in rows if None not in row[:3] and row[:2] not in left_out), key=lambda row: row[:3])
    assert repr([tuple(row.values()) for row in block.columns(COLUMNS).to_pylist()]) == repr(used)
    assert list(zip(block.rows.individual, block.rows.decision, block.rows.choice, strict=True)) == [row[:3] for row in used]
    with np.errstate(over="ignore"):
        sizes = np.array([row[5] for row in used], np.float64).astype(np.float32)  # None becomes NaN
    np.testing.assert_array_equal(block.rows.x[:, 0], sizes)
    assert block.train.tolist() == [row[4] is True for row in used]
    assert block.rows.selected.tolist() == [row[3] is True for row in used]


@given(rows=rows_of_tables)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_text_ids_break_the_same_rules_as_numbers_and_are_named_by_their_text(rows):
    numbers, texts = (check_decisions(table(rows, text=text).to_batches(), RULES) for text in (False, True))
    assert counts(texts.outcome) == counts(numbers.outcome)
    named = {(None if i is None else f"id {i}", None if d is None else f"id {d}") for i, d in offending(numbers)}
    assert offending(texts) == named


@given(rows=rows_of_tables, seed=st.integers(0, 9))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_neither_the_order_of_rows_nor_the_number_of_passes_matters(rows, seed):
    mixed = table([rows[i] for i in np.random.default_rng(seed).permutation(len(rows))])
    whole = check_decisions(table(rows).to_batches(), RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "ROWS_AT_ONCE", 3)
        passes = check_table(lambda: mixed.to_batches(max_chunksize=2), len(rows), RULES)
    assert counts(passes.outcome) == counts(whole.outcome)
    assert (passes.outcome.rows, passes.outcome.decisions) == (whole.outcome.rows, whole.outcome.decisions)
    assert offending(passes) == offending(whole)


@given(rows=rows_of_tables, good=sound)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_what_is_left_after_dropping_keeps_the_contract_and_no_decision_is_split(rows, good):
    rows = rows + sound_rows(good)
    source, checked = table(rows), check_decisions(table(rows).to_batches(), RULES)
    left = []
    for index in range(2):
        mine = source.filter(pa.array(shard_index(surrogates(source[INDIVIDUAL]), 2) == index))
        part = check_block(mine, RULES, checked.offending)
        assert part.outcome.violations == ()
        left += [tuple(row.values()) for row in part.columns(COLUMNS).to_pylist()]
    wrong = offending(checked)
    expected = [row for row in rows if row[:2] not in wrong and None not in row[:3]]
    assert Counter(map(repr, left)) == Counter(map(repr, expected))


def test_nothing_is_left_out_of_a_table_that_keeps_the_contract():
    source = table(sound_rows([(0, 0, 3), (1, 0, 2), (2, 5, 1)]))
    checked = check_decisions(source.to_batches(), RULES)
    assert (checked.outcome.violations, len(checked.offending)) == ((), 0)
    assert check_block(source, RULES, checked.offending).columns(COLUMNS) == source.sort_by("_individual")


def test_rows_that_where_leaves_out_break_no_rule_and_are_counted():
    rows = [*sound_rows([(1, 0, 2)]), (1, 1, 0, False, False, None, None), (None, 1, 0, None, None, None, None)]
    rules = Rules(features=("size",), where=parse_filter("region = 's'"))
    outcome = check_decisions(table(rows).to_batches(), rules).outcome
    assert (outcome.violations, outcome.rows, outcome.filtered_rows, outcome.decisions) == ((), 2, 2, 1)
    assert len(check_block(table(rows), rules).rows) == 2


def test_a_filter_that_selects_nothing_leaves_nothing():
    outcome = check_decisions(table(sound_rows([(1, 0, 2)])).to_batches(), Rules(where=parse_filter("size > 5"))).outcome
    assert (outcome.rows, outcome.decisions, outcome.filtered_rows, outcome.violations) == (0, 0, 2, ())


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int32(), pa.uint64(), pa.bool_(), pa.decimal128(20, 2)])
def test_a_feature_may_have_any_type_of_numbers(kind):
    source = table(sound_rows([(1, 0, 2)]))
    sized = pa.array([Decimal(0), Decimal(1)], kind) if pa.types.is_decimal(kind) else pa.array([0, 1]).cast(kind)
    source = source.set_column(5, "size", sized)
    assert check_decisions(source.to_batches(), RULES).outcome.violations == ()
    missing = source.set_column(5, "size", pa.array([sized[0], None], kind))
    assert counts(check_decisions(missing.to_batches(), RULES).outcome).total() == 1


def test_the_largest_single_float_is_finite_and_the_next_is_not():
    largest = float(np.finfo(np.float32).max)
    for value, broken in ((largest, 0), (-largest, 0), (largest * 1.0001, 1), (np.nextafter(largest, np.inf), 0)):
        source = table([(1, 0, 0, True, True, value, "n")])
        assert counts(check_decisions(source.to_batches(), RULES).outcome).total() == broken


def test_a_filter_finds_the_published_subset_of_modecanada():
    reference = Path(__file__).parents[3] / "shared" / "data" / "modecanada.parquet"
    if not reference.exists():
        pytest.skip(f"{reference.name} is not beside this project: its subset cannot be counted")
    rules = Rules(features=("cost", "ivt"), max_choices=4, where=parse_filter("_noalt = 4"))
    outcome = check_decisions(pq.read_table(reference).to_batches(), rules).outcome
    assert (outcome.decisions, outcome.rows, outcome.violations) == (2_779, 4 * 2_779, ())
    assert outcome.filtered_rows == 15_520 - 4 * 2_779
