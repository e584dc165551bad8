"""The planner: hand-made worlds, and what it says of every partition in them."""

from dataclasses import replace
from typing import Any

import pytest

from mimic_core.configs import parse_spec
from mimic_core.planner import Plan, expected_seconds, plan
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec, spec_digest
from mimic_core.world import (
    CODE_VERSIONS,
    Attempt,
    Node,
    State,
    TableState,
    Unfinished,
    World,
    expected_inputs,
    registered,
    wanted_version,
)

COLUMNS = {
    name: {"id": number, "type": "double"}
    for number, name in enumerate(["_individual", "_decision", "_choice", "_selected", "_train", "size", "age", "other"], 1)
}
SOURCE = Node("source_table", "haven.features")
OTHER = Node("source_table", "haven.other")
CONTRASTS = Node("contrast_set", "haven.contrasts")


def dataset_spec(**changes: Any) -> DatasetSpec:
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"], "space": "s"}
    return parse_spec(DatasetSpec, document | {"dataset": "d"} | changes)


def contrast_spec(**changes: Any) -> ContrastSpec:
    document = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
    document |= {"decisions_per_individual": 2, "alternatives_per_decision": 2}
    return parse_spec(ContrastSpec, document | changes)


def run_spec(**changes: Any) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": {"layers": []}} | changes)


def inference_spec(run: RunSpec, **changes: Any) -> InferenceSpec:
    document = {"database": "haven", "table": "other", "features": ["size", "age"], "space": "s", "experiment_name": "e"}
    return parse_spec(InferenceSpec, document | {"run_id": run.run_id, "upload_table": "scored"} | changes)


RUN_SPEC = run_spec()
DATASET, RUN = Node("tfrecord_dataset", "s/d"), Node("model_run", RUN_SPEC.key)
INFERENCE = Node("inference_table", inference_spec(RUN_SPEC).key)


def said(spec, layers=""):
    return registered(spec, spec_digest(spec.document, layers), changed_at=1.0)


def world(*specs, **changes) -> World:
    """The world in which some specs are registered and nothing is built."""
    tables = {"haven.features": "t1", "haven.other": "o1"}
    sources = {name: TableState(token=token, columns=COLUMNS, changed_at=2.0) for name, token in tables.items()}
    specs = specs or (dataset_spec(), RUN_SPEC, inference_spec(RUN_SPEC))
    wants = [said(spec) for spec in specs]
    return replace(World(sources=sources, registered={each.node: each for each in wants}, manifests={}), **changes)


def built(before: World, *nodes: Node, **facts) -> World:
    """The world after some partitions were built, in this order."""
    for node in nodes:
        wants = before.registered[node]
        manifest = {
            "version": f"v-{node.asset}",
            "fingerprint": wanted_version(node, before),
            "spec": wants.document,
            "spec_digest": wants.digest,
            "code_version": CODE_VERSIONS[node.asset],
            "inputs": expected_inputs(node, before),
            **facts,
        }
        assert manifest["fingerprint"]
        before = replace(before, manifests={**before.manifests, node: manifest})
        if node.asset == "contrast_set":
            table = TableState(token=manifest["fingerprint"][:24], columns=COLUMNS)
            before = replace(before, contrasts={**before.contrasts, node.key: table})
    return before


def changed(before: World, name: str, **changes) -> World:
    """The world after a table changed."""
    return replace(before, sources={**before.sources, name: replace(before.sources[name], **changes)})


def reregistered(before: World, *specs, layers="") -> World:
    new = {each.node: each for each in (said(spec, layers) for spec in specs)}
    return replace(before, registered={**before.registered, **new})


def states(found: Plan) -> dict[str, str]:
    return {node.asset: str(partition.state) for node, partition in found.partitions.items() if node.asset != "source_table"}


CHAIN = (DATASET, RUN, INFERENCE)


def test_what_was_never_built_is_missing_and_what_reads_it_waits():
    found = plan(world())
    assert states(found) == {"tfrecord_dataset": "missing", "model_run": "waiting", "inference_table": "waiting"}
    assert found.partitions[DATASET].reasons == ("nothing is built",)
    assert found.partitions[RUN].reasons == ("nothing is built", "waits for tfrecord_dataset s/d, which is not built")
    assert [partition.node for partition in found.to_build] == list(CHAIN)
    assert [partition.node for partition in found.to_build if partition.ready] == [DATASET]


def test_what_was_built_from_what_there_is_is_current():
    found = plan(built(world(), *CHAIN))
    assert set(states(found).values()) == {"current"}
    assert all(partition.reasons == () for partition in found.partitions.values())
    assert found.to_build == ()


