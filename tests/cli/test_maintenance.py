"""`mimic tables maintain`, `mimic gc` and `mimic runs retire`: what they remove, what they refuse, and what they say."""

import json
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.specs import SpecStore

MODELS = [{"layers": []}, {"layers": [], "seed": 1}, {"layers": [], "seed": 2}]


def listing(folder: Path) -> dict[str, int]:
    found = {str(path): path.stat().st_mtime_ns for path in (folder / "mimic").rglob("*") if path.is_file()}
    return {name: changed for name, changed in found.items() if "/catalog.db" not in name and "/locks/" not in name}


def trained(mimic, count: int) -> list[str]:
    """Train linear runs; returns their ids."""
    runs = mimic.partitions("log-odds", "run-experiment", mimic.experiment(models=MODELS[:count]))
    return [run["run_id"] for run in runs]


def registered(mimic, count: int = 2) -> list[str]:
    """Register linear runs without training them; returns their ids."""
    config = mimic.experiment(models=MODELS[:count])
    return [run["run_id"] for run in mimic.partitions("log-odds", "run-experiment", config, "--register-only")]


def status(mimic) -> dict[str, str]:
    return {row["key"]: row["state"] for row in mimic.partitions("status") if row["asset"] == "model_run"}


def result_rows(mimic) -> set[str]:
    mimic.done("tables", "export", "haven.results", "out.parquet")
    return set(pq.read_table("out.parquet")["run_id"].to_pylist())


def commits(mimic) -> int:
    return len(list(mimic.home.glob("mimic/warehouse/haven/results/metadata/*.metadata.json")))


@pytest.fixture
def unfinished():
    """Make an unfinished run of a partition, as a UI would leave it."""

    def make(key: str) -> str:
        @dg.job
        def nothing() -> None:
            pass

        tags = {"dagster/partition": key}
        with dg.DagsterInstance.get() as instance:
            return instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id

    return make


# ---- retire


def test_a_retired_run_is_gone_until_it_is_trained_again(with_dataset):
    keep, *gone = trained(with_dataset, 3)
    with_dataset.done("log-odds", "run-batch-infer", with_dataset.inference(keep))
    before, folders = commits(with_dataset), with_dataset.home / "mimic/objects/s-models/e"
    said = with_dataset.done("runs", "retire", gone[0][:8], f"s/e/{gone[1]}", f"s/e/{gone[1][:8]}")
    assert said.stdout == f"retired: s/e/{gone[0][:12]}\nretired: s/e/{gone[1][:12]}\n"
    assert status(with_dataset) == {f"s/e/{keep[:12]}": "current"}
    assert result_rows(with_dataset) == {keep}
    assert commits(with_dataset) == before + 1
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("model_runs") == [f"s/e/{keep[:12]}"]
    assert "no run" in with_dataset.refused("runs", "retire", gone[0])
    with_dataset.done("gc", "--grace", "0")
    assert [path.name for path in folders.iterdir()] == [keep]
    with_dataset.done("log-odds", "run-experiment", with_dataset.experiment(models=MODELS[1:2]))
    assert status(with_dataset) == {f"s/e/{keep[:12]}": "current", f"s/e/{gone[0][:12]}": "current"}
    assert result_rows(with_dataset) == {keep, gone[0]}


def test_all_that_speaks_against_retiring_is_said_at_once_and_nothing_changes(mimic, unfinished):
    applied, training = registered(mimic)
    mimic.done("log-odds", "run-batch-infer", mimic.inference(applied), "--register-only")
    run = unfinished(f"s/e/{training[:12]}")
    before = listing(mimic.home)
    unknown = f"s/e/{applied[:11]}x"
    said = mimic.refused("runs", "retire", applied, training, unknown, "0" * 8, "s")
    assert f"run s/e/{applied[:12]} is applied by haven.scored/e/{applied[:12]}; " in said
    assert f"run s/e/{training[:12]} is being trained by Dagster run {run}; wait for it, or end it first" in said
    assert f"no run '{unknown}' is registered (did you mean 's/e/{applied[:12]}'?)" in said
    assert "no run '00000000' is registered" in said
    assert "no run 's' is registered" in said
    assert listing(mimic.home) == before


def test_a_retirement_that_is_interrupted_can_be_repeated(mimic, monkeypatch):
    runs = registered(mimic)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SpecStore, "remove", interrupted)
        mimic.refused("runs", "retire", *runs, exit_code=130)
    assert status(mimic) == {f"s/e/{run[:12]}": "waiting" for run in runs}
    mimic.done("runs", "retire", *runs)
    assert status(mimic) == {}


def test_a_run_that_was_never_trained_is_retired_too_and_a_dry_run_changes_nothing(mimic):
    (run,) = registered(mimic, 1)
    before = listing(mimic.home)
    assert mimic.done("runs", "retire", run, "--dry-run").stdout == f"would retire: s/e/{run[:12]}\n"
    assert listing(mimic.home) == before
    mimic.done("runs", "retire", run)
    assert status(mimic) == {}


# ---- garbage


