"""What the sensors observe, answer and rebuild, tick by tick; the runs that they ask for are executed here."""

from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from mimic_assets.attempts import RUNS_AT_ONCE, newest_of
from mimic_assets.live import VERSION, WANTED, build_tags, note_version, note_withdrawn
from mimic_assets.planning import make_plan
from mimic_assets.reasons import Endings
from mimic_assets.registration import register
from mimic_core.configs import parse_spec
from mimic_core.errors import ConflictError, StorageError
from mimic_core.layers_files import default_layers
from mimic_core.specs import DatasetSpec, ExperimentSpec, RunSpec
from mimic_core.world import Node

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s", "dataset": "d"}
EXPERIMENT = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["age"]}
EXPERIMENT |= {"database": "haven", "table": "results", "models": [{"layers": []}]}
RUN = parse_spec(ExperimentSpec, EXPERIMENT).runs[0]
REBUILD, ANSWER = "rebuild_sensor", "up_to_date_sensor"


def dataset(**changes):
    return parse_spec(DatasetSpec, DATASET | changes)


def add(sensors, *specs):
    new = [(spec, default_layers(()) if isinstance(spec, RunSpec) else "") for spec in specs]
    register(sensors.platform.instance, sensors.platform.specs, new)


def rebuilt(sensors, most=6):
    """Tick and execute until nothing is asked for; returns the partitions that were built, in order."""
    built = []
    for _ in range(most):
        requests = sensors.tick(REBUILD).requests
        if not requests:
            return built
        for request in requests:
            assert sensors.execute(request)
            built.append(request.partition_key)
    raise AssertionError(f"it goes on and on: {built}")


# ---- observing


def test_only_tables_that_changed_are_observed_and_new_ones_become_partitions(sensors, decision_table):
    platform = sensors.platform
    first = platform.imported(decision_table(), "haven.a")
    platform.imported(decision_table(seed=1), "haven.b")
    platform.instance.delete_dynamic_partition("source_tables", "haven.b")
    tick = sensors.tick("source_table_sensor")
    assert [event.partition for event in tick.observed] == ["haven.a", "haven.b"]
    assert sensors.execute(tick.requests[0])
    assert set(platform.instance.get_dynamic_partitions("source_tables")) == {"haven.a", "haven.b"}
    assert "none of 2 tables changed" in sensors.tick("source_table_sensor").skipped
    platform.imported(decision_table(seed=2), "haven.b")
    (event,) = sensors.tick("source_table_sensor").observed
    assert event.partition == "haven.b"
    assert event.metadata["rows"].value == 42
    assert event.tags["dagster/data_version"] == platform.tables.pin("haven.b").token
    assert first.token != event.tags["dagster/data_version"]
    del sensors.cursors["source_table_sensor"]
    assert sensors.tick("source_table_sensor").events == []  # those are recorded


def test_a_table_that_cannot_be_read_is_logged_once_and_hides_no_other(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table(), "haven.a")
    folder = platform.home / "files"
    folder.mkdir()
    (platform.home / "table.parquet").rename(folder / "part.parquet")
    platform.tables.register("haven.registered", folder)
    (folder / "part.parquet").unlink()
    tick = sensors.tick("source_table_sensor")
    assert [event.partition for event in tick.observed] == ["haven.a"]
    assert [line[:47] for line in tick.log] == ["table haven.registered cannot be observed: tabl"]
    assert sensors.tick("source_table_sensor").log == []


@pytest.mark.parametrize("name", ["source_table_sensor", "up_to_date_sensor", REBUILD])
def test_an_unreadable_catalog_fails_the_tick(sensors, decision_table, name):
    sensors.platform.imported(decision_table())
    sensors.tick(name)
    cursor = sensors.cursors[name]
    (sensors.platform.home / "mimic/catalog.db").write_bytes(b"this is no database, and never was one" * 100)
    with pytest.raises(StorageError):
        sensors.tick(name)
    assert sensors.cursors[name] == cursor


