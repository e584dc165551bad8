"""Maintenance through Dagster with a real instance: what unfinished runs hold, what stays up to date, and the job."""

import time
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mimic_assets.live import PINS, in_use
from mimic_assets.maintenance import maintenance, weekly_maintenance
from mimic_core import outcomes
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec
from resources.garbage import collect_garbage
from resources.maintenance import Terms
from resources.upkeep import maintain_all
from resources.usage import InUse

SOURCE, CONTRASTS = "haven.features", "haven.contrasts"
DAY = 24 * 3600.0


def contrast(**changes: object) -> ContrastSpec:
    document = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
    document |= {"decisions_per_individual": 2, "alternatives_per_decision": 2}
    return parse_spec(ContrastSpec, document | changes)


def dataset(table: str = "features", **changes: object) -> DatasetSpec:
    document = {"database": "haven", "table": table, "max_choices": 3, "features": ["size", "age"], "space": "s"}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "dataset": "d"} | changes)


@dg.op
def nothing() -> None:
    pass


@dg.job
def once() -> None:
    nothing()


def run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **options: object) -> dg.DagsterRun:
    return instance.create_run_for_job(once, status=status, **options)


def later(used: InUse, days: float = 30, **options: object) -> Terms:
    """The terms of maintenance some days from now, with the same runs still unfinished that are so now."""
    return Terms(in_use=InUse(since=used.since, pins=used.pins, runs=used.runs, asked=time.time() + days * DAY), **options)


def maintained(platform, used: InUse) -> None:
    results = list(maintain_all(platform.tables, platform.artefacts, [], lambda: later(used)))
    assert [result.error for result in results if result.error] == []
    collect_garbage(platform.artefacts, platform.specs, later(used))


# ---- what unfinished runs hold


def inference() -> InferenceSpec:
    document = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s"}
    run = {"experiment_name": "e", "run_id": "0" * 64, "upload_table": "scored"}
    return parse_spec(InferenceSpec, document | run)


@pytest.mark.parametrize("spec", [contrast(), dataset(), inference()], ids=lambda spec: spec.asset)
def test_a_build_notes_the_version_that_it_reads_and_holds_it_until_it_ends(platform, decision_table, spec):
    pin = platform.imported(decision_table())
    if isinstance(spec, InferenceSpec):  # a run without a model: the build fails after it pinned its source
        facts = {"version": "v", "spec": {"features": ["size", "age"]}}
        facts |= {"features": ["size", "age"], "missing_values_map": {"size": 0}}
        with platform.artefacts.publishing(spec.run_folder, "v", None) as publication:
            publication.publish(facts)
    result = platform.build(spec)
    tags = platform.instance.get_run_by_id(result.run_id).tags
    assert tags[PINS] == f'{{"{SOURCE}": [{pin.snapshot}]}}'
    assert in_use(platform.instance).pins == {}
    run(platform.instance, dg.DagsterRunStatus.STARTED, tags={PINS: tags[PINS]})
    assert in_use(platform.instance).pins == {SOURCE: {pin.snapshot}}


@pytest.mark.parametrize("status", ["NOT_STARTED", "CANCELING"])
def test_a_version_that_an_unfinished_run_pinned_survives_and_goes_once_the_run_ended(platform, decision_table, status):
    first = platform.imported(decision_table())
    platform.imported(decision_table((1, 2), test=(2,)))
    tags = {PINS: f'{{"{SOURCE}": [{first.snapshot}]}}'}
    live = run(platform.instance, dg.DagsterRunStatus(status), tags=tags)
    used = in_use(platform.instance)
    platform.tables.maintain(SOURCE, later(InUse(pins=used.pins)))
    assert sum(len(batch) for batch in platform.tables.batches(first)) == len(decision_table())
    platform.instance.report_run_failed(live)
    platform.tables.maintain(SOURCE, later(in_use(platform.instance)))
    assert platform.tables._load(SOURCE).snapshot_by_id(first.snapshot) is None


def test_a_run_that_repeats_another_counts_from_the_beginning_of_that_one_and_one_that_asks_not_at_all(platform):
    instance = platform.instance
    root = run(instance, dg.DagsterRunStatus.FAILURE, tags={PINS: '{"haven.features": [7]}'})
    began = instance.get_run_record_by_id(root.run_id).create_timestamp.timestamp()
    again = run(instance, dg.DagsterRunStatus.STARTED, root_run_id=root.run_id, parent_run_id=root.run_id)
    used = in_use(instance)
    assert (used.since, used.pins, used.runs) == (began, {SOURCE: {7}}, {root.run_id, again.run_id})
    assert in_use(instance, apart_from=again.run_id).runs == frozenset()


def test_maintenance_in_the_middle_of_a_build_leaves_what_it_read_and_staged(platform, decision_table, monkeypatch):
    for _ in range(2):
        platform.imported(decision_table())
        platform.built(contrast(), dataset("contrasts"))
    whole, done = outcomes.add_up, []

    def add_up(parts):
        terms = Terms(in_use=in_use(platform.instance), keep=0, grace=0)
        done.append([*maintain_all(platform.tables, platform.artefacts, [], lambda: terms)])
        done.append(collect_garbage(platform.artefacts, platform.specs, terms))
        return whole(parts)

    before = platform.manifest(dataset("contrasts"))
    monkeypatch.setattr(outcomes, "add_up", add_up)  # what a publishing step begins with, when all its shards are staged
    platform.built(contrast(), dataset("contrasts"))
    assert [result.error for result in done[0] if result.error] == []
    assert platform.manifest(dataset("contrasts"))["fingerprint"] == before["fingerprint"]
    assert len(platform.rows(CONTRASTS)) == 6 * 2 * 2 * 2


