"""What people do from the pages alone, clicked in a real browser over `mimic dev`; each test goes on where the last ended.

The pictures that they keep are those of docs/tour.md.
"""

from pathlib import Path
from typing import Any

import dagster as dg
from playwright.sync_api import expect

from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, RunSpec

COMMON: dict[str, Any] = {"space": "travel", "database": "travel", "features": ["minutes", "francs", "by_train", "by_bus"]}
TRIPS = COMMON | {"table": "trips", "dataset": "trips", "max_choices": 3}
WEEKEND = COMMON | {"table": "weekend_trips", "dataset": "weekend", "max_choices": 3}
PAIRS = {"database": "travel", "source_table": "weekend_trips", "destination_table": "weekend_pairs"}
PAIRS |= {"decisions_per_individual": 4, "alternatives_per_decision": 1}

MODE_CHOICE = COMMON | {"experiment_name": "mode-choice", "dataset": "trips", "max_choices": 3, "table": "results"}
NETWORK = {"layers": ["D4"], "epochs": 8, "batch_size": 64, "optimizer_kwargs": {"learning_rate": 0.01}}
LONG = MODE_CHOICE | {"experiment_name": "patience", "models": [NETWORK | {"batch_size": 4, "epochs": 5000}]}
MODE_CHOICE |= {"models": [{"layers": []}, NETWORK]}
RUNS = parse_spec(ExperimentSpec, MODE_CHOICE).runs
(LONG_RUN,) = parse_spec(ExperimentSpec, LONG).runs

SCORED = COMMON | {"table": "trips", "train_partitions": 2, "upload_table": "scored_trips"}
SCORED |= {"experiment_name": "mode-choice", "run_id": RUNS[1].run_id}
INFERENCE = parse_spec(InferenceSpec, SCORED)
WEEKEND_FOLDERS = [parse_spec(DatasetSpec, WEEKEND).folder, parse_spec(ContrastSpec, PAIRS).folder]
SEEDS = {name: value for name, value in LONG.items() if name != "models"} | {"experiment_name": "seeds"}
MINUTE = 60_000  # milliseconds
HELD = "2 builds wait for approval"


def test_what_a_form_registers_with_build_is_built_by_the_daemon(clicks):
    clicks.register("register_dataset", specs=[TRIPS, WEEKEND], build=True, picture="register-dataset")
    clicks.register("register_contrast_set", specs=[PAIRS], build=True)
    clicks.look_at("tfrecord_dataset", "travel/trips")
    clicks.shows(rows=5022, train_decisions=1440, test_decisions=360)
    clicks.picture("dataset", upper=780)
    document = clicks.manifest("travel-tfrecords/trips")
    assert document["counts"]["rows"] == 5022
    folder = Path(clicks.artefacts.where(f"travel-tfrecords/trips/{document['version']}"))
    assert all((folder / file["path"]).stat().st_size == file["bytes"] for file in document["files"])


def test_a_source_table_is_looked_at_before_anything_is_made_of_it(clicks, wait_until):
    seen = dg.AssetKey("source_table")
    wait_until(lambda: "travel.trips" in clicks.instance.get_materialized_partitions(seen), "the sensor looks at the table")
    clicks.asset("source_table", "partitions", partition="travel.trips")
    clicks.shows(rows=5022)
    clicks.picture("source-table")


def test_a_backfill_trains_all_runs_of_an_experiment_and_of_no_other(clicks, fails_once):
    specs = [MODE_CHOICE, LONG]
    clicks.register("register_experiment", specs=specs, layers_file=fails_once, picture="register-experiment")
    clicks.materialize("model_run", "mode-choice/", runs=len(RUNS), picture="backfill")
    for run in RUNS:
        (built,) = clicks.wait_for_runs(run.key)
        assert built.status is dg.DagsterRunStatus.SUCCESS
        assert "dagster/backfill" in built.tags
        assert clicks.manifest(run.folder)["counts"]["epochs"] >= 1
    assert not clicks.runs(dagster__partition=LONG_RUN.key)
    clicks.look_at("model_run", RUNS[1].key)
    clicks.shows_picture("learning_curve")
    clicks.picture("run")


def test_a_long_step_shows_its_progress_and_is_canceled_with_nothing_half_published(clicks, wait_until):
    clicks.materialize("model_run", "patience/")
    run = clicks.open_run(LONG_RUN.key)
    wait_until(clicks.newest_epoch, "the first epoch on the page")
    first = clicks.newest_epoch()
    wait_until(lambda: clicks.newest_epoch() > first, "a later epoch on the page", seconds=10)
    clicks.picture("progress")
    clicks.terminate()
    clicks.wait_for_end("Canceled")
    clicks.picture("canceled-run", upper=425)
    clicks.wait_for_runs(LONG_RUN.key)
    assert clicks.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert clicks.manifest(LONG_RUN.folder) is None
    assert [path.name for path in Path(clicks.artefacts.where(LONG_RUN.folder)).iterdir()] == ["training"]  # its checkpoint
    rows = clicks.rows("travel.results")
    assert {row["finished"] for row in rows if row["run_id"] == LONG_RUN.run_id} == {False}
    assert {row["run_id"] for row in rows if row["finished"]} == {run.run_id for run in RUNS}
    clicks.look_at("model_run", LONG_RUN.key, becomes="was canceled, and did not materialize this asset")