def test_the_newest_run_of_a_partition_is_found_behind_many_that_do_not_build_it(platform):
    definitions = platform.definitions()
    created = []
    for name in ["build_dataset", *["maintenance"] * RUNS_AT_ONCE]:
        job = definitions.resolve_job_def(name)
        created.append(platform.instance.create_run_for_job(job, tags={"dagster/partition": "s/d"}).run_id)
    assert newest_of(platform.instance, Node("tfrecord_dataset", "s/d")) == created[0]
    assert newest_of(platform.instance, Node("model_run", "s/d")) == ""


# ---- answering


def answered(sensors):
    """Tick, and answer if the sensor asks for it; returns the evaluations by partition."""
    requests = sensors.tick(ANSWER).requests
    if not requests:
        return {}
    job = sensors.platform.definitions().resolve_job_def(requests[0].job_name)
    result = job.execute_in_process(instance=sensors.platform.instance)
    return {evaluation.partition: evaluation for evaluation in result.get_asset_check_evaluations()}


def said(evaluations):
    return {
        key: (each.passed, each.severity.value, each.metadata["state"].value)
        for key, each in sorted(evaluations.items())
        if each.asset_key.to_user_string() != "experiment_report"
    }


def test_an_answer_is_given_when_it_changes_and_never_for_what_was_not_built(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset(dataset="unbuilt"))
    platform.built(dataset(), RUN)
    assert said(answered(sensors)) == {"s/d": (True, "WARN", "current"), RUN.key: (True, "WARN", "current")}
    assert answered(sensors) == {}
    platform.imported(decision_table(seed=1))
    given = answered(sensors)
    assert said(given) == {"s/d": (False, "ERROR", "out_of_date"), RUN.key: (False, "WARN", "waiting")}
    assert "source_table haven.features changed from" in given["s/d"].description
    assert given[RUN.key].metadata["would be built"].value == f"- tfrecord_dataset s/d\n- model_run {RUN.key}"
    assert answered(sensors) == {}
    platform.artefacts.unpublish(dataset().folder)
    assert said(answered(sensors))["s/d"] == (False, "ERROR", "missing")
    platform.built(dataset())
    assert said(answered(sensors)) == {"s/d": (True, "WARN", "current"), RUN.key: (False, "ERROR", "out_of_date")}


