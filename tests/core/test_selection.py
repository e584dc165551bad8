"""Selection: what the keys that people type mean, and what is built for whom."""

import pytest

from mimic_core.errors import SpecError
from mimic_core.planner import Partition, Plan
from mimic_core.selection import LeftOut, Scope, find_partitions, find_work, matching
from mimic_core.world import CONTRAST, DATASET, INFERENCE, RUN, SOURCE, Node, State

ID = "9b0556be" + "0" * 56
OTHER = "9b0556be" + "1" * 56
TABLE, PAIRS, DATA = Node(SOURCE, "haven.features"), Node(CONTRAST, "haven.pairs"), Node(DATASET, "s/d")
TRAINED, SCORED = Node(RUN, f"s/e/{ID}"), Node(INFERENCE, f"haven.scored/e/{ID}")
KNOWN = (TABLE, PAIRS, DATA, TRAINED, SCORED)


def plan(**states):
    """The plan of a chain, table - dataset - run - inference, in which what is not named is current."""
    upstream = {"table": (), "data": (TABLE,), "trained": (DATA,), "scored": (TRAINED, TABLE)}
    nodes = {"table": TABLE, "data": DATA, "trained": TRAINED, "scored": SCORED}
    found = {}
    for name, node in nodes.items():
        told = {"state": State.CURRENT, "version": "v1", "upstream": upstream[name]} | states.get(name, {})
        found[node] = Partition(node=node, **told)
    return Plan(partitions=found)


def work(plan, scope=None, **options):
    found = find_work(plan, scope or Scope(), **options)
    return [partition.node for partition in found.to_build], found.left_out


STALE = {"state": State.OUT_OF_DATE}
WAITS = {"state": State.WAITING, "version": ""}
BROKEN = {"state": State.FAILED}


# ---- keys


def test_a_key_means_its_partition_and_digits_mean_the_run():
    assert find_partitions(["s/d", "haven.features"], KNOWN) == [TABLE, DATA]
    assert find_partitions(["9b0556be", f"s/e/{ID}", f"s/e/{ID[:9]}"], KNOWN) == [TRAINED]


def test_an_inference_is_meant_by_its_table_or_by_its_asset():
    assert find_partitions([f"haven.scored/e/{ID[:8]}"], KNOWN) == [SCORED]
    assert find_partitions(["inference_table:9b0556be"], KNOWN) == [SCORED]


def test_a_key_of_two_assets_needs_the_asset():
    known = (*KNOWN, Node(CONTRAST, "haven.features"))
    listed = (
        "'haven.features' means several partitions; give one of source_table:haven.features, contrast_set:haven.features"
    )
    with pytest.raises(SpecError, match=listed):
        find_partitions(["haven.features"], known)
    assert find_partitions(["contrast_set:haven.features"], known) == [Node(CONTRAST, "haven.features")]


def test_digits_that_begin_several_runs_are_refused_with_their_keys():
    with pytest.raises(
        SpecError, match=f"'9b0556be' means several partitions; give one of model_run:s/e/{ID}, model_run:s/"
    ):
        find_partitions(["9b0556be"], (*KNOWN, Node(RUN, f"s/e/{OTHER}")))


def test_everything_that_means_nothing_is_named_at_once_with_what_comes_close():
    with pytest.raises(SpecError) as error:
        find_partitions(["s/dd", "tfrecord_data:s/d", "9b0556b"], KNOWN)
    assert "there is no partition 's/dd' (did you mean 's/d'?); expected KEY or ASSET:KEY as in `mimic status`" in str(
        error.value
    )
    assert "'tfrecord_data:s/d': there is no asset 'tfrecord_data' (did you mean 'tfrecord_dataset'?)" in str(error.value)
    assert "there is no partition '9b0556b'" in str(error.value)


def test_seven_digits_match_nothing():
    assert matching(ID[:7], [TRAINED.key]) == []
    assert matching(f"other/e/{ID[:8]}", [TRAINED.key]) == []


# ---- work


def test_what_waits_for_something_that_will_be_built_is_built_after_it():
    changed = plan(data=STALE, trained=WAITS, scored=WAITS)
    assert work(changed) == ([DATA, TRAINED, SCORED], {})


def test_what_failed_is_left_out_with_what_hangs_on_it_unless_it_is_asked_for():
    changed = plan(data=BROKEN, trained=WAITS)
    assert work(changed) == ([], {DATA: LeftOut.FAILED, TRAINED: LeftOut.WAITING})
    assert work(changed, Scope(failed=True)) == ([DATA, TRAINED], {})
    assert work(changed, Scope(named={DATA})) == ([DATA, TRAINED], {})


def test_what_is_refreshed_by_hand_is_left_out_unless_it_is_named():
    changed = plan(trained=STALE | {"manual": True}, scored=WAITS)
    assert work(changed) == ([], {TRAINED: LeftOut.BY_HAND, SCORED: LeftOut.WAITING})
    assert work(changed, Scope(failed=True))[0] == []
    assert work(changed, Scope(named={TRAINED}))[0] == [TRAINED, SCORED]


def test_nothing_outside_of_a_scope_is_built_and_what_needs_it_waits():
    changed = plan(data=STALE, trained=WAITS, scored=WAITS)
    assert work(changed, Scope(nodes={DATA, TRAINED})) == ([DATA, TRAINED], {})
    assert work(changed, Scope(nodes={TRAINED})) == ([], {TRAINED: LeftOut.WAITING})


def test_what_is_being_built_is_not_built_again():
    changed = plan(data={"state": State.QUEUED}, trained=WAITS)
    assert work(changed, Scope(named={DATA})) == ([], {DATA: LeftOut.IN_FLIGHT, TRAINED: LeftOut.WAITING})


def test_a_table_or_spec_that_cannot_be_read_is_never_built():
    changed = plan(table=BROKEN, data=BROKEN | {"version": ""}, scored=WAITS)
    assert work(changed, Scope(failed=True)) == (
        [],
        {TABLE: LeftOut.UNREADABLE, DATA: LeftOut.UNREADABLE, SCORED: LeftOut.WAITING},
    )


def test_a_version_is_tried_once_and_another_one_again():
    changed = plan(data=STALE)
    assert work(changed, tried={(DATA, "v1")}) == ([], {DATA: LeftOut.FAILED})
    assert work(changed, tried={(DATA, "v0")}) == ([DATA], {})