def test_a_build_that_is_executed_again_after_its_staged_files_went_says_so(platform, decision_table, monkeypatch):
    platform.imported(decision_table())
    platform.built(contrast())
    whole = outcomes.add_up

    def add_up(parts):
        for result in maintain_all(platform.tables, platform.artefacts, [], lambda: later(InUse())):
            assert not result.error
        return whole(parts)

    monkeypatch.setattr(outcomes, "add_up", add_up)
    assert "files that were staged for it are gone" in platform.refused(contrast(seed=1))
    assert len(platform.rows(CONTRASTS)) == 6 * 2 * 2 * 2


# ---- what stays up to date


def test_builds_are_as_up_to_date_after_maintenance_as_before(platform, decision_table):
    for _ in range(2):
        platform.imported(decision_table())
    specs = [contrast(), dataset("contrasts"), dataset(dataset="full")]
    for _ in range(2):
        platform.built(*specs)
    before = [platform.manifest(spec) for spec in specs]
    maintained(platform, InUse())
    assert [platform.manifest(spec) for spec in specs] == before
    assert len(list(Path(platform.artefacts.where("s-tfrecords/d")).iterdir())) == 2
    platform.built(*specs[1:], specs[0])
    assert [platform.manifest(spec)["fingerprint"] for spec in specs] == [document["fingerprint"] for document in before]


def test_a_compacted_source_gives_the_same_dataset(platform, decision_table, tmp_path):
    table = decision_table()
    platform.imported(table.slice(0, 10))
    for start in range(10, len(table), 10):
        pq.write_table(table.slice(start, 10), tmp_path / "more.parquet")
        platform.tables.import_files(SOURCE, [tmp_path / "more.parquet"], append=True)
    platform.built(dataset())
    before = platform.manifest(dataset())
    assert platform.tables.maintain(SOURCE, later(InUse())).compacted == 5
    platform.built(dataset())
    after = platform.manifest(dataset())
    assert (after["fingerprint"], after["files"]) == (before["fingerprint"], before["files"])


def test_a_dataset_is_built_from_the_contrasts_that_are_published_whatever_maintenance_did_to_newer_ones(
    platform, decision_table
):
    platform.imported(decision_table())
    platform.built(contrast())
    published = platform.manifest(contrast())["snapshot"]
    rows = platform.rows(CONTRASTS)
    platform.tables.replace(CONTRASTS, [platform.tables.stage(CONTRASTS, [rows.slice(0, 2)])], None)  # and then it died
    maintained(platform, InUse())
    platform.built(dataset("contrasts"))
    assert platform.manifest(dataset("contrasts"))["counts"]["rows"] == len(rows)
    assert platform.tables._load(CONTRASTS).snapshot_by_id(published)


# ---- the job


def execute(platform, **config: object) -> dg.ExecuteInProcessResult:
    job = platform.definitions().resolve_job_def(maintenance.name)
    steps = {name: {"config": config} for name in ("maintain_tables", "collect_garbage")}
    return job.execute_in_process(instance=platform.instance, run_config={"ops": steps} if config else None)


def shown(result: dg.ExecuteInProcessResult, step: str) -> dict[str, object]:
    (output,) = [event for event in result.all_events if event.is_successful_output and event.step_key == step]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_the_job_needs_no_config_and_removes_nothing_that_is_younger_than_a_day(platform, decision_table):
    for _ in range(2):
        platform.imported(decision_table())
        platform.built(dataset())
    result = execute(platform)
    assert result.success
    assert shown(result, "maintain_tables")["expired"] == 0
    assert shown(result, "collect_garbage")["removed"] == 0


def test_the_job_shows_what_it_removed_does_not_wait_for_itself_and_a_dry_run_removes_nothing(platform, decision_table):
    for _ in range(2):
        platform.imported(decision_table())
        platform.built(dataset())
    tried = execute(platform, keep_days=0, grace_hours=0, dry_run=True)
    assert len(list(Path(platform.artefacts.where("s-tfrecords/d")).iterdir())) == 3
    result = execute(platform, keep_days=0, grace_hours=0)
    for step, name, wanted in (("maintain_tables", "expired", 2), ("collect_garbage", "removed", 1)):
        assert shown(tried, step)[name] == shown(result, step)[name] == wanted
    assert shown(result, "maintain_tables")["files"] == 5
    assert shown(result, "collect_garbage")["bytes"] > 0
    assert len(list(Path(platform.artefacts.where("s-tfrecords/d")).iterdir())) == 2


def test_the_schedule_is_off_until_somebody_turns_it_on():
    assert weekly_maintenance.default_status is dg.DefaultScheduleStatus.STOPPED
    assert weekly_maintenance.job_name == "maintenance"