def test_a_changed_table_makes_out_of_date_what_reads_it_and_waiting_what_is_below():
    found = plan(changed(built(world(), *CHAIN), "haven.features", token="t2"))
    assert states(found) == {"tfrecord_dataset": "out_of_date", "model_run": "waiting", "inference_table": "waiting"}
    assert found.partitions[DATASET].reasons == ("source_table haven.features changed from t1 to t2",)
    assert found.partitions[RUN].reasons == ("waits for tfrecord_dataset s/d, which is out of date",)


def test_a_change_of_one_of_two_tables_leaves_the_rest_current():
    found = plan(changed(built(world(), *CHAIN), "haven.other", token="o2"))
    assert states(found) == {"tfrecord_dataset": "current", "model_run": "current", "inference_table": "out_of_date"}
    assert [partition.node for partition in found.to_build] == [INFERENCE]


def test_what_is_below_becomes_out_of_date_when_its_upstream_was_built_anew():
    after = built(changed(built(world(), *CHAIN), "haven.features", token="t2"), DATASET)
    found = plan(after)
    assert states(found) == {"tfrecord_dataset": "current", "model_run": "out_of_date", "inference_table": "waiting"}
    (reason,) = found.partitions[RUN].reasons
    assert reason.startswith("tfrecord_dataset s/d changed from ")


def test_an_upstream_that_was_built_anew_to_the_same_leaves_the_rest_current():
    before = built(world(), *CHAIN)
    assert set(states(plan(built(before, DATASET, version="another"))).values()) == {"current"}


@pytest.mark.parametrize("back", ["t1", "t0"], ids=["to what was built", "to something else"])
def test_a_table_that_is_rolled_back_is_judged_by_what_it_holds(back):
    after = built(changed(built(world(), *CHAIN), "haven.features", token="t2"), *CHAIN)
    assert states(plan(changed(after, "haven.features", token=back)))["tfrecord_dataset"] == "out_of_date"
    assert states(plan(changed(built(world(), *CHAIN), "haven.features", token=back)))["tfrecord_dataset"] == (
        "current" if back == "t1" else "out_of_date"
    )


def test_a_column_that_no_build_uses_changes_nothing_and_a_used_one_is_named():
    before = built(world(), *CHAIN)
    unused = {**COLUMNS, "other": {"id": 99, "type": "string"}, "new": {"id": 100, "type": "double"}}
    assert set(states(plan(changed(before, "haven.features", columns=unused))).values()) == {"current"}
    found = plan(changed(before, "haven.features", columns={**COLUMNS, "age": {"id": 9, "type": "float"}}))
    assert found.partitions[DATASET].reasons == (
        "column age of source_table haven.features changed from double (id 7) to float (id 9)",
    )
    gone = {name: facts for name, facts in COLUMNS.items() if name != "age"}
    assert plan(changed(before, "haven.features", columns=gone)).partitions[DATASET].reasons == (
        "column age of source_table haven.features changed from double (id 7) to none",
    )


def test_a_filter_s_column_is_a_used_one():
    before = built(world(dataset_spec(where="other > 1")), DATASET)
    found = plan(changed(before, "haven.features", columns={**COLUMNS, "other": {"id": 9, "type": "float"}}))
    assert states(found) == {"tfrecord_dataset": "out_of_date"}


def test_a_changed_spec_is_told_key_by_key_and_changed_back_is_current():
    before = built(world(), *CHAIN)
    found = plan(reregistered(before, dataset_spec(max_choices=4, missing_values_map={"age": 0})))
    assert found.partitions[DATASET].reasons == (
        "max_choices changed from 3 to 4 in the spec",
        "missing_values_map changed from unset to {'age': 0} in the spec",
    )
    assert set(states(plan(reregistered(before, dataset_spec()))).values()) == {"current"}


def test_a_changed_layers_file_and_changed_code_are_told():
    before = built(world(), *CHAIN)
    assert plan(reregistered(before, RUN_SPEC, layers="LAYERS = {}")).partitions[RUN].reasons == ("the layers file changed",)
    found = plan(built(before, RUN, code_version="0"))
    assert found.partitions[RUN].reasons == (f"the code of model_run changed from version 0 to {CODE_VERSIONS[RUN.asset]}",)


def test_a_changed_refresh_makes_nothing_out_of_date_and_keeps_the_run_id():
    before = built(world(), *CHAIN)
    assert run_spec(refresh="manual").run_id == RUN_SPEC.run_id
    found = plan(reregistered(before, dataset_spec(refresh="manual"), run_spec(refresh="manual")))
    assert set(states(found).values()) == {"current"}


