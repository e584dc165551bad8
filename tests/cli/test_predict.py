"""`mimic predict`: the numbers of an inference table for one file, and that nothing else is written."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from resources import blocks

KEYS = ("_individual", "_decision", "_choice")
MODELS = [{"layers": []}, {"layers": ["D4"], "epochs": 1, "batch_size": 4, "seed": 1}]
LINEAR, NETWORK = 0, 1


@pytest.fixture
def trained(shared, decision_table):
    """A home that the tests share, with the files that are scored, and the ids of a linear run and a network.

    Both runs multiply a feature by a column that is none, and have been applied: the linear one to the table with text ids
    and labels, the network to the one with numbers.
    """
    runs = shared.home / "runs.json"
    if not runs.exists():
        table = decision_table()
        shared.imported(table)
        pq.write_table(table, "numbers.parquet")
        csv.write_csv(texts(table), "texts.csv")
        shared.done("tables", "import", "haven.texts", "texts.csv")
        shared.done("log-odds", "build-dataset", shared.dataset())
        config = shared.experiment(models=MODELS, features=["size"], interactions=[["size", "age"]])
        ids = [run["run_id"] for run in shared.partitions("log-odds", "run-experiment", config)]
        options = {"features": ["size", "age"], "explain": ["age"]}
        metrics = []
        for run, names in ((LINEAR, {"table": "texts", "upload_table": "scored_texts"}), (NETWORK, {})):
            inference = shared.inference(ids[run], **options, **names)
            metrics += [one["metrics"] for one in shared.partitions("log-odds", "run-batch-infer", inference)]
        shared.done("tables", "export", "haven.scored_texts", "table_0.parquet")
        shared.done("tables", "export", "haven.scored", "table_1.parquet")
        runs.write_text(json.dumps([ids, metrics]))
    ids, metrics = json.loads(runs.read_text())
    return shared, ids, metrics


def texts(table: pa.Table) -> pa.Table:
    """The same decisions, whose individuals and choices are called by texts, with labels."""
    labels = pa.array(np.array(["bus", "car", "train"])[table["_choice"].to_numpy()])
    individual = pc.binary_join_element_wise("person", table["_individual"].cast(pa.string()), " ")
    choice = pc.binary_join_element_wise("0", table["_choice"].cast(pa.string()), "")
    table = table.set_column(0, "_individual", individual).append_column("_alternative", labels)
    return table.set_column(table.column_names.index("_choice"), "_choice", choice)


def sorted_rows(path: object) -> pa.Table:
    return pq.read_table(path).sort_by([(key, "ascending") for key in KEYS])


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("run", "file"), [(LINEAR, "texts.csv"), (NETWORK, "numbers.parquet")])
def test_every_column_equals_that_of_the_inference_table_to_the_last_bit(trained, run, file):
    mimic, ids, _ = trained
    mimic.done("predict", ids[run], file, "--explain", "age", "--output", "out.parquet", "--force")
    found, expected = sorted_rows("out.parquet"), sorted_rows(f"table_{run}.parquet")
    assert sorted(found.column_names) == sorted(set(expected.column_names) - {"_partition"})
    assert len(found) == 42
    for name in found.column_names:
        assert found[name].combine_chunks().equals(expected[name].combine_chunks()), name


def test_nothing_of_mimic_or_dagster_is_made_or_changed(trained, monkeypatch):
    mimic, ids, _ = trained
    monkeypatch.setenv("DAGSTER_HOME", str(mimic.home / "elsewhere"))
    before = contents(mimic.home)
    mimic.done("predict", ids[NETWORK], "numbers.parquet")
    assert contents(mimic.home) == before
    assert not (mimic.home / "elsewhere").exists()


def test_without_an_output_the_rows_are_printed_as_csv_and_the_summary_goes_to_standard_error(trained):
    mimic, ids, _ = trained
    result = mimic.done("predict", ids[LINEAR], "texts.csv")
    mimic.done("predict", ids[LINEAR], "texts.csv", "--output", "out.csv", "--force")
    assert result.stdout == Path("out.csv").read_text()
    assert result.stdout.splitlines()[0] == (
        '"_individual","_decision","_choice","_alternative","_train","probability","odds","log_odds","utility",'
        '"experiment_name","run_id"'
    )
    assert len(result.stdout.splitlines()) == 43
    lines = result.stderr.splitlines()
    assert lines[0] == f"scored: texts.csv by s/e/{ids[LINEAR][:12]}"
    assert lines[1] == "  rows 42, decisions 18, train_rows 35, test_rows 7, single_choice_decisions 0"
    assert lines[2].startswith("  train      decisions 15, NLL ")
    # what a program reads of the file are the numbers to the last bit
    mimic.done("predict", ids[LINEAR], "texts.csv", "--output", "out.parquet", "--force")
    read = csv.read_csv("out.csv", convert_options=csv.ConvertOptions(column_types={"_choice": pa.string()}))
    assert read.select(["probability", "log_odds"]).equals(pq.read_table("out.parquet").select(["probability", "log_odds"]))


@pytest.mark.parametrize(("run", "file"), [(LINEAR, "texts.csv"), (NETWORK, "numbers.parquet")])
def test_the_json_has_counts_and_the_metrics_of_the_inference(trained, run, file):
    mimic, ids, metrics = trained
    result = mimic.done("predict", ids[run][:8], file, "--output", "out.parquet", "--force", "--json")
    found = json.loads(result.stdout)
    assert list(found) == ["run", "file", "output", "counts", "metrics", "effects", "notes"]
    assert (found["run"], found["file"], found["output"]) == (f"s/e/{ids[run][:12]}", file, "out.parquet")
    assert (found["counts"]["rows"], found["counts"]["decisions"]) == (42, 18)
    numbers, expected = (
        {name: value for name, value in each.items() if value is not None} for each in (found["metrics"], metrics[run])
    )
    assert numbers == pytest.approx(expected, rel=1e-12)
    assert found["metrics"]["test_nll"] > 0


def test_labels_and_splits_may_be_absent_empty_or_in_the_names_of_folders(trained, decision_table):
    mimic, ids, _ = trained
    table = decision_table()
    csv.write_csv(table.drop_columns(["_selected", "_train"]), "bare.csv")
    empty = pa.nulls(len(table), pa.bool_())
    csv.write_csv(table.set_column(3, "_selected", empty).append_column("note", empty), "empty.csv")
    for train in ("True", "False"):
        folder = Path("rows") / f"_train={train}"
        folder.mkdir(parents=True)
        mine = table.filter(pc.equal(table["_train"], train == "True"))
        pq.write_table(mine.set_column(0, "_individual", mine["_individual"].cast(pa.float64())), folder / "a.parquet")
    mimic.done("predict", ids[NETWORK], "numbers.parquet", "--output", "plain.parquet")
    plain = pq.read_table("plain.parquet")
    for file in ("bare.csv", "empty.csv", "rows"):
        result = mimic.done("predict", ids[NETWORK], file, "--output", "other.parquet", "--force", "--json")
        assert ("test_nll" in json.loads(result.stdout)["metrics"]) == (file == "rows")
        other = pq.read_table("other.parquet")
        assert other.drop_columns("_train").equals(plain.drop_columns("_train"))
        assert other["_train"].equals(plain["_train"]) == (file != "bare.csv")


def test_rows_in_no_order_that_do_not_fit_into_memory_give_the_same_numbers(trained, monkeypatch):
    mimic, ids, _ = trained
    mimic.done("predict", ids[NETWORK], "numbers.parquet", "--output", "held.parquet")
    table = pq.read_table("numbers.parquet")
    pq.write_table(table.take(pa.array(np.random.default_rng(0).permutation(len(table)))), "mixed.parquet", row_group_size=9)
    monkeypatch.setattr(blocks, "BYTES_HELD", 500)
    result = mimic.done("predict", ids[NETWORK], "mixed.parquet", "--output", "spilled.parquet")
    assert "rows are in no order; about " in result.stderr
    assert pq.read_table("spilled.parquet").equals(pq.read_table("held.parquet"))


def test_rows_that_break_the_contract_are_named_and_nothing_is_written(trained, decision_table):
    mimic, ids, _ = trained
    table = decision_table()
    age = table["age"].to_pylist()
    age[3] = None
    csv.write_csv(pa.concat_tables([table.set_column(6, "age", pa.array(age)), table.slice(0, 1)]), "broken.csv")
    before = contents(mimic.home)
    said = mimic.refused("predict", ids[LINEAR], "broken.csv", "--output", "never.parquet", exit_code=1)
    assert "mimic: table broken.csv breaks the decision-table contract; nothing was written\n" in said
    assert "  decisions that offer a _choice twice: 1 (individual 1 decision " in said
    assert "  rows whose feature 'age' is null or NaN without an entry in missing_values_map: 1 (individual 1 " in said
    assert said.endswith("  mend these rows, or leave their decisions out, and run this again\n")
    printed = mimic("predict", ids[LINEAR], "broken.csv")
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert contents(mimic.home) == before


REFUSED = {
    "no such run": (["00000000", "numbers.parquet"], "no run '00000000' is registered"),
    "no such file": (["RUN", "nowhere.csv"], "mimic: nowhere.csv: there is no such file or folder"),
    "another type": (["RUN", "runs.json"], "expected .parquet files or .csv files, all of one kind, found runs.json"),
    "no bytes": (["RUN", "nothing.csv"], "nothing.csv: the file is empty; expected a decision table"),
    "no rows": (["RUN", "header.csv"], "mimic: header.csv: there are no rows; expected a decision table"),
    "damaged": (["RUN", "damaged.parquet"], "damaged.parquet: cannot be read as one table: "),
    "no feature": (["RUN", "other.csv"], "column 'size' is missing (did you mean 'siez'?)"),
    "another explained": (["RUN", "numbers.parquet", "--explain", "siez"], "explain: 'siez' is not one of the features of "),
    "a folder": (["RUN", "numbers.parquet", "--output", "."], "mimic: .: this is a folder, expected the name of a file to"),
    "another ending": (["RUN", "numbers.parquet", "--output", "a.xlsx"], "expected a name that ends in .parquet or .csv"),
    "no such folder": (["RUN", "numbers.parquet", "--output", "no/a.csv"], "no/a.csv: there is no folder "),
    "itself": (
        ["RUN", "texts.csv", "--output", "./texts.csv", "--force"],
        "--output texts.csv: the rows to score are there",
    ),
    "twice": (
        ["RUN", "texts.csv", "--output", "header.csv"],
        "header.csv: this file is there already; give another name, or",
    ),
    "JSON among rows": (["RUN", "texts.csv", "--json"], "--json needs --output: without it the rows are printed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_with_what_to_do(trained, case):
    mimic, ids, _ = trained
    Path("nothing.csv").touch()
    Path("header.csv").write_text("_individual,_decision,_choice,size,age\n")
    Path("other.csv").write_text("_individual,_decision,_choice,siez,age\n1,1,1,2.5,3\n")
    Path("damaged.parquet").write_bytes(Path("numbers.parquet").read_bytes()[:-9])
    arguments, message = REFUSED[case]
    before = contents(mimic.home)
    assert message in mimic.refused("predict", *[ids[LINEAR] if word == "RUN" else word for word in arguments])
    assert contents(mimic.home) == before


def test_a_run_that_is_not_trained_is_refused(trained):
    mimic, _, _ = trained
    config = mimic.experiment(experiment_name="later", models=MODELS[:1])
    (later,) = mimic.partitions("log-odds", "run-experiment", config, "--register-only")
    said = mimic.refused("predict", later["key"], "numbers.parquet")
    assert f"run {later['key']} is not trained; run `mimic log-odds run-experiment CONFIG` for it first" in said