def test_answers_that_were_cut_off_and_those_of_another_dagster_are_given_again(sensors, decision_table, monkeypatch):
    sensors.platform.imported(decision_table())
    sensors.platform.built(dataset())
    with monkeypatch.context() as patch:
        patch.setattr("mimic_assets.sensors.up_to_date.write_said", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            answered(sensors)
    assert list(answered(sensors)) == ["s/d"]
    assert answered(sensors) == {}
    sensors.platform.instance.dispose()
    sensors.platform.instance = dg.DagsterInstance.ephemeral()
    assert list(answered(sensors)) == ["s/d"]


def test_the_report_on_an_experiment_says_whether_it_is_of_the_runs_that_are_trained(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    platform.built(dataset(), RUN)
    assert "s/e" not in answered(sensors)  # nobody asked for it
    job = platform.definitions().resolve_job_def("report_experiment")
    assert job.execute_in_process(instance=platform.instance, partition_key="s/e").success
    assert answered(sensors)["s/e"].passed
    platform.artefacts.unpublish(RUN.folder)
    given = answered(sensors)["s/e"]
    assert (given.passed, given.severity.value) == (False, "WARN")
    assert given.description == f"1 run was in it, but not trained any more: {RUN.run_id[:8]}"


def test_the_overview_is_reported_when_it_changes_without_a_run_and_names_what_needs_somebody(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset())
    (seen,) = sensors.tick(ANSWER).events
    shown = {name: value.value for name, value in seen.metadata.items()}
    assert (shown["source_table/up to date"], shown["tfrecord_dataset/not built"]) == (1, 1)
    assert "[s/d](/assets/tfrecord_dataset?view=partitions&partition=s%2Fd) not built: " in shown["attention"]
    assert sensors.tick(ANSWER).events == []
    platform.built(dataset())
    (seen,) = sensors.tick(ANSWER).events
    assert "attention" not in seen.metadata
    assert "| rows |" in seen.metadata["newest tfrecord_dataset"].value
    result = (
        platform.definitions()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(instance=platform.instance, asset_selection=[dg.AssetKey("overview")])
    )
    (made,) = result.asset_materializations_for_node("overview")
    assert made.metadata == seen.metadata


def test_while_something_is_built_the_overview_is_reported_and_answers_are_given_once_a_minute(
    sensors, decision_table, monkeypatch
):
    platform = sensors.platform
    platform.imported(decision_table())
    platform.built(dataset())
    add(sensors, dataset(dataset="other"))
    monkeypatch.setattr("mimic_assets.sensors.up_to_date.time", SimpleNamespace(time=lambda: 1_000.0))
    first = sensors.tick(ANSWER)
    assert (len(first.events), len(first.requests)) == (1, 1)
    definitions = platform.definitions()
    tags = build_tags("tfrecord_dataset", "s/other")
    platform.instance.create_run_for_job(definitions.resolve_job_def("build_dataset"), tags=tags)
    second = sensors.tick(ANSWER)
    assert (second.events, second.requests) == ([], [])
    assert second.skipped == "1 answers changed; while something is built they are given once a minute"
    monkeypatch.setattr("mimic_assets.sensors.up_to_date.time", SimpleNamespace(time=lambda: 1_055.0))
    third = sensors.tick(ANSWER)
    assert (len(third.events), len(third.requests)) == (1, 1)
    assert third.requests[0].tags["mimic/reason"] == "the answer changed for tfrecord_dataset s/d"


def test_nothing_is_answered_while_a_run_answers(sensors, decision_table):
    sensors.platform.imported(decision_table())
    sensors.platform.built(dataset())
    sensors.platform.instance.create_run_for_job(sensors.platform.definitions().resolve_job_def("answer_up_to_date"))
    assert sensors.tick(ANSWER).skipped == "a run that answers is unfinished"


def test_the_check_can_be_executed_by_hand(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    platform.built(dataset())
    assert said(answered(sensors)) == {"s/d": (True, "WARN", "current")}
    platform.imported(decision_table(seed=1))
    key = dg.AssetCheckKey(dg.AssetKey("tfrecord_dataset"), "up_to_date")
    job = platform.definitions().resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection=set(), asset_check_selection={key})
    result = job.execute_in_process(instance=platform.instance, tags={"dagster/partition": "s/d"})
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.partition == "s/d"
    # rolled back before the sensor saw it: what was said last is not what the page shows
    platform.imported(decision_table())
    assert said(answered(sensors)) == {"s/d": (True, "WARN", "current")}


def test_a_build_that_has_the_check_executed_too_does_not_fail_over_it(sensors, decision_table, monkeypatch):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset())

    def unreadable(*_):
        raise StorageError("the catalog cannot be read")

    monkeypatch.setattr("resources.inventory.Inventory.world", unreadable)
    job = platform.definitions().resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection={dg.AssetKey("tfrecord_dataset")})
    result = job.execute_in_process(instance=platform.instance, partition_key="s/d")
    said = {each.check_name: (each.passed, each.description) for each in result.get_asset_check_evaluations()}
    assert said["up_to_date"] == (False, "the catalog cannot be read")
    assert platform.manifest(dataset())


def test_a_build_links_what_it_read_with_the_versions_that_it_used(sensors, decision_table):
    token = sensors.platform.imported(decision_table()).token
    sensors.platform.built(dataset())
    page = "/assets/source_table?view=partitions&partition=haven.features"
    assert f"| source_table | [haven.features]({page}) | {token[:12]} |" in sensors.platform.shown(dataset())["upstream"]


# ---- rebuilding