def test_what_is_refreshed_by_hand_is_not_to_be_built_nor_what_waits_for_it():
    before = reregistered(built(world(), *CHAIN), dataset_spec(refresh="manual"))
    found = plan(changed(before, "haven.features", token="t2"))
    assert states(found)["tfrecord_dataset"] == "out_of_date"
    assert found.partitions[RUN].reasons == (
        "waits for tfrecord_dataset s/d, which is out of date and is refreshed by hand",
    )
    assert found.to_build == ()
    assert found.partitions[DATASET].ready


def test_a_missing_table_is_named_and_nothing_is_built_from_it():
    before = built(world(), *CHAIN)
    found = plan(replace(before, sources={"haven.other": before.sources["haven.other"]}))
    assert states(found) == {"tfrecord_dataset": "waiting", "model_run": "waiting", "inference_table": "waiting"}
    assert found.partitions[DATASET].reasons == ("waits for source_table haven.features, which is not there; import it",)
    assert found.to_build == ()


def test_a_table_that_cannot_be_read_fails_alone():
    found = plan(changed(built(world(), *CHAIN), "haven.features", token="", error="its files are gone"))
    assert found.partitions[SOURCE].state == State.FAILED
    assert found.partitions[SOURCE].reasons == ("its files are gone",)
    assert found.partitions[OTHER].state == State.CURRENT
    assert found.partitions[DATASET].reasons == ("waits for source_table haven.features, which failed",)
    assert found.to_build == ()


def test_a_dataset_of_a_contrast_set_hangs_on_it_and_not_on_a_table_of_that_name():
    before = world(contrast_spec(), dataset_spec(table="contrasts"))
    assert before.upstream(DATASET) == (CONTRASTS,)
    assert states(plan(before)) == {"contrast_set": "missing", "tfrecord_dataset": "waiting"}
    after = built(before, CONTRASTS, DATASET)
    assert set(states(plan(after)).values()) == {"current"}
    anew = built(changed(after, "haven.features", token="t2"), CONTRASTS)
    (reason,) = plan(anew).partitions[DATASET].reasons
    assert reason.startswith("contrast_set haven.contrasts changed from ")


def test_any_column_of_its_source_makes_a_contrast_set_out_of_date_because_it_copies_all():
    after = built(world(contrast_spec()), CONTRASTS)
    found = plan(changed(after, "haven.features", columns={**COLUMNS, "new": {"id": 9, "type": "double"}}))
    assert found.partitions[CONTRASTS].reasons == (
        "column new of source_table haven.features changed from none to double (id 9)",
    )


def test_a_contrast_set_whose_table_version_is_gone_is_built_again_before_what_reads_it():
    after = built(world(contrast_spec(), dataset_spec(table="contrasts")), CONTRASTS, DATASET)
    found = plan(replace(after, contrasts={"haven.contrasts": TableState(error="version 3 is gone")}))
    assert found.partitions[CONTRASTS].reasons == ("version 3 is gone",)
    assert states(found) == {"contrast_set": "out_of_date", "tfrecord_dataset": "waiting"}


def test_a_dataset_that_reads_a_table_instead_of_a_contrast_set_says_so():
    after = built(world(contrast_spec(), dataset_spec(table="contrasts")), CONTRASTS, DATASET)
    found = plan(reregistered(after, dataset_spec()))
    assert "reads source_table haven.features instead of no source_table" in found.partitions[DATASET].reasons
    assert "no longer reads contrast_set haven.contrasts" in found.partitions[DATASET].reasons


@pytest.mark.parametrize(
    "facts", [{"error": "manifest is damaged"}, {"gone": ["model.keras is gone"]}], ids=["damaged", "gone"]
)
def test_an_artefact_that_is_damaged_or_gone_is_out_of_date(facts):
    before = built(world(), *CHAIN)
    manifest = facts if "error" in facts else {**before.manifests[DATASET], **facts}
    found = plan(replace(before, manifests={**before.manifests, DATASET: manifest}))
    assert states(found)["tfrecord_dataset"] == "out_of_date"
    assert found.partitions[DATASET].reasons == (facts.get("error") or "model.keras is gone",)
    assert found.partitions[RUN].state == State.WAITING


def test_what_is_queued_or_running_says_so_and_what_is_below_waits_for_it():
    before = changed(built(world(), *CHAIN), "haven.features", token="t2")
    found = plan(replace(before, in_flight={DATASET: Attempt(run_id="0123456789ab", state=State.RUNNING)}))
    assert found.partitions[DATASET].state == State.RUNNING
    assert found.partitions[DATASET].reasons[-1] == "run 01234567 is running"
    assert found.partitions[RUN].reasons == ("waits for tfrecord_dataset s/d, which is being built",)
    assert [partition.node for partition in found.to_build] == list(CHAIN)
    assert not any(partition.ready for partition in found.to_build)


