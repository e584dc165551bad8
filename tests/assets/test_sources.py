"""Source tables: what an observation says of each table, whether Dagster makes it or the command line reports it."""

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from resources.tables import RESULTS

SOURCE, OTHER = "haven.features", "haven.others"
TYPES = {
    "_individual": "int64",
    "_decision": "int64",
    "_choice": "int64",
    "_selected": "bool",
    "_train": "bool",
    "size": "double",
    "age": "double",
}


def observed(platform):
    """Observe the source tables as the UI would; returns the events by table."""
    observing = dg.Definitions(jobs=[dg.define_asset_job("observe", selection=["source_table"])])
    job = dg.Definitions.merge(platform.definitions(), observing).resolve_job_def("observe")
    result = job.execute_in_process(instance=platform.instance)
    return {event.partition: event for event in result.asset_observations_for_node("source_table")}


def shown(event):
    """The metadata of an observation, as plain values."""
    return {name: value.value for name, value in event.metadata.items()}


def columns(event):
    return {column.name: column.type for column in shown(event)["dagster/column_schema"].columns}


def observations(instance, name=SOURCE):
    """The stored observations of a table, the oldest first."""
    of = dg.AssetRecordsFilter(asset_key=dg.AssetKey("source_table"), asset_partitions=[name])
    records = instance.fetch_observations(of, limit=10, ascending=True).records
    return [record.asset_observation for record in records]


def run_import(table, *arguments, name=SOURCE):
    """Import a table by the command line."""
    pq.write_table(table, "table.parquet")
    return CliRunner().invoke(main, ["tables", "import", name, "table.parquet", *arguments], prog_name="mimic")


@pytest.fixture
def instance(home):
    """The instance under DAGSTER_HOME, that the command line opens too."""
    (home / "dagster").mkdir()
    (home / "dagster/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_an_observation_says_rows_columns_version_and_types_of_every_table(platform, decision_table):
    tables = {SOURCE: decision_table(), OTHER: decision_table((1, 2)).drop_columns(["age"])}
    pins = {name: platform.imported(table, name) for name, table in tables.items()}
    events = observed(platform)
    assert set(events) == {SOURCE, OTHER}
    for name, table in tables.items():
        facts = shown(events[name])
        assert facts["dagster/row_count"] == facts["rows"] == len(table)
        assert (facts["columns"], facts["version"]) == (table.num_columns, pins[name].token)
        assert columns(events[name]) == {column: TYPES[column] for column in table.column_names}


def test_the_data_version_of_an_observation_is_the_content_token_of_its_table(platform, decision_table):
    pins = {name: platform.imported(decision_table(seed=seed), name) for seed, name in enumerate((SOURCE, OTHER))}
    events = observed(platform)
    assert {name: event.tags["dagster/data_version"] for name, event in events.items()} == {
        name: pin.token for name, pin in pins.items()
    }
    assert len({pin.token for pin in pins.values()}) == 2


def test_only_the_table_that_was_imported_again_has_another_version(platform, decision_table):
    for name in (SOURCE, OTHER):
        platform.imported(decision_table(), name)
    before = observed(platform)
    platform.imported(decision_table((1, 2, 3)), OTHER)
    after = observed(platform)
    assert shown(after[SOURCE])["version"] == shown(before[SOURCE])["version"]
    assert shown(after[OTHER])["version"] != shown(before[OTHER])["version"]
    assert shown(after[OTHER])["rows"] == len(decision_table((1, 2, 3)))


def test_observations_stay_with_their_partition(platform, decision_table):
    for name in (SOURCE, OTHER):
        platform.imported(decision_table(), name)
    for _ in range(2):
        observed(platform)
    for name in (SOURCE, OTHER):
        assert [event.partition for event in observations(platform.instance, name)] == [name] * 2


def test_tables_that_mimic_makes_are_not_observed_as_sources(platform, decision_table):
    platform.imported(decision_table())
    platform.tables.ensure("haven.results", pa.schema([("run_id", pa.string())]), kind=RESULTS, partition_by=["run_id"])
    assert set(observed(platform)) == {SOURCE}


def test_there_is_nothing_to_observe_before_the_first_import(platform):
    assert observed(platform) == {}


def test_an_import_by_the_command_line_reports_what_it_imported(instance, decision_table):
    result = run_import(decision_table())
    assert result.exit_code == 0, result.output
    (event,) = observations(instance)
    facts = shown(event)
    assert facts["dagster/row_count"] == facts["rows"] == len(decision_table())
    assert (facts["columns"], columns(event)) == (len(TYPES), TYPES)
    assert event.tags["dagster/data_version"] == facts["version"] == result.output.split()[-1]
    assert list(instance.get_dynamic_partitions("source_tables")) == [SOURCE]


def test_an_import_reports_the_same_as_an_observation_afterwards(platform, instance, decision_table):
    assert run_import(decision_table()).exit_code == 0
    (reported,) = observations(instance)
    event = observed(platform)[SOURCE]
    assert shown(event) == shown(reported)
    assert event.tags["dagster/data_version"] == reported.tags["dagster/data_version"]


def test_every_import_is_reported_with_the_rows_that_the_table_has_then(instance, decision_table):
    rows = len(decision_table((1, 2)))
    for table, arguments in (((1, 2), []), ((3, 6), ["--append"]), ((1, 2), [])):
        assert run_import(decision_table(table), *arguments).exit_code == 0
    found = [shown(event) for event in observations(instance)]
    assert [facts["rows"] for facts in found] == [rows, 2 * rows, rows]
    assert found[0]["version"] == found[2]["version"] != found[1]["version"]


def test_an_import_that_fails_reports_nothing(instance, decision_table):
    assert run_import(decision_table()).exit_code == 0
    assert run_import(pa.table({"size": ["large"]}), "--append").exit_code == 2
    assert run_import(decision_table(), name="features").exit_code == 2
    assert len(observations(instance)) == 1
    assert list(instance.get_dynamic_partitions("source_tables")) == [SOURCE]
