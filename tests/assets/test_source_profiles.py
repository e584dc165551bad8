"""Profiles of source tables through Dagster: which runs the sensor asks for, and what they say."""

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mimic_assets.choices_shown import paired_shown
from mimic_assets.cli.main import main
from mimic_core.freshness import SECONDS_PER_DAY
from mimic_core.profiles import alternatives_document, count_alternatives
from resources.profiles import forget_profile

NAME, SENSOR = "haven.features", "source_table_sensor"
CHECKS = ("decision_table_contract", "individuals_disjoint", "freshness")


def run_wanted(sensors):
    """Tick, and execute what is asked for; returns the tables that the run looks into, and those whose age it judges."""
    tick = sensors.tick(SENSOR)
    if not tick.requests:
        return None
    (request,) = tick.requests
    assert sensors.execute(request)
    config = request.run_config["ops"]["source_table"]["config"]
    return config["tables"], config["ages_of"]


def newest(platform, name=NAME):
    """What the page of a table shows."""
    of = dg.AssetRecordsFilter(asset_key=dg.AssetKey("source_table"), asset_partitions=[name])
    return platform.instance.fetch_materializations(of, limit=1).records[0].asset_materialization


def answers(platform, check, name=NAME):
    """The stored answers of a check of a table: whether it passed, how severe that is and what it says; the newest first."""
    key = dg.AssetCheckKey(dg.AssetKey("source_table"), check)
    history = platform.instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
    events = [record.event.dagster_event for record in history]
    found = [event.asset_check_evaluation_data for event in events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    return [(answer.passed, answer.severity.value, answer.description) for answer in found if answer.partition == name]


def with_alternatives(table):
    labels = pa.array([("bus", "car", "walk")[choice] for choice in table["_choice"].to_pylist()])
    return table.append_column("_alternative", labels)


def test_a_table_that_changed_is_looked_into_once_and_its_page_is_rich(sensors, decision_table):
    platform = sensors.platform
    pin = platform.imported(with_alternatives(decision_table()))
    assert run_wanted(sensors) == ([NAME], [])
    shown = {name: value.value for name, value in newest(platform).metadata.items()}
    assert newest(platform).tags["dagster/data_version"] == pin.token
    assert (shown["decisions"], shown["train_decisions"], shown["test_individuals"]) == (18, 15, 1)
    assert (shown["largest_choice_set"], shown["features_with_missing_values"], shown["rows"]) == (3, 1, 42)
    assert all(shown[name].startswith("![") for name in ("choice_sets", "alternatives"))
    assert "| bus | 18 |" in shown["alternatives_table"]
    assert "| size | 1 | 0 |" in shown["features_table"]
    assert [answers(platform, check)[0][0] for check in CHECKS] == [True] * 3
    assert run_wanted(sensors) is None
    assert platform.instance.get_materialized_partitions(dg.AssetKey("source_table")) == {NAME}

    platform.imported(decision_table(seed=1))
    assert run_wanted(sensors) == ([NAME], [])
    assert newest(platform).tags["dagster/data_version"] != pin.token
    assert len(answers(platform, "freshness")) == 2
    profiles = list(Path(platform.artefacts.where(f"source-profiles/{NAME}")).iterdir())
    assert len(profiles) == 1


def test_a_run_that_is_unfinished_holds_back_the_next_and_one_that_ends_nothing_is_not_repeated_for_ever(
    sensors, decision_table
):
    platform = sensors.platform
    platform.imported(decision_table())
    job = platform.definitions().resolve_job_def("profile_sources")
    run = platform.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    tick = sensors.tick(SENSOR)
    assert tick.requests == []
    assert "unfinished" in tick.skipped
    platform.instance.report_run_failed(run)
    assert [len(sensors.tick(SENSOR).requests) for _ in range(3)] == [1, 1, 0]
    assert "press Observe" in sensors.tick(SENSOR).skipped


def test_broken_tables_fail_their_checks_and_a_table_whose_files_are_gone_holds_up_no_other(sensors, decision_table):
    platform = sensors.platform
    table = decision_table()
    leaking = table.set_column(4, "_train", pa.array([row % 2 == 0 for row in range(len(table))]))
    platform.imported(leaking)
    platform.imported(table.drop_columns(["_choice"]), "haven.lacking")
    for name in ("gone", "scored"):
        pq.write_table(table.drop_columns(["_train"]), platform.home / f"{name}.parquet")
        platform.tables.register(f"haven.{name}", platform.home / f"{name}.parquet")
    (platform.home / "gone.parquet").unlink()
    assert run_wanted(sensors) == (["haven.gone", "haven.features", "haven.lacking", "haven.scored"], [])
    assert answers(platform, "individuals_disjoint") == [(False, "ERROR", "6 individuals have rows in both splits")]
    assert answers(platform, "decision_table_contract")[0][:2] == (False, "ERROR")
    (lacking,) = answers(platform, "decision_table_contract", "haven.lacking")
    assert lacking[:2] == (False, "ERROR")
    assert "column '_choice' is missing" in lacking[2]
    assert "problem" in newest(platform, "haven.lacking").metadata
    assert answers(platform, "individuals_disjoint", "haven.scored") == [
        (True, "ERROR", "the table has no splits: no column _train")
    ]
    assert "it can be scored" in answers(platform, "decision_table_contract", "haven.scored")[0][2]
    broken = platform.inventory.world().broken
    assert broken.keys() == {NAME, "haven.lacking"}
    assert broken[NAME].startswith("breaks the decision-table contract: individuals in both train and test: 6 (")
    assert broken["haven.lacking"].startswith("table haven.lacking is no decision table: column '_choice' is missing; its")
    said = CliRunner().invoke(main, ["status"]).stdout
    assert f"source_table {NAME}: {broken[NAME]}; see `mimic tables check {NAME}`\n" in said
    assert run_wanted(sensors) is None
    platform.imported(table)  # nobody looked into that yet
    assert platform.inventory.world().broken.keys() == {"haven.lacking"}


def test_a_table_that_cannot_be_read_any_more_fails_its_checks_until_it_can_be(sensors, decision_table):
    platform = sensors.platform
    file = platform.home / "table.parquet"
    pq.write_table(decision_table(), file)
    platform.tables.register(NAME, file)
    assert run_wanted(sensors) == ([NAME], [])
    file.rename(platform.home / "elsewhere.parquet")
    assert run_wanted(sensors) == ([NAME], [])
    assert f"table {NAME}: its files at {file} cannot be found" in answers(platform, "decision_table_contract")[0][2]
    assert [names for check, names in passed(platform).items() if check != "freshness"] == [set(), set()]
    assert run_wanted(sensors) is None
    (platform.home / "elsewhere.parquet").rename(file)
    assert run_wanted(sensors) == ([NAME], [])
    assert passed(platform) == {check: {NAME} for check in CHECKS}
    assert run_wanted(sensors) is None


def test_a_table_that_was_removed_has_no_partition_any_more_and_comes_back_with_its_page(sensors, decision_table):
    platform = sensors.platform
    for name in (NAME, "haven.other"):
        platform.imported(decision_table(), name)
    assert run_wanted(sensors) == ([NAME, "haven.other"], [])
    platform.tables.remove(NAME)
    assert run_wanted(sensors) is None
    assert platform.instance.get_dynamic_partitions("source_tables") == ["haven.other"]
    forget_profile(platform.artefacts, NAME)  # as the command does
    platform.imported(decision_table())
    assert run_wanted(sensors) == ([NAME], [])
    assert len(answers(platform, "freshness")) == 2


def test_to_register_the_same_files_again_keeps_the_page_and_the_answers(sensors, decision_table):
    platform = sensors.platform
    file = platform.home / "table.parquet"
    pq.write_table(decision_table(), file)
    for _ in range(2):
        assert CliRunner().invoke(main, ["tables", "register", NAME, str(file)]).exit_code == 0
        run_wanted(sensors)
        assert "choice_sets" in newest(platform).metadata
        assert passed(platform) == {check: {NAME} for check in CHECKS}


def test_a_table_that_became_too_old_is_said_to_be_without_reading_it_again(sensors, decision_table, monkeypatch):
    platform = sensors.platform
    monkeypatch.setenv("MIMIC_FRESH_DAYS", "2")
    platform.imported(decision_table())
    assert run_wanted(sensors) == ([NAME], [])
    changed = platform.inventory.sources()[NAME].changed_at
    for days, expected in ((1.9, None), (2.1, ([], [NAME])), (3, None)):
        monkeypatch.setattr("time.time", lambda days=days: changed + days * SECONDS_PER_DAY)
        assert run_wanted(sensors) == expected
    late, early = answers(platform, "freshness")
    assert early[0]
    assert late == (False, "WARN", "changed 2.1 days ago; expected within 2 days")
    assert len(answers(platform, "decision_table_contract")) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_observe_in_the_ui_looks_into_all_tables_and_shows_the_pictures_again(sensors, decision_table, times):
    platform = sensors.platform
    for name in (NAME, "haven.other"):
        platform.imported(decision_table(), name)
    observing = dg.Definitions(jobs=[dg.define_asset_job("observe", selection=["source_table"])])
    job = dg.Definitions.merge(platform.definitions(), observing).resolve_job_def("observe")
    for _ in range(times):
        result = job.execute_in_process(instance=platform.instance)
        events = result.asset_materializations_for_node("source_table")
        assert {event.partition for event in events} == {NAME, "haven.other"}
        assert all("choice_sets" in event.metadata for event in events)
    assert len(answers(platform, "freshness")) == times
    assert run_wanted(sensors) is None


def test_an_answer_counts_for_its_partition_until_the_table_is_another_one(sensors, decision_table):
    platform = sensors.platform
    platform.imported(decision_table())
    run_wanted(sensors)
    assert passed(platform) == {check: {NAME} for check in CHECKS}
    platform.imported(decision_table(seed=1))
    sensors.tick(SENSOR)  # which reports what the table holds now, and only asks for a run
    assert passed(platform) == {check: set() for check in CHECKS}


def test_of_pairs_the_selected_and_the_rejected_choices_are_shown_by_their_labels():
    pairs = pa.table({"_alternative": ["bus", "car", "bus", "walk"], "_selected": [True, False, False, True]})
    shown = paired_shown(alternatives_document(count_alternatives(pairs)))
    assert shown["alternatives"].value.startswith("![shares of alternatives]")
    assert [line for line in shown["alternatives_table"].value.splitlines() if "bus" in line] == ["| bus | 1 | 1 | 0.5000 |"]


def passed(platform):
    """The tables that pass each check, as the page of the check lists them."""
    found = {}
    for check in CHECKS:
        key = dg.AssetCheckKey(dg.AssetKey("source_table"), check)
        infos = platform.instance.event_log_storage.get_asset_check_partition_info([key])
        found[check] = {
            info.partition_key for info in infos if info.is_current and info.latest_execution_status.value == "SUCCEEDED"
        }
    return found