def test_a_version_that_failed_waits_for_a_person_and_a_new_one_starts_again():
    before = changed(built(world(), *CHAIN), "haven.features", token="t2")
    version = plan(before).partitions[DATASET].version
    attempt = Attempt(run_id="0123456789ab", state=State.FAILED, version=version, reason="no rows")
    failed = plan(replace(before, failed={DATASET: attempt}))
    assert failed.partitions[DATASET].state == State.FAILED
    assert failed.partitions[DATASET].reasons[-1] == "run 01234567 failed at this version: no rows"
    assert failed.partitions[RUN].reasons == ("waits for tfrecord_dataset s/d, which failed",)
    assert failed.to_build == ()
    again = plan(replace(changed(before, "haven.features", token="t3"), failed={DATASET: attempt}))
    assert [partition.node for partition in again.to_build if partition.ready] == [DATASET]


def test_a_failure_beside_what_is_published_at_this_version_is_no_failure():
    before = built(world(), *CHAIN)
    version = before.manifests[DATASET]["fingerprint"]
    attempt = Attempt(run_id="0123456789ab", state=State.FAILED, version=version)
    assert states(plan(replace(before, failed={DATASET: attempt})))["tfrecord_dataset"] == "current"


def test_a_spec_that_cannot_be_read_fails_alone():
    before = built(world(), *CHAIN)
    broken = {DATASET: replace(before.registered[DATASET], error="format_version 9 is newer")}
    found = plan(replace(before, registered={**before.registered, **broken}))
    assert found.partitions[DATASET].reasons == ("format_version 9 is newer",)
    assert states(found) == {"tfrecord_dataset": "failed", "model_run": "waiting", "inference_table": "waiting"}


def test_the_version_of_a_partition_is_the_fingerprint_that_its_build_records():
    before = world()
    assert plan(before).partitions[DATASET].version == built(before, DATASET).manifests[DATASET]["fingerprint"]


def test_a_goal_follows_what_changed_and_not_what_was_built_on_the_way():
    before = built(world(), *CHAIN)
    change = changed(before, "haven.features", token="t2")
    goals = [{node: found.partitions[node].goal for node in CHAIN} for found in (plan(change), plan(built(change, DATASET)))]
    assert goals[0] == goals[1]
    assert all(plan(before).partitions[node].goal != goals[0][node] for node in CHAIN)


def test_a_change_time_is_that_of_the_latest_change_above():
    found = plan(changed(world(), "haven.features", changed_at=9.0))
    assert [found.partitions[node].changed_at for node in CHAIN] == [9.0, 9.0, 9.0]
    assert [plan(world()).partitions[node].changed_at for node in CHAIN] == [2.0, 2.0, 2.0]


def test_what_hangs_on_a_partition_and_what_it_hangs_on_stand_upstream_first():
    found = plan(world())
    assert found.below([SOURCE]) == CHAIN
    assert found.below([OTHER]) == (INFERENCE,)
    assert found.below([INFERENCE]) == ()
    assert found.above([INFERENCE]) == (SOURCE, OTHER, DATASET, RUN)


def test_a_build_is_expected_to_take_as_long_as_the_last_one_or_as_others_like_it():
    family = [Node("model_run", f"s/e/{number}") for number in range(4)]
    manifests = {family[0]: {"seconds": 10.0}, family[1]: {"seconds": 30.0}, family[2]: {}, DATASET: {"seconds": 2.0}}
    asked = [*family, Node("model_run", "s/another/1"), Node("tfrecord_dataset", "s/new"), INFERENCE]
    now = World(sources={}, registered={}, manifests=manifests)
    assert list(expected_seconds(asked, now).values()) == [10.0, 30.0, 20.0, 20.0, 20.0, 2.0, None]
    # one that goes on takes as long as the epochs that are left
    now = replace(now, unfinished={family[0]: Unfinished(epochs=40, most=100, seconds=0.5)})
    assert list(expected_seconds(family[:2], now).values()) == [30.0, 30.0]


def test_a_training_that_goes_on_says_after_which_epoch_also_where_it_was_canceled():
    kept = {RUN: Unfinished(epochs=40, most=1000)}
    now = replace(built(world(), DATASET), unfinished=kept)
    assert plan(now).partitions[RUN].reasons == ("nothing is built", "a build goes on after epoch 40 of at most 1,000")
    canceled = Attempt(run_id="0123456789", state=State.FAILED, version=plan(now).partitions[RUN].version, canceled=True)
    reasons = plan(replace(now, failed={RUN: canceled})).partitions[RUN].reasons
    assert reasons[1:] == ("run 01234567 was canceled at this version", "a build goes on after epoch 40 of at most 1,000")