def test_a_change_of_one_of_two_tables_rebuilds_what_hangs_on_it_in_order_and_then_settles(sensors, decision_table):
    platform = sensors.platform
    for name in ("haven.features", "haven.others"):
        platform.imported(decision_table(), name)
    other = dataset(table="others", dataset="o")
    platform.built(dataset(), RUN, other)
    assert "nothing is to be built" in sensors.tick(REBUILD).skipped
    before = platform.manifest(other)
    platform.imported(decision_table(seed=1))
    assert rebuilt(sensors) == ["s/d", RUN.key]
    assert platform.manifest(other) == before
    assert platform.manifest(RUN)["inputs"]["tfrecord_dataset"]["fingerprint"] == platform.manifest(dataset())["fingerprint"]
    assert [sensors.tick(REBUILD).requests for _ in range(20)] == [[]] * 20


def test_a_spec_that_goes_there_and_back_and_a_table_that_is_rolled_back_are_rebuilt(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    platform.built(dataset())
    first = platform.manifest(dataset())["fingerprint"]
    for spec in (dataset(max_choices=4), dataset()):
        add(sensors, spec)
        assert rebuilt(sensors) == ["s/d"]
    assert platform.manifest(dataset())["fingerprint"] == first
    before = platform.tables.pin("haven.features").snapshot
    platform.imported(decision_table(seed=1))
    assert rebuilt(sensors) == ["s/d"]
    table = platform.tables._catalog.load_table("haven.features")
    table.manage_snapshots().set_current_snapshot(snapshot_id=before).commit()
    assert rebuilt(sensors) == ["s/d"]
    assert platform.manifest(dataset())["fingerprint"] == first


@pytest.mark.parametrize("gone", ["manifest.json", "*/train/*.tfrecord"])
def test_a_deleted_artefact_is_rebuilt_each_time_at_the_version_that_it_had(sensors, decision_table, gone):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset())
    assert rebuilt(sensors) == ["s/d"]
    for _ in range(2):
        for file in Path(platform.artefacts.where("s-tfrecords/d")).glob(gone):
            file.unlink()
        assert rebuilt(sensors) == ["s/d"]


def test_a_failed_version_waits_and_a_new_one_begins_again(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset(max_choices=2))
    (request,) = sensors.tick(REBUILD).requests
    assert not sensors.execute(request)
    assert sensors.tick(REBUILD).requests == []
    add(sensors, dataset())
    assert rebuilt(sensors) == ["s/d"]


def test_what_a_person_refreshes_is_never_asked_for(sensors, decision_table):
    sensors.platform.imported(decision_table())
    add(sensors, dataset(refresh="manual"), RUN)
    assert sensors.tick(REBUILD).requests == []


def test_a_partition_in_flight_is_not_asked_for_and_counts(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_MAX_IN_FLIGHT", "2")
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, *(dataset(dataset=f"d{number}") for number in range(4)))
    first = sensors.tick(REBUILD)
    assert first.keys == ["s/d0", "s/d1"]
    job = platform.definitions().resolve_job_def("build_dataset")
    (run, _) = [platform.instance.create_run_for_job(job, tags=request.tags) for request in first.requests]
    assert "2 builds wait for 2 in flight" in sensors.tick(REBUILD).skipped
    platform.instance.report_run_canceled(run)
    assert sensors.tick(REBUILD).keys == ["s/d2"]


def test_nothing_is_built_before_it_was_quiet_for_a_while_also_after_a_change_of_long_ago(
    sensors, decision_table, monkeypatch
):
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "30")
    sensors.platform.imported(decision_table())
    add(sensors, dataset())
    clock = [1e9 + 1e9]  # long after everything changed
    monkeypatch.setattr("mimic_assets.sensors.rebuilds.time", SimpleNamespace(time=lambda: clock[0]))
    assert "until nothing changed for 30 seconds, 30 more" in sensors.tick(REBUILD).skipped
    clock[0] += 29
    assert "1 more" in sensors.tick(REBUILD).skipped
    clock[0] += 2
    assert sensors.tick(REBUILD).keys == ["s/d"]