def test_the_leaderboard_of_an_experiment_is_a_click_away(clicks):
    clicks.materialize("experiment_report", "mode-choice")
    clicks.look_at("experiment_report", "travel/mode-choice")
    document = clicks.manifest("travel-reports/mode-choice")
    assert document["counts"]["ranked_runs"] == len(RUNS)
    for run in RUNS:
        expect(clicks.page.get_by_role("cell", name=run.run_id[:8]).first).to_be_visible()
    clicks.picture("leaderboard", at="conclusion")


def test_only_the_failed_shard_and_the_commit_run_again(clicks):
    (clicks.home / "fail").touch()
    clicks.register("register_inference", specs=[SCORED], build=True, picture="register-inference")
    (failed,) = clicks.wait_for_runs(INFERENCE.key)
    assert failed.status is dg.DagsterRunStatus.FAILURE
    assert clicks.manifest(INFERENCE.folder) is None
    clicks.open_run(INFERENCE.key)
    clicks.wait_for_end("Failure")
    expect(clicks.page.get_by_text("Succeeded (2)")).to_be_visible()
    expect(clicks.page.get_by_text("Errored (1)")).to_be_visible()
    clicks.picture("failed-shard", upper=425)
    clicks.reexecute_from_failure()
    steps = {"inference_table.score_part[part_00001]", "inference_table.publish_inference"}
    assert clicks.succeeded_steps(len(steps)) == steps
    assert clicks.manifest(INFERENCE.folder)["counts"]["rows"] == 5022
    clicks.look_at("inference_table", INFERENCE.key)
    clicks.shows(rows=5022, decisions=1800)
    clicks.picture("inference")


def test_a_rebuild_that_is_held_is_approved(clicks, import_trips, wait_until):
    before = [clicks.manifest(folder)["fingerprint"] for folder in WEEKEND_FOLDERS]
    import_trips("travel.weekend_trips", seed=8)
    clicks.switch_on("rebuild_sensor")
    wait_until(lambda: clicks.held_by("rebuild_sensor", HELD), "the sensor holds the builds")
    clicks.open(f"/locations/{clicks.location}/sensors/rebuild_sensor")
    clicks.page.get_by_text("0 runs requested").nth(1).hover()
    expect(clicks.page.get_by_text(HELD).first).to_be_visible()
    clicks.picture("held-rebuild", pointing=True)
    assert [clicks.manifest(folder)["fingerprint"] for folder in WEEKEND_FOLDERS] == before
    clicks.open(f"/locations/{clicks.location}/jobs/approve_rebuild/playground")
    clicks.launch()
    clicks.picture("approve-rebuild")
    wait_until(
        lambda: all(clicks.manifest(folder)["fingerprint"] not in before for folder in WEEKEND_FOLDERS),
        "both are built anew",
    )
    clicks.open("/automation")
    expect(clicks.page.get_by_text("rebuild_sensor", exact=True)).to_be_visible()
    clicks.picture("sensors")


def test_the_lineage_the_overview_and_the_checks_say_how_everything_stands(clicks):
    clicks.open("/asset-groups")
    expect(clicks.page.get_by_text("inferences").first).to_be_visible()
    clicks.page.keyboard.press("Alt+E")  # expand all groups
    expect(clicks.page.get_by_text("inference_table").first).to_be_visible()
    clicks.picture("lineage")
    clicks.asset("overview")
    expect(clicks.page.get_by_text("stages", exact=True)).to_be_visible()
    clicks.picture("overview")
    clicks.asset("inference_table", "checks")
    expect(clicks.page.get_by_text("Latest execution")).to_be_visible()
    clicks.picture("checks")


def test_two_thousand_runs_are_found_and_the_sensors_keep_up(clicks, publish_runs, wait_until):
    specs = [RunSpec(**{**SEEDS, "model": NETWORK | {"seed": seed}}) for seed in range(2_000)]
    publish_runs(specs, built=100)
    last = specs[99]
    clicks.asset("model_run", "partitions")
    expect(clicks.page.get_by_text(f"{2_000 + len(RUNS) + 1:,} Partitions Selected")).to_be_visible(timeout=MINUTE)
    expect(clicks.page.get_by_text(f"Materialized ({100 + len(RUNS)})")).to_be_visible()
    clicks.page.get_by_placeholder("Filter by name…").fill(last.run_id[:8])
    clicks.page.get_by_text(last.key, exact=True).first.click()
    clicks.shows(epochs=8)
    clicks.picture("two-thousand-runs")
    wait_until(lambda: all(clicks.is_answered("model_run", spec.key) for spec in specs[:100]), "all are answered")
    clicks.asset("model_run")
    expect(clicks.page.get_by_text("Latest check results")).to_be_visible(timeout=MINUTE)
    assert not clicks.lies_over("travel/", "Latest check results")
    # what is not built is many builds at once, so the sensor that rebuilds goes on holding them
    wait_until(lambda: clicks.held_by("rebuild_sensor", "1900 builds wait for approval"), "the sensor holds the builds")
