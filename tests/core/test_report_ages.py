"""Whether reports are of the runs that are trained now, by hand-made manifests."""

import pytest

from mimic_core.planner import Plan
from mimic_core.report_ages import experiments, with_reports
from mimic_core.world import Node, Registered, State, World

REPORT = Node("experiment_report", "s/e")
A, B, C = (Node("model_run", f"s/e/{letter * 12}") for letter in "abc")


def world(*runs: Node, **trained: str) -> World:
    """Some registered runs, of which some are trained, with their fingerprints by letter."""
    manifests = {node: {"fingerprint": trained[node.key[-1]]} for node in runs if node.key[-1] in trained}
    return World(sources={}, registered={node: Registered(node=node) for node in runs}, manifests=manifests)


def report(now: World, *read: tuple[Node, str], **facts):
    """What is said of the report of some runs with the fingerprints that they had."""
    inputs = {"model_run": [{"key": node.key, "fingerprint": fingerprint} for node, fingerprint in read]}
    return with_reports(Plan(partitions={}), now, {REPORT: {"inputs": inputs} | facts}).partitions[REPORT]


def test_a_report_of_the_runs_as_they_are_is_current():
    found = report(world(A, B, a="1"), (A, "1"))
    assert (found.state, found.reasons) == (State.CURRENT, ())


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (world(A, B, a="1", b="1"), "1 run was trained since: bbbbbbbb"),
        (world(A, B, a="2", b="1"), "2 runs were trained since: aaaaaaaa, bbbbbbbb"),
        (world(B, b="1"), "1 run was trained since: bbbbbbbb; 1 run was in it, but not trained any more: aaaaaaaa"),
    ],
)
def test_a_report_that_is_older_than_its_runs_names_them(now, why):
    found = report(now, (A, "1"))
    assert (found.state, "; ".join(found.reasons)) == (State.OUT_OF_DATE, why)
    assert not found.will_build


def test_of_many_runs_the_first_are_named():
    runs = [Node("model_run", f"s/e/{number:012x}") for number in range(7)]
    trained = World(
        sources={},
        registered={node: Registered(node=node) for node in runs},
        manifests={node: {"fingerprint": "1"} for node in runs},
    )
    assert report(trained).reasons[0].endswith("00000000 and 2 more")


def test_without_a_report_it_is_said_whether_one_could_be_made():
    for now, state, why in (
        (world(A, a="1"), State.MISSING, "not made yet; 1 run is trained"),
        (world(A), State.WAITING, "not made yet; no run is trained"),
    ):
        found = with_reports(Plan(partitions={}), now, {}).partitions[REPORT]
        assert (found.state, found.reasons) == (state, (why,))


def test_damaged_manifests_and_lost_files_are_reasons():
    now = world(A, a="1")
    assert report(now, (A, "1"), gone=["report.html is gone"]).reasons == ("report.html is gone",)
    assert report(now, error="damaged").reasons == ("damaged",)


def test_experiments_are_those_of_the_registered_runs():
    assert experiments(world(A, B, Node("model_run", f"s/f/{'a' * 12}"))) == ["s/e", "s/f"]


def test_a_report_whose_manifest_has_whole_run_ids_is_as_current():
    whole = Node("model_run", f"s/e/{'a' * 64}")
    assert report(world(A, a="1"), (whole, "1")).state == State.CURRENT