def test_old_versions_and_specs_of_a_dataset_are_listed_and_then_removed(with_dataset):
    folder = with_dataset.home / "mimic/objects/s-tfrecords/d"
    (old,) = (path.name for path in folder.iterdir() if path.is_dir())
    with_dataset.done("log-odds", "build-dataset", with_dataset.dataset(max_choices=4))
    assert json.loads(with_dataset.done("gc", "--json").stdout) == {"dry_run": False, "bytes": 0, "removed": []}
    before = listing(with_dataset.home)
    tried = json.loads(with_dataset.done("gc", "--grace", "0", "--json", "--dry-run").stdout)
    assert listing(with_dataset.home) == before
    shown = with_dataset.done("gc", "--grace", "0", "--dry-run").stdout
    assert f"would remove 2 files and version folders, {tried['bytes']:,} bytes" in shown
    done = json.loads(with_dataset.done("gc", "--grace", "0", "--json").stdout)
    assert (tried.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert done == tried
    assert {(item["reason"], item["path"]) for item in done["removed"]} == {
        ("superseded version", f"s-tfrecords/d/{old}"),
        ("old spec", "specs/tfrecord_dataset/s/d/000001.json"),
    }
    assert not (folder / old).exists()
    (built,) = (path for path in folder.iterdir() if path.is_dir())
    assert len([path for path in built.rglob("*") if path.is_file()]) == 4


def abandoned(mimic) -> Path:
    """What a killed build leaves of a dataset that was never published."""
    version = mimic.home / "mimic/objects/s-tfrecords/d/20260101T000000Z-aaaaaaaa"
    version.mkdir(parents=True)
    (version / "schema.json").write_text("{}")
    return version


def test_unfinished_runs_are_named_and_what_they_may_use_stays(mimic, unfinished):
    mimic.done("env")  # makes the homes
    run = unfinished("s/e/0")
    version = abandoned(mimic)
    said = mimic.done("gc", "--grace", "0")
    assert "removed 0 files" in said.stdout
    assert f"when the oldest of these unfinished runs began: {run}" in said.stderr
    assert version.exists()


def test_a_damaged_manifest_is_named_and_its_partition_left_alone(mimic):
    version = abandoned(mimic)
    manifest = version.with_name("manifest.json")
    manifest.write_text("{}")
    said = mimic.refused("gc", "--grace", "0", exit_code=1)
    assert f"mimic: left alone: {manifest}: damaged" in said
    assert version.exists()


# ---- tables


def test_all_tables_or_those_that_are_named_are_maintained(mimic):
    for number in range(5):
        pq.write_table(pa.table({"_individual": [number]}), mimic.home / "part.parquet")
        mimic.done("tables", "import", "haven.one", mimic.home / "part.parquet", *(["--append"] if number else []))
    mimic.done("tables", "import", "haven.other", mimic.home / "part.parquet")
    before = listing(mimic.home)
    tried = json.loads(mimic.done("tables", "maintain", "--keep", "0", "--grace", "0", "--dry-run", "--json").stdout)
    assert listing(mimic.home) == before
    assert [(table["table"], table["expired"], table["compacted"]) for table in tried["tables"]] == [
        ("haven.one", 4, 5),
        ("haven.other", 0, 0),
        ("(folders of no table)", 0, 0),
    ]
    said = mimic.done("tables", "maintain", "haven.one", "--keep", "0").stdout
    assert [cell.strip() for cell in said.splitlines()[3].strip("│").split("│")] == ["haven.one", "4", "5", "1", "0", "0"]
    listed = mimic.done("tables", "list").stdout
    assert listed.count("source") == 2
    again = json.loads(mimic.done("tables", "maintain", "haven.one", "--keep", "0", "--json").stdout)
    assert (again["tables"][0]["expired"], again["tables"][0]["compacted"]) == (1, 0)


def test_a_table_that_is_not_there_is_named_and_an_age_is_no_negative_number(mimic):
    pq.write_table(pa.table({"_individual": [1]}), mimic.home / "part.parquet")
    mimic.done("tables", "import", "haven.one", mimic.home / "part.parquet")
    said = mimic.refused("tables", "maintain", "haven.on")
    assert "there is no table haven.on (did you mean 'haven.one'?); the tables are haven.one" in said
    assert "-1.0 is not in the range" in mimic.refused("tables", "maintain", "--keep", "-1")


def test_a_table_whose_metadata_file_is_gone_is_named_and_the_others_are_maintained_listed_and_shown(mimic):
    for name in ("haven.a", "haven.b", "haven.c"):
        for number in range(2):
            mimic.imported(pa.table({"_individual": [number]}), name)
    (newest,) = mimic.home.glob("mimic/warehouse/haven/b/metadata/00002-*.metadata.json")
    newest.unlink()
    said = mimic("tables", "maintain", "--keep", "0", "--grace", "0", "--json")
    assert said.exit_code == 1
    done = {result["table"]: result for result in json.loads(said.stdout)["tables"]}
    assert [done[name]["expired"] for name in ("haven.a", "haven.b", "haven.c")] == [2, 0, 2]
    assert "mimic: left alone: haven.b: table haven.b: cannot be read: " in said.stderr
    shown = mimic.done("tables", "list")
    assert [name in shown.stdout for name in ("haven.a", "haven.b", "haven.c")] == [True, False, True]
    assert "mimic: table haven.b: cannot be read: " in shown.stderr
    rows = {row["key"]: row for row in mimic.partitions("status")}
    assert [rows[name]["state"] for name in ("haven.a", "haven.b", "haven.c")] == ["current", "failed", "current"]
    assert rows["haven.b"]["error"].startswith("table haven.b: cannot be read: ")
    assert "table haven.b: cannot be read: " in mimic.refused("tables", "show", "haven.b", exit_code=1)
