"""Tallies: what blocks and parts count adds up to what the whole table holds, and leaks between splits are not lost."""

from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.contract import LEAK, SPLIT_DECISION, Rules, check_block, check_decisions
from mimic_core.identifiers import surrogates
from mimic_core.outcomes import Outcome
from mimic_core.shards import plan_parts, shard_index
from mimic_core.sources import SPLITS
from mimic_core.tallies import add_tallies, in_both_splits, tally

LABELLED, UNLABELLED = Rules(), Rules(labelled=False)
IDS = st.one_of(st.integers(-2, 6), st.integers(-(2**63), 2**63 - 1))


def table(decisions, text=False):
    """Return the rows of {(individual, decision): flags of its choices}, the first choice selected."""
    rows = [(i, d, c, c == 0, flag) for (i, d), flags in decisions.items() for c, flag in enumerate(flags)]
    individual, decision, choice, selected, train = zip(*rows, strict=True) if rows else ([],) * 5
    ids = {"_individual": pa.array(individual, pa.int64()), "_decision": pa.array(decision, pa.int64())}
    ids = {name: column.cast(pa.string()) if text else column for name, column in ids.items()}
    columns = {"_choice": pa.array(choice, pa.int64()), "_selected": pa.array(selected, pa.bool_())}
    return pa.table(ids | columns | {"_train": pa.array(train, pa.bool_())})


def tallied(source, rules, partitions):
    """Return the sum over the parts of a plan, each in blocks of a few individuals."""
    ids, train, parts = surrogates(source["_individual"]), np.array(source["_train"].to_pylist(), bool), []
    for part in plan_parts(partitions, None):
        mine = part.holds(ids, train)
        of_part, different = source.filter(pa.array(mine)), np.unique(ids[mine])
        blocks = [
            check_block(of_part.filter(pa.array(np.isin(ids[mine], list(group)))), rules)
            for _, group in groupby(different, key=lambda i: np.searchsorted(different, i) // 2)
        ]
        parts.append(add_tallies(tally(block, rules, whole=part.whole) for block in blocks))
    return add_tallies(parts)


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts"])
@pytest.mark.parametrize("partitions", [{"train": 1, "test": 1}, {"train": 3, "test": 3}, {"train": 3, "test": 1}], ids=str)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    individuals=st.dictionaries(
        IDS, st.tuples(st.booleans(), st.dictionaries(IDS, st.integers(1, 3), min_size=1)), max_size=8
    )
)
def test_the_counts_of_all_parts_are_those_of_a_plain_count(individuals, partitions, text):
    decisions = {(i, d): [train] * n for i, (train, of) in individuals.items() for d, n in of.items()}
    source = table(decisions, text)
    found = tallied(source, LABELLED, partitions)
    for split in SPLITS:
        mine = {key: flags for key, flags in decisions.items() if flags[0] == (split == "train")}
        assert found.rows[split] == sum(map(len, mine.values()))
        assert found.decisions[split] == len(mine)
        assert found.individuals[split] == len({i for i, _ in mine})
    assert found.outcome == check_decisions(source.to_batches(), LABELLED).outcome
    assert in_both_splits(found) == []


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts"])
@pytest.mark.parametrize("partitions", [{"train": 1, "test": 1}, {"train": 3, "test": 3}, {"train": 3, "test": 2}], ids=str)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(decisions=st.dictionaries(st.tuples(IDS, IDS), st.lists(st.booleans(), min_size=1, max_size=3), max_size=8))
def test_what_stands_in_both_splits_is_found_whatever_the_parts(decisions, partitions, text):
    source = table(decisions, text)
    for rules, rule in ((LABELLED, LEAK), (UNLABELLED, SPLIT_DECISION)):
        whole = {violation.rule for violation in check_decisions(source.to_batches(), rules).outcome.violations}
        found = tallied(source, rules, partitions)
        seen = {violation.rule for violation in (*in_both_splits(found), *found.outcome.violations)}
        assert (rule in seen) == (rule in whole)


def test_individuals_in_different_parts_of_both_splits_are_counted_once():
    decisions = {(i, d): [d == 0] * 2 for i in range(7) for d in range(2)}
    (violation,) = in_both_splits(tallied(table(decisions), LABELLED, {"train": 5, "test": 1}))
    in_one_part = (shard_index(np.arange(7), 5) == 0).sum()
    assert (violation.rule, violation.count) == (LEAK, 7 - in_one_part)


def test_no_blocks_are_nothing():
    found = add_tallies([])
    assert (found.outcome, found.rows, in_both_splits(found)) == (Outcome(), {"train": 0, "test": 0}, [])