def test_too_many_builds_are_held_until_a_person_approves_exactly_these(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_MAX_RUNS_PER_CHANGE", "1")
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset(), dataset(dataset="d2"), RUN)
    tick = sensors.tick(REBUILD)
    assert "3 builds wait for approval, because more than 1 are wanted at once: tfrecord_dataset s/d (" in tick.skipped
    assert tick.requests == []
    job = platform.definitions().resolve_job_def("approve_rebuild")
    result = job.execute_in_process(instance=platform.instance)
    (output,) = [event for event in result.all_events if event.is_successful_output]
    shown = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert shown["builds"] == 3
    assert "| tfrecord_dataset | s/d2 | nothing is built |" in shown["approved"]
    add(sensors, dataset(dataset="d3"), dataset(dataset="d4"))
    assert rebuilt(sensors) == ["s/d", "s/d2", RUN.key]
    assert "2 builds wait for approval" in sensors.tick(REBUILD).skipped
    platform.imported(decision_table(seed=1))
    assert "5 builds wait for approval" in sensors.tick(REBUILD).skipped


def test_a_build_that_would_be_repeated_for_ever_is_asked_for_twice(sensors, decision_table, monkeypatch):
    sensors.platform.imported(decision_table())
    add(sensors, dataset())
    monkeypatch.setattr("mimic_core.datasets.CODE_VERSION", "another")  # the manifest does not say what was planned
    assert [sensors.execute(request) for _ in range(2) for request in sensors.tick(REBUILD).requests] == [True, True]
    tick = sensors.tick(REBUILD)
    assert tick.requests == []
    assert "although its last two builds were to make just this version" in tick.log[0]
    assert "1 builds would be repeated for ever" in tick.skipped
    sensors.platform.imported(decision_table(seed=1))
    assert sensors.tick(REBUILD).keys == ["s/d"]


def test_a_build_that_always_finds_another_version_than_was_wanted_fails_in_the_end(sensors, decision_table, monkeypatch):
    sensors.platform.imported(decision_table())
    add(sensors, dataset(max_choices=2))
    monkeypatch.setattr("mimic_core.datasets.CODE_VERSION", "another")
    monkeypatch.setattr("mimic_assets.datasets.note_version", lambda *_: None)
    assert [sensors.execute(request) for _ in range(6) for request in sensors.tick(REBUILD).requests] == [False] * 3


def test_data_that_change_while_a_build_begins_and_go_back_are_built_again(sensors, decision_table, monkeypatch):
    platform = sensors.platform
    before = platform.imported(decision_table()).snapshot
    add(sensors, dataset())
    note = "mimic_assets.datasets.note_version"

    def changing(*arguments):
        note_version(*arguments)
        platform.imported(decision_table(seed=1))

    with monkeypatch.context() as patch:
        patch.setattr(note, changing)
        (request,) = sensors.tick(REBUILD).requests
        assert sensors.execute(request)
    run = platform.instance.get_run_by_id(platform.manifest(dataset())["dagster_run_id"])
    assert run.tags[VERSION] == platform.manifest(dataset())["fingerprint"] != run.tags[WANTED]
    table = platform.tables._catalog.load_table("haven.features")
    table.manage_snapshots().set_current_snapshot(snapshot_id=before).commit()
    assert rebuilt(sensors) == ["s/d"]
    assert platform.manifest(dataset())["fingerprint"] == run.tags[WANTED]


def test_what_is_approved_and_built_is_held_anew_when_it_is_lost(sensors, decision_table, monkeypatch):
    monkeypatch.setenv("MIMIC_MAX_RUNS_PER_CHANGE", "1")
    platform = sensors.platform
    platform.imported(decision_table())
    specs = [dataset(), dataset(dataset="d2")]
    add(sensors, *specs)
    assert platform.definitions().resolve_job_def("approve_rebuild").execute_in_process(instance=platform.instance).success
    assert rebuilt(sensors) == ["s/d", "s/d2"]
    for spec in specs:
        platform.artefacts.unpublish(spec.folder)
    assert "2 builds wait for approval" in sensors.tick(REBUILD).skipped


