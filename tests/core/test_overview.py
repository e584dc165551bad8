"""The overview: counts, what needs attention, the newest and the best, over hand-made plans."""

import time

from mimic_core.overview import MOST_ROWS, compose, page_of
from mimic_core.planner import Partition, Plan
from mimic_core.world import Attempt, Node, State, TableState, World

RUN_A, RUN_B = (Node("model_run", f"s/e/{letter * 12}") for letter in "ab")
DATASET = Node("tfrecord_dataset", "s/d")
TABLE = Node("source_table", "haven.features")


def plan(*partitions: Partition) -> Plan:
    return Plan(partitions={partition.node: partition for partition in partitions})


def world(**changes) -> World:
    return World(**{"sources": {}, "registered": {}, "manifests": {}} | changes)


def test_partitions_are_counted_by_stage_and_state():
    found = compose(
        plan(
            Partition(node=TABLE, state=State.CURRENT),
            Partition(node=RUN_A, state=State.QUEUED),
            Partition(node=RUN_B, state=State.RUNNING),
        ),
        world(),
    )
    assert found.numbers["source_table/up to date"] == 1
    assert (found.numbers["model_run/building"], found.numbers["model_run/failed"]) == (2, 0)
    assert found.stages[0] == ("stage", "up to date", "building")
    assert found.stages[4] == ("[model_run](/assets/model_run)", "", "2")


def test_what_failed_comes_first_with_why_its_run_and_what_to_do():
    why = "run 1234 failed at this version:\n table haven.features is broken | " + "x" * 200
    found = compose(
        plan(
            Partition(node=RUN_A, state=State.WAITING, reasons=("waits for tfrecord_dataset s/d",)),
            Partition(node=RUN_B, state=State.FAILED, reasons=(why,)),
        ),
        world(failed={RUN_B: Attempt(run_id="1234-5678", state=State.FAILED)}),
    )
    partition, reason, advice = found.attention[1]
    assert partition == f"[s/e/bbbbbbbbbbbb](/assets/model_run?view=partitions&partition=s%2Fe%2F{'b' * 12})"
    assert reason.startswith("failed: run 1234 failed at this version: table haven.features is broken")
    assert reason.endswith("x... ([run](/runs/1234-5678))")
    assert advice == "mend that, then materialize it"
    assert found.attention[2][1:] == ("waits for tfrecord_dataset s/d", "first what it waits for")


def test_reports_come_last_and_nobody_misses_one_that_was_never_made():
    old, never_made, without_runs = (Node("experiment_report", f"s/{name}") for name in "efg")
    found = compose(
        plan(
            Partition(node=old, state=State.OUT_OF_DATE),
            Partition(node=never_made, state=State.MISSING),
            Partition(node=without_runs, state=State.WAITING),
            Partition(node=DATASET, state=State.WAITING),
        ),
        world(),
    )
    assert [row[2] for row in found.attention[1:]] == ["first what it waits for", "materialize it if you want it"]
    assert found.behind["experiment_report"] == 1
    assert (found.numbers["experiment_report/not built"], found.numbers["experiment_report/waits"]) == (1, 1)


def test_the_best_run_of_an_experiment_and_the_newest_of_the_others_are_listed():
    runs = {
        RUN_A: {"metrics": {"test_nll": 0.7, "test_accuracy": 0.5}, "built_at": "2026-01-02T10:00:00"},
        RUN_B: {"metrics": {"test_nll": 0.5}, "built_at": "2026-01-01T10:00:00"},
        Node("model_run", "s/f/1"): {"built_at": "2026-01-03T10:00:00"},  # trained on everybody: no test numbers
        Node("model_run", "s/g/1"): {"error": "damaged"},
    }
    found = compose(plan(), world(sources={"haven.a": TableState(token="t", rows=1200)}, manifests=runs))
    assert [row[0].partition("]")[0] for row in found.newest["best model_run"][1:]] == ["[f/1", "[e/bbbbbbbb"]
    assert "best model_run on pairs" not in found.newest
    assert found.newest["best model_run"][2][1:3] == ("0.5000", "")
    assert found.newest["newest source_table"][1] == (
        "[haven.a](/assets/source_table?view=partitions&partition=haven.a)",
        "1,200",
        "0",
    )
    assert "newest tfrecord_dataset" not in found.newest


def test_many_partitions_are_counted_and_take_no_time():
    nodes = [Node("tfrecord_dataset", f"s/{number}") for number in range(10_000)]
    manifests = {node: {"counts": {"rows": 10}, "built_at": "2026-01-01T10:00:00"} for node in nodes}
    many = plan(*(Partition(node=node, state=State.OUT_OF_DATE, reasons=("changed",)) for node in nodes))
    began = time.process_time()
    found = compose(many, world(manifests=manifests))
    assert time.process_time() - began < 2  # 0.1 s where nothing else runs
    assert len(found.attention) == len(found.newest["newest tfrecord_dataset"]) == MOST_ROWS + 1
    assert found.behind["tfrecord_dataset"] == found.built["newest tfrecord_dataset"] == 10_000


def test_tables_have_no_page_for_each_partition():
    assert page_of("source_table", "haven.a b") == "/assets/source_table?view=partitions&partition=haven.a+b"


def test_runs_on_contrasts_have_a_table_of_their_own_as_their_likelihood_is_that_of_pairs():
    inputs = {"tfrecord_dataset": {"key": DATASET.key, "fingerprint": "f"}}
    manifests = {
        RUN_A: {"metrics": {"test_nll": 0.5}, "inputs": inputs},
        RUN_B: {"metrics": {"test_nll": 0.8}},  # of the same experiment, in which it would lose
        DATASET: {"inputs": {"contrast_set": {"name": "haven.pairs"}}},
    }
    found = compose(plan(), world(manifests=manifests))
    ((whole, nll, *_),) = found.newest["best model_run"][1:]
    ((pairs, *_),) = found.newest["best model_run on pairs"][1:]
    assert (whole[:12], nll, pairs[:12]) == ("[e/bbbbbbbb]", "0.8000", "[e/aaaaaaaa]")


def test_a_table_that_is_up_to_date_and_breaks_the_contract_needs_somebody():
    broken = {TABLE.key: "breaks the decision-table contract:\ndecisions without a selected row: 2 (0, 1)"}
    other = Partition(node=Node("source_table", "haven.other"), state=State.CURRENT)
    found = compose(plan(Partition(node=TABLE, state=State.CURRENT), other), world(broken=broken))
    assert found.attention[1:] == [
        (
            f"[haven.features]({page_of(*TABLE)})",
            "breaks the decision-table contract: decisions without a selected row: 2 (0, 1)",
            "see `mimic tables check haven.features`",
        )
    ]
    assert (found.behind["source_table"], found.numbers["source_table/up to date"]) == (1, 2)


def test_what_is_being_built_needs_nobody():
    building = [Partition(node=RUN_A, state=State.RUNNING), Partition(node=RUN_B, state=State.QUEUED)]
    found = compose(plan(*building, Partition(node=DATASET, state=State.WAITING, reasons=("waits",))), world())
    assert [row[1:] for row in found.attention[1:]] == [("waits", "first what it waits for")]
    assert (found.behind["model_run"], found.numbers["model_run/building"]) == (0, 2)
