"""Rebuilds: what may be requested at a moment, from hand-made plans."""

from mimic_core.planner import Partition, Plan
from mimic_core.rebuilds import Policy, choose, noticed
from mimic_core.world import Node, State

NOW = 1000.0
EAGER = Policy(settle_seconds=0)


def partition(number: int, state: State = State.OUT_OF_DATE, **facts) -> Partition:
    facts = {"version": "v", "goal": f"goal{number}", "will_build": True, "changed_at": 0.0} | facts
    return Partition(node=Node("tfrecord_dataset", f"s/{number}"), state=state, **facts)


def plan_of(*partitions: Partition) -> Plan:
    return Plan(partitions={each.node: each for each in partitions})


def test_what_is_ready_is_requested_in_the_plan_s_order():
    first, second = partition(1), partition(2, State.MISSING)
    choice = choose(plan_of(first, second), EAGER, NOW)
    assert choice.request == (first, second)
    assert choice.held == choice.settling == choice.queued == ()


def test_what_waits_or_is_current_or_failed_or_done_by_hand_is_not_requested():
    others = [
        partition(1, State.WAITING, version=""),
        partition(2, State.CURRENT, will_build=False),
        partition(3, State.FAILED, will_build=False),
        partition(4, will_build=False, manual=True),
    ]
    assert choose(plan_of(*others), EAGER, NOW).request == ()


def test_what_is_queued_or_running_is_not_requested_and_takes_room():
    flights = [partition(1, State.QUEUED), partition(2, State.RUNNING)]
    ready = [partition(number) for number in range(3, 6)]
    choice = choose(plan_of(*flights, *ready), Policy(settle_seconds=0, max_in_flight=4), NOW)
    assert (choice.request, choice.queued) == (tuple(ready[:2]), (ready[2],))
    assert choose(plan_of(*flights, *ready), Policy(settle_seconds=0, max_in_flight=1), NOW).request == ()


def test_a_change_settles_before_what_hangs_on_it_is_built_and_the_rest_goes_on():
    quiet, fresh = partition(1, changed_at=NOW - 30), partition(2, changed_at=NOW - 29)
    choice = choose(plan_of(quiet, fresh), Policy(settle_seconds=30), NOW)
    assert (choice.request, choice.settling) == ((quiet,), (fresh,))


def test_more_builds_than_allowed_are_held_as_a_whole_with_those_that_wait_for_them():
    many = [partition(1), partition(2), partition(3, State.WAITING, version="")]
    choice = choose(plan_of(*many), Policy(settle_seconds=0, max_runs_per_change=2), NOW)
    assert (choice.request, choice.held) == ((), tuple(many))
    assert choose(plan_of(*many), Policy(settle_seconds=0, max_runs_per_change=3), NOW).held == ()


def test_what_is_approved_goes_on_and_a_newer_change_is_held_anew():
    many = [partition(number) for number in range(3)]
    policy = Policy(settle_seconds=0, max_runs_per_change=2)
    assert choose(plan_of(*many), policy, NOW, {"goal0", "goal1", "goal2"}).request == tuple(many)
    newer = [partition(number, goal=f"newer{number}") for number in range(3, 6)]
    choice = choose(plan_of(*many, *newer), policy, NOW, {"goal0", "goal1", "goal2"})
    assert (choice.request, choice.held) == (tuple(many), tuple(newer))


def test_a_time_in_the_future_is_a_wrong_clock_and_keeps_nothing_waiting():
    ahead = partition(1, changed_at=NOW + 3600)
    assert choose(plan_of(ahead), Policy(settle_seconds=30), NOW).request == (ahead,)


def test_a_table_is_quiet_since_its_content_was_first_seen_whatever_its_files_say():
    source = Partition(node=Node("source_table", "haven.t"), state=State.CURRENT, changed_at=NOW + 3600)
    reads = partition(1, changed_at=NOW + 3600, upstream=(source.node,))
    found = noticed(plan_of(source, reads), {"haven.t": NOW - 10}, NOW)
    assert [each.changed_at for each in found.partitions.values()] == [NOW - 10, NOW - 10]
    assert choose(found, Policy(settle_seconds=30), NOW).settling == (found.partitions[reads.node],)
    assert choose(found, Policy(settle_seconds=30), NOW + 20).request == (found.partitions[reads.node],)