def test_what_is_registered_is_built_also_where_dagster_does_not_know_its_partition(sensors, decision_table):
    sensors.platform.imported(decision_table())
    add(sensors, dataset())
    sensors.platform.instance.delete_dynamic_partition("tfrecord_datasets", "s/d")
    assert rebuilt(sensors) == ["s/d"]


# ---- runs that ended without an error of their own


def end(sensors, request, how):
    """Have the run of a request end in some way, as far as Dagster's storage tells."""
    platform, instance = sensors.platform, sensors.platform.instance
    if how == "lost":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(platform.artefacts), "publishing", lambda *_: raise_(ConflictError("s/d: another was first")))
            assert not sensors.execute(request)
    elif how == "interrupted":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mimic_assets.datasets.pin_source", lambda *_: raise_(dg.DagsterExecutionInterruptedError()))
            assert not sensors.execute(request)
    else:
        job = platform.definitions().resolve_job_def(request.job_name)
        run = instance.create_run_for_job(job, tags=request.tags)
        if how == "dead":
            instance.report_run_failed(run, "process 4194000 ended without finishing this run")
            return
        if how == "withdrawn":
            note_withdrawn(instance, run.run_id)
        instance.report_run_canceled(run)


def raise_(error):
    raise error


@pytest.mark.parametrize("how", ["lost", "interrupted", "dead", "withdrawn"])
def test_a_run_that_ended_without_an_error_of_its_own_is_tried_again_a_few_times(sensors, decision_table, how):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset())
    for _ in range(3):
        (request,) = sensors.tick(REBUILD).requests
        end(sensors, request, how)
    assert sensors.tick(REBUILD).requests == []
    plan, _ = make_plan(platform.instance, platform.inventory)
    (*_, partition) = plan.partitions.values()
    assert partition.state == "failed"
    assert partition.reasons[-1].endswith("; so did the 2 runs before it")
    platform.built(dataset())
    platform.artefacts.unpublish(dataset().folder)
    assert rebuilt(sensors) == ["s/d"]  # they are forgotten


def test_a_run_that_a_person_cancels_is_not_tried_again_and_says_so(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, dataset())
    (request,) = sensors.tick(REBUILD).requests
    end(sensors, request, "canceled")
    assert sensors.tick(REBUILD).requests == []
    plan, _ = make_plan(platform.instance, platform.inventory)
    assert plan.partitions[Node("tfrecord_dataset", "s/d")].reasons[-1].endswith(" was canceled at this version")


def test_of_many_failed_runs_each_is_read_once_and_some_at_a_time(sensors, decision_table, monkeypatch):
    platform = sensors.platform
    platform.imported(decision_table())
    add(sensors, *(dataset(dataset=f"d{number}", max_choices=2) for number in range(3)))
    assert [sensors.execute(request) for request in sensors.tick(REBUILD).requests] == [False] * 3
    asked = []
    look = type(platform.instance).get_records_for_run
    monkeypatch.setattr(
        type(platform.instance), "get_records_for_run", lambda *args, **named: asked.append(1) or look(*args, **named)
    )
    monkeypatch.setattr("mimic_assets.attempts.ENDINGS", Endings())
    monkeypatch.setattr("mimic_assets.attempts.MOST_READ", 2)
    for known, more in ((2, 2), (3, 1), (3, 0)):
        plan, _ = make_plan(platform.instance, platform.inventory)
        reasons = [partition.reasons[-1] for partition in plan.partitions.values() if partition.state == "failed"]
        assert ["max_choices" in reason for reason in reasons] == [True] * known + [False] * (3 - known)
        assert all(reason.endswith("failed at this version") for reason in reasons[known:])
        assert len(asked) == more
        asked.clear()
