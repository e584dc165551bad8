"""Shards: every individual falls to one of each split, whatever the row groups, and a part reads what its shards need."""

from itertools import accumulate, cycle, islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.shards import (
    READ_AT_MOST,
    RowGroup,
    Shard,
    complete_below,
    count_parts,
    most_waiting,
    plan_parts,
    shard_index,
)
from mimic_core.sources import SPLITS

EXTREMES = [0, -1, 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
IDS = st.one_of(st.sampled_from(EXTREMES), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


def int64(values):
    return np.array(values, np.int64)


def shards(parts):
    return [shard for part in parts for shard in part.shards]


def holds(shard, individual, train):
    """Tell which rows belong to a shard, straight from its definition."""
    mine = train if shard.split == "train" else ~train
    if shard.span:
        return mine & (individual >= shard.span[0]) & (individual <= shard.span[1])
    return mine & (shard_index(individual, shard.count) == shard.index)


def test_the_shards_of_a_part_are_listed_train_first_with_their_place():
    (part,) = plan_parts({"train": 2, "test": 1}, None, per_step=2)
    assert part.shards == (
        Shard(split="train", index=0, count=2),
        Shard(split="train", index=1, count=2),
        Shard(split="test", index=0, count=1),
    )
    assert [(shard.split, shard.index) for shard in part.shards] == [("train", 0), ("train", 1), ("test", 0)]


def test_shards_get_about_equal_numbers_of_individuals():
    for ids in (np.arange(10_000), np.arange(10_000) * 1024 - 7):
        counts = np.bincount(shard_index(ids, 10), minlength=10)
        assert counts.sum() == 10_000
        assert (abs(counts - 1000) < 150).all()


def test_a_shard_index_does_not_depend_on_the_other_rows():
    ids = np.array(EXTREMES)
    assert [int(shard_index(ids[i : i + 1], 7)[0]) for i in range(len(ids))] == shard_index(ids, 7).tolist()


@settings(deadline=None, derandomize=True, max_examples=150)
@given(rows=st.lists(st.tuples(IDS, st.booleans()), max_size=30), train=st.integers(1, 5), test=st.integers(1, 4))
def test_the_union_of_all_shards_is_the_table_exactly_once(rows, train, test):
    individual, flags = int64([i for i, _ in rows]), np.array([flag for _, flag in rows], bool)
    found = {shard: holds(shard, individual, flags) for shard in shards(plan_parts({"train": train, "test": test}, None))}
    assert len(found) == train + test
    assert np.sum(list(found.values()), axis=0).tolist() == [1] * len(rows)
    for shard, mine in found.items():
        assert (flags[mine] == (shard.split == "train")).all()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(individual=st.lists(IDS, min_size=1, max_size=20), order=st.randoms(use_true_random=False), count=st.integers(1, 5))
def test_a_shard_holds_whole_individuals_in_any_row_order(individual, order, count):
    mixed = order.sample(individual, len(individual))
    parts = plan_parts({"train": count, "test": 1}, None)

    def held(ids):
        train = np.ones(len(ids), bool)
        return {shard: set(int64(ids)[holds(shard, int64(ids), train)].tolist()) for shard in shards(parts)}

    assert held(mixed) == held(individual)
    assert sum(map(len, held(individual).values())) == len(set(individual))


def row_group(lowest, highest, rows=1, splits=SPLITS, index=0):
    return RowGroup(file="f", index=index, rows=rows, lowest=lowest, highest=highest, splits=splits)


def row_groups_of(rows, sizes, unknown=()):
    """Cut (individual, train) rows into row groups of some sizes in turn, and say of each what a Parquet file would.

    Returns:
        The row groups, and the rows of each.
    """
    ends = [end for end in accumulate(islice(cycle(sizes), len(rows))) if end < len(rows)]
    held = [rows[start:end] for start, end in pairwise([0, *ends, len(rows)])]
    groups = []
    for index, part in enumerate(held):
        ids = [individual for individual, _ in part]
        splits = tuple(split for split in SPLITS if any(train == (split == "train") for _, train in part))
        bounds = (None, None) if index in unknown else (min(ids), max(ids))
        groups.append(row_group(*bounds, rows=len(part), splits=splits if index % 3 else SPLITS, index=index))
    return groups, held


@st.composite
def tables(draw):
    """Rows of whole individuals of any ids, in their order or mixed; sizes of row groups; which have no bounds."""
    ids = st.one_of(st.integers(-5, 30), IDS)
    counts = draw(st.dictionaries(ids, st.integers(1, 4), min_size=draw(st.sampled_from([1, 15])), max_size=20))
    test = draw(st.sampled_from([lambda _: False, lambda i: i % 3 == 0, lambda i: i > 5]))
    rows = [(individual, not test(individual)) for individual, count in counts.items() for _ in range(count)]
    order = draw(st.sampled_from(["by individual", "by individual", "by split", "mixed"]))
    if order != "mixed":
        rows.sort(key=(lambda row: (row[1], row[0])) if order == "by split" else None)
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    unknown = {draw(st.integers(0, 5))} if draw(st.integers(0, 9)) == 0 else set()
    return rows, sizes, unknown


PARTITIONS = st.fixed_dictionaries({"train": st.integers(1, 5), "test": st.integers(1, 4)})


@settings(deadline=None, derandomize=True, max_examples=300)
@given(table=tables(), partitions=PARTITIONS, per_step=st.integers(1, 4), equal=st.booleans())
def test_every_individual_is_in_one_shard_of_its_split_and_its_part_reads_all_its_rows(table, partitions, per_step, equal):
    rows, sizes, unknown = table
    partitions = dict.fromkeys(SPLITS, partitions["train"]) if equal else partitions
    groups, held = row_groups_of(rows, sizes, unknown)
    parts = plan_parts(partitions, groups, per_step)

    assert [part.index for part in parts] == list(range(count_parts(partitions, per_step)))
    assert sorted((shard.split, shard.index) for shard in shards(parts)) == sorted(
        (split, index) for split in SPLITS for index in range(partitions[split])
    )
    for part in parts:
        assert part.shards
        assert all(sum(shard.split == split for shard in part.shards) <= per_step for split in SPLITS)

    for individual, train in rows:
        held_by = [(p, s) for p in parts for s in p.shards if holds(s, int64([individual]), np.array([train]))[0]]
        assert len(held_by) == 1
        (part, shard), *_ = held_by
        assert part.shards[part.places(int64([individual]), np.array([train]))[0]] == shard
        assert part.holds(int64([individual]), np.array([train]))[0]
        assert shard.split == ("train" if train else "test")
        read = groups if part.row_groups is None else part.row_groups
        mine = [rows_held for group, rows_held in zip(groups, held, strict=True) if group in read]
        in_all = sum(row == (individual, train) for row in rows)
        assert sum(row == (individual, train) for rows_held in mine for row in rows_held) == in_all


@settings(deadline=None, derandomize=True, max_examples=150)
@given(table=tables(), partitions=PARTITIONS, per_step=st.integers(1, 4), equal=st.booleans())
def test_a_whole_part_has_both_splits_of_every_individual(table, partitions, per_step, equal):
    rows, sizes, unknown = table
    partitions = dict.fromkeys(SPLITS, partitions["train"]) if equal else partitions
    parts = plan_parts(partitions, row_groups_of(rows, sizes, unknown)[0], per_step)
    ids = int64([individual for individual, _ in rows] + EXTREMES)
    ones = np.ones(len(ids), bool)
    together = all((part.holds(ids, ones) == part.holds(ids, ~ones)).all() for part in parts)
    assert {part.whole for part in parts} <= {together, False}
    if partitions["train"] == partitions["test"] and not shards(parts)[0].span:
        assert all(part.whole for part in parts)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(table=tables(), partitions=PARTITIONS, per_step=st.integers(1, 4))
def test_ranges_are_taken_only_where_all_steps_together_read_little_more_than_the_table(table, partitions, per_step):
    rows, sizes, unknown = table
    groups, _ = row_groups_of(rows, sizes, unknown)
    parts = plan_parts(partitions, groups, per_step)
    spans = {shard.span is not None for shard in shards(parts)}
    assert len(spans) == 1
    if spans == {True}:
        assert sum(group.rows for part in parts for group in part.row_groups) <= max(READ_AT_MOST, len(parts) / 2) * len(
            rows
        )
        assert not unknown & set(range(len(groups)))
        for split in SPLITS:
            of_split = [shard.span for shard in shards(parts) if shard.split == split]
            assert (of_split[0][0], of_split[-1][1]) == (-(2**63), 2**63 - 1)
            assert all(before[1] + 1 == after[0] for before, after in pairwise(of_split))


def test_ranges_of_a_clustered_table_are_even_and_each_step_reads_its_own_row_groups():
    groups = [row_group(100 * index, 100 * index + 99, rows=1000, index=index) for index in range(8)]
    parts = plan_parts({"train": 4, "test": 4}, groups[::-1])
    assert [[group.index for group in part.row_groups] for part in parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert all(part.whole and part.share == 1.0 for part in parts)
    assert [shard.span for shard in shards(parts) if shard.split == "test"] == [
        (-(2**63), 199),
        (200, 399),
        (400, 599),
        (600, 2**63 - 1),
    ]


def test_an_individual_that_ends_a_row_group_and_begins_the_next_stays_in_one_range():
    groups = [row_group(0, 5, index=0), row_group(5, 9, index=1), row_group(9, 12, index=2)]
    parts = plan_parts({"train": 3, "test": 3}, groups, per_step=1)
    assert all(shard.span is None for shard in shards(parts))  # every step would read its neighbour's rows too
    parts = plan_parts({"train": 2, "test": 2}, groups)
    assert [shard.span for shard in parts[1].shards] == [(5, 2**63 - 1)] * 2
    assert [[group.index for group in part.row_groups] for part in parts] == [[0], [0, 1, 2]]


def test_more_shards_than_row_groups_take_individuals_by_hash():
    groups = [row_group(10 * index, 10 * index + 9, index=index) for index in range(2)]
    parts = plan_parts({"train": 3, "test": 1}, groups)
    assert all(shard.span is None for shard in shards(parts))
    assert all(part.row_groups == tuple(groups) for part in parts)
    assert [part.share for part in parts] == [1.0, pytest.approx(1 / 3), pytest.approx(1 / 3)]


def test_a_row_group_without_bounds_makes_all_shards_take_individuals_by_hash():
    groups = [row_group(0, 9), row_group(None, None, index=1)]
    for known in (groups, None):
        parts = plan_parts({"train": 2, "test": 2}, known)
        assert all(shard.span is None for shard in shards(parts))
        assert all(part.row_groups is None for part in parts)
        assert all(part.whole for part in parts)


def test_a_part_of_one_split_reads_only_the_row_groups_of_its_split():
    groups = [row_group(0, 9, splits=("train",)), row_group(20, 29, splits=("test",), index=1)]
    groups += [row_group(40, 49, splits=("train",), index=2), row_group(60, 69, splits=("train",), index=3)]
    parts = plan_parts({"train": 3, "test": 1}, groups)
    assert [[group.index for group in part.row_groups] for part in parts] == [[0, 1], [2], [3]]


def test_a_table_of_no_rows_has_its_shards():
    parts = plan_parts({"train": 2, "test": 1}, [])
    assert [part.row_groups for part in parts] == [None, None]
    assert len(shards(parts)) == 3


def test_row_groups_in_no_order_are_not_listed_for_every_step():
    groups = [row_group(0, 100, index=index) for index in range(20)]
    assert [part.row_groups for part in plan_parts({"train": 2, "test": 2}, groups)] == [None, None]


def test_different_numbers_of_shards_are_ranges_too_where_that_reads_less_than_half_of_what_hashes_would():
    groups = [row_group(index, index + 1, index=index) for index in range(64)]
    parts = plan_parts({"train": 8, "test": 2}, groups)
    assert all(shard.span for shard in shards(parts))
    assert sum(len(part.row_groups) for part in parts) < 2 * len(groups) + 9


def naive_peak(held):
    """Return how many rows at most wait where a row is let go as soon as no later row group has its individual."""
    waiting, peak = [], 0
    for index, rows in enumerate(held):
        waiting += [individual for individual, _ in rows]
        peak = max(peak, len(waiting))
        later = {individual for part in held[index + 1 :] for individual, _ in part}
        waiting = [individual for individual in waiting if individual in later]
    return peak


@settings(deadline=None, derandomize=True, max_examples=200)
@given(table=tables())
def test_rows_that_wait_are_never_more_than_was_foretold(table):
    rows, sizes, unknown = table
    groups, held = row_groups_of(rows, sizes, unknown)
    assert naive_peak(held) <= most_waiting(groups) <= len(rows)


def test_rows_in_order_wait_for_one_row_group_and_rows_of_unknown_order_for_all():
    groups = [row_group(10 * index, 10 * index + 9, rows=5, index=index) for index in range(6)]
    assert most_waiting(groups) == 5
    assert most_waiting([*groups, row_group(None, None, rows=5)]) == 35
    assert most_waiting(groups[::-1]) == 30
    assert most_waiting([]) == 0


@settings(deadline=None, derandomize=True, max_examples=150)
@given(table=tables())
def test_below_the_limit_of_a_row_group_no_later_one_has_rows_and_the_limit_is_the_highest(table):
    rows, sizes, unknown = table
    groups, held = row_groups_of(rows, sizes, unknown)
    limits = complete_below(groups)
    assert len(limits) == len(groups)
    for index, limit in enumerate(limits):
        later = [individual for part in held[index + 1 :] for individual, _ in part]
        known = all(group.lowest is not None for group in groups[index + 1 :])
        assert limit == (min(later, default=2**63 - 1) if known else None)
