"""External tables through Dagster: what is built from registered files is what is built from imported ones."""

import os
import shutil

import dagster as dg
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec

SOURCE = {"database": "haven", "train_partitions": 2, "test_partitions": 1}
FEATURES = {"features": ["size", "age"]}
MISSING = {"missing_values_map": {"size": 0}}
PLACE = {"space": "s", "dataset": "d"}
DATASET = SOURCE | FEATURES | MISSING | PLACE | {"max_choices": 3}
EXPERIMENT = FEATURES | PLACE | {"experiment_name": "e", "max_choices": 3, "database": "haven", "table": "results"}
EXPERIMENT |= {"models": [{"layers": [], "epochs": 3}]}
CONTRAST = SOURCE | {"destination_table": "pairs", "decisions_per_individual": 1, "alternatives_per_decision": 1}


@pytest.fixture
def hive(platform, decision_table):
    """The decision table as people have it: folders by flag, and files of a few rows each."""
    table = decision_table()
    keys = ds.partitioning(pa.schema([("_train", pa.bool_())]), flavor="hive")
    where = platform.home / "files"
    ds.write_dataset(
        table, where, format="parquet", partitioning=keys, max_rows_per_file=20, max_rows_per_group=20, min_rows_per_group=1
    )
    platform.imported(table, "haven.imported")
    platform.tables.register("haven.registered", where)
    return where


def test_datasets_contrasts_and_inferences_from_registered_files_are_those_of_imported_ones(platform, hive):
    built = {}
    for name in ("imported", "registered"):
        dataset = parse_spec(DatasetSpec, DATASET | {"table": name})
        (run,) = parse_spec(ExperimentSpec, EXPERIMENT).runs
        inference = {
            "table": name,
            "run_id": run.run_id,
            "experiment_name": "e",
            "space": "s",
            "upload_table": f"{name}_out",
        }
        contrast = parse_spec(ContrastSpec, CONTRAST | {"source_table": name, "destination_table": f"{name}_pairs"})
        platform.built(dataset, run, parse_spec(InferenceSpec, SOURCE | FEATURES | inference), contrast)
        files = [entry["sha256"] for entry in platform.manifest(dataset)["files"]]
        scored = platform.rows(f"haven.{name}_out").select(["_individual", "_decision", "_choice", "probability"])
        built[name] = (files, scored, platform.rows(f"haven.{name}_pairs").select(["_individual", "_old_choice", "size"]))
    assert built["imported"] == built["registered"]


def test_a_dataset_says_which_files_it_was_built_from_and_later_ones_are_another_version(platform, hive):
    spec = parse_spec(DatasetSpec, DATASET | {"table": "registered"})
    platform.built(spec)
    token = platform.tables.pin("haven.registered").token
    assert platform.manifest(spec)["inputs"]["source_table"]["token"] == token
    os.utime(next(hive.rglob("*.parquet")), ns=(0, 0))
    platform.built(spec)
    assert platform.manifest(spec)["inputs"]["source_table"]["token"] != token


def test_files_that_are_gone_fail_the_build_with_what_to_do(platform, hive):
    hive.rename(platform.home / "elsewhere")
    message = platform.refused(parse_spec(DatasetSpec, DATASET | {"table": "registered"}))
    assert f"table haven.registered: its files at {hive} cannot be found" in message
    assert "`mimic tables register haven.registered LOCATION`" in message


def mimic(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="mimic")


def test_the_command_registers_reports_and_shows_where_a_table_lies(platform, hive):
    result = mimic("tables", "register", "haven.again", "files")
    assert result.exit_code == 0, result.output
    pin = platform.tables.pin("haven.again")
    assert result.stdout == f"haven.again: {pin.rows} rows, 7 columns, version {pin.token}\n"
    assert f"external: its files are at {hive} and only read" in mimic("tables", "show", "haven.again").stdout
    (line,) = [line for line in mimic("tables", "list").stdout.splitlines() if "haven.again" in line]
    assert f"source, external at {hive}" in line
    assert "haven.again" in mimic("status").stdout


def test_a_registration_is_observed_as_an_import_is(platform, hive):
    mimic("tables", "register", "haven.again", hive)
    with dg.DagsterInstance.get() as instance:
        of = dg.AssetRecordsFilter(asset_key=dg.AssetKey("source_table"), asset_partitions=["haven.again"])
        (record,) = instance.fetch_observations(of, limit=5).records
        assert "haven.again" in instance.get_dynamic_partitions("source_tables")
    token = platform.tables.pin("haven.again").token
    assert record.asset_observation.tags["dagster/data_version"] == token
    assert record.asset_observation.metadata["rows"].value == platform.tables.pin("haven.again").rows


def test_a_table_whose_files_are_gone_is_an_error_in_the_log_and_the_others_are_observed(
    platform, hive, decision_table, capfd
):
    platform.imported(decision_table(), "haven.zoo")
    hive.rename(platform.home / "elsewhere")
    observing = dg.Definitions(jobs=[dg.define_asset_job("observe", selection=["source_table"])])
    job = dg.Definitions.merge(platform.definitions(), observing).resolve_job_def("observe")
    result = job.execute_in_process(instance=platform.instance, raise_on_error=False)
    events = result.asset_observations_for_node("source_table")
    assert [event.partition for event in events] == ["haven.imported", "haven.zoo"]
    logged = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert len(logged) == 1
    assert "table haven.registered: its files at" in logged[0]


def test_tables_whose_files_are_gone_do_not_hide_the_others(platform, hive):
    hive.rename(platform.home / "elsewhere")
    for command in (("tables", "list"), ("status",)):
        result = mimic(*command)
        assert result.exit_code == 0, result.output
        assert "haven.imported" in result.stdout
        assert "haven.registered" in result.output
        assert str(hive) in result.output


@pytest.mark.parametrize(("location", "problem"), [("nothing", "there is no such file"), ("a.csv", "mimic tables import")])
def test_what_cannot_be_registered_ends_with_exit_code_2(platform, location, problem):
    (platform.home / "a.csv").write_text("_individual\n1\n")
    result = mimic("tables", "register", "haven.again", location)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr


def test_files_that_change_while_they_are_read_and_come_back_are_known_for_what_they_are(
    platform, decision_table, monkeypatch
):
    files, kept = platform.home / "files", platform.home / "kept"
    platform.imported(decision_table(), "haven.imported")
    files.mkdir()
    (platform.home / "table.parquet").rename(files / "part.parquet")
    shutil.copytree(files, kept)
    platform.tables.register("haven.registered", files)
    token = platform.tables.pin("haven.registered").token
    pin = type(platform.tables).pin

    def changing(tables, name, *version):
        if name == "haven.registered":
            pq.write_table(decision_table(seed=1), files / "part.parquet")
        return pin(tables, name, *version)

    with monkeypatch.context() as patch:
        platform.inventory.sources()
        platform.inventory.index.facts("external tables", {}, dict)  # forgets them
        patch.setattr(type(platform.tables), "pin", changing)
        platform.inventory.sources()
    shutil.copytree(kept, files, dirs_exist_ok=True)  # with their times
    assert platform.inventory.sources()["haven.registered"].token == token
