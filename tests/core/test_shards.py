"""Shards: every individual falls to one of each split, whatever the row groups, and a part reads what its shards need."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.shards import Shard, plan_parts, shard_index

EXTREMES = [0, -1, 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
IDS = st.one_of(st.sampled_from(EXTREMES), st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


def int64(values):
    return np.array(values, np.int64)


def shards(parts):
    return [shard for part in parts for shard in part.shards]


def test_the_shards_of_a_part_are_listed_train_first_with_their_place():
    (part,) = plan_parts({"train": 2, "test": 1}, None, per_step=2)
    assert part.shards == (
        Shard(split="train", index=0, count=2),
        Shard(split="train", index=1, count=2),
        Shard(split="test", index=0, count=1),
    )
    assert [shard.name for shard in part.shards] == ["train_00000", "train_00001", "test_00000"]


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
    found = {shard: shard.holds(individual, flags) for shard in shards(plan_parts({"train": train, "test": test}, None))}
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
        return {shard: set(int64(ids)[shard.holds(int64(ids), train)].tolist()) for shard in shards(parts)}

    assert held(mixed) == held(individual)
    assert sum(map(len, held(individual).values())) == len(set(individual))
