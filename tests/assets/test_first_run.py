"""The whole way through Dagster with a real instance: table, dataset, runs, inferences; and what can go wrong."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_assets.registration import add_partitions, register
from mimic_core.configs import parse_spec
from mimic_core.manifests import seal
from mimic_core.specs import DatasetSpec, InferenceSpec, RunSpec

SOURCE, RESULTS, SCORED = "haven.features", "haven.results", "haven.scored"
NETWORK = {"layers": ["D4"], "epochs": 3, "batch_size": 4, "seed": 1}
LINEAR = {"layers": []}
KEYS = ["_individual", "_decision", "_choice"]
INFERENCE_COLUMNS = {
    "_individual": pa.int64(),
    "_decision": pa.int64(),
    "_choice": pa.int64(),
    "_train": pa.bool_(),
    "probability": pa.float64(),
    "odds": pa.float64(),
    "log_odds": pa.float64(),
    "utility": pa.float64(),
    "experiment_name": pa.string(),
    "run_id": pa.string(),
    "_partition": pa.int32(),
}


def dataset(**changes: object) -> DatasetSpec:
    document = {"database": "haven", "table": "features", "train_partitions": 2, "test_partitions": 1, "max_choices": 3}
    document |= {"features": ["size", "age"], "missing_values_map": {"size": 0}, "space": "s", "dataset": "d"}
    return parse_spec(DatasetSpec, document | changes)


def run(model: dict[str, Any], **changes: object) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": model} | changes)


def inference(of: RunSpec, **changes: object) -> InferenceSpec:
    document = {"database": "haven", "table": "features", "train_partitions": 2, "test_partitions": 1}
    document |= {"features": ["size", "age"], "space": "s", "experiment_name": "e"}
    return parse_spec(InferenceSpec, document | {"run_id": of.run_id, "upload_table": "scored"} | changes)


@pytest.fixture(scope="module")
def finished(shared_platform, decision_table):
    """A platform on which everything was built once; tests only look at it."""
    shared_platform.imported(decision_table())
    shared_platform.built(dataset(), run(NETWORK), run(LINEAR), inference(run(NETWORK)))
    return shared_platform


@pytest.fixture(scope="module")
def prepared(prepared_platform, decision_table):
    """A platform with a dataset, a network and a linear run."""

    def prepare(platform):
        platform.imported(decision_table())
        platform.built(dataset(), run(NETWORK), run(LINEAR))

    return prepared_platform(prepare)


@pytest.fixture
def trained(prepared, monkeypatch):
    """That platform as it was, for tests that change it."""
    return prepared.taken(monkeypatch)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def with_rows(table: pa.Table, *rows: dict[str, Any]) -> pa.Table:
    return pa.concat_tables([table, pa.Table.from_pylist(list(rows), table.schema)])


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


# ---- what every build shows


def test_a_dataset_shows_counts_location_inputs_and_columns(finished, decision_table):
    facts, table = finished.shown(dataset()), decision_table()
    assert facts["dagster/row_count"] == facts["rows"] == len(table)
    assert (facts["decisions"], facts["train_decisions"], facts["test_decisions"]) == (18, 15, 3)
    assert (facts["train_individuals"], facts["test_individuals"]) == (5, 1)
    assert facts["upstream"].endswith(f" | {finished.tables.pin(SOURCE).token[:12]} |")
    files = finished.manifest(dataset())["files"]
    assert facts["bytes"] == sum(file["bytes"] for file in files)
    assert (facts["shards"], facts["largest_shard_decisions"]) == (3, max(file["decisions"] for file in files))
    assert facts["shard_sizes"].startswith("![shard sizes](data:image/png;base64,")
    assert facts["seconds"] == finished.manifest(dataset())["seconds"]
    assert "- **features**: size, age\n- **missing_values_map**: size = 0" in facts["spec"]
    assert Path(facts["dagster/uri"].strip(" `")).is_dir()
    assert [column.name for column in facts["dagster/column_schema"].columns] == ["size", "age"]


def test_a_run_shows_its_metrics_and_the_version_of_its_dataset(finished):
    facts = finished.shown(run(NETWORK))
    history = finished.rows(RESULTS).filter(pc.field("run_id") == run(NETWORK).run_id)
    assert facts["val_loss"] == pytest.approx(pc.min(history["val_loss"]).as_py(), abs=1e-6)
    assert facts["epochs"] == 3
    assert facts["upstream"].endswith(f" | {finished.manifest(dataset())['fingerprint'][:12]} |")
    assert {"train_nll", "test_nll", "test_accuracy", "test_rho_squared"} <= set(facts)


def test_an_inference_shows_its_rows_and_both_its_inputs(finished, decision_table):
    facts = finished.shown(inference(run(NETWORK)))
    assert facts["dagster/row_count"] == len(decision_table())
    of_run, of_table = facts["upstream"].splitlines()[2:]
    assert f"[{run(NETWORK).key}]" in of_run
    assert of_run.endswith(f" | {finished.manifest(run(NETWORK))['fingerprint'][:12]} |")
    assert of_table.endswith(f" | {finished.tables.pin(SOURCE).token[:12]} |")
    assert facts["test_nll"] == pytest.approx(finished.manifest(run(NETWORK))["metrics"]["test_nll"], abs=1e-6)


def test_every_build_shows_its_first_rows(finished):
    def first(spec):
        return finished.materialization(spec).metadata["preview"].records[0].data

    scored = first(inference(run(NETWORK)))
    assert scored["_decision"] == 0
    assert 0 < scored["probability"] < 1
    assert scored["odds"] > 0
    encoded = first(dataset())
    assert (encoded["_decision"], encoded["_choice"], encoded["_selected"]) == (0, 0, True)
    assert first(run(NETWORK))["epoch"] == 1


def test_the_data_version_is_the_fingerprint_of_the_manifest(finished):
    for spec in (dataset(), run(NETWORK), inference(run(NETWORK))):
        tags = finished.materialization(spec).tags
        assert tags["dagster/data_version"] == finished.manifest(spec)["fingerprint"]


def test_every_epoch_is_observable(finished):
    records = finished.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("model_run"), asset_partitions=[run(NETWORK).key]), limit=10
    ).records
    observed = [{k: v.value for k, v in record.asset_observation.metadata.items()} for record in records]
    assert sorted(numbers["epoch"] for numbers in observed) == [1, 2, 3]
    assert all({"loss", "val_loss"} <= set(numbers) for numbers in observed)


def test_a_kept_contract_is_recorded_as_a_passed_check(finished):
    for asset in ("tfrecord_dataset", "inference_table"):
        key = dg.AssetCheckKey(dg.AssetKey(asset), "decision_table_contract")
        (record,) = finished.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
        assert record.event.dagster_event.asset_check_evaluation_data.passed


def test_source_tables_are_observed_by_their_content_token(finished):
    observing = dg.Definitions(jobs=[dg.define_asset_job("observe", selection=["source_table"])])
    job = dg.Definitions.merge(finished.definitions(), observing).resolve_job_def("observe")
    result = job.execute_in_process(instance=finished.instance)
    (event,) = result.asset_observations_for_node("source_table")
    assert event.partition == SOURCE
    assert event.tags["dagster/data_version"] == finished.tables.pin(SOURCE).token


# ---- the results table


def test_the_results_have_a_row_per_epoch_and_one_of_each_run_is_exported(finished):
    results = finished.rows(RESULTS)
    assert {"experiment_name", "run_id", "epoch", "loss", "val_loss", "exported"} <= set(results.column_names)
    network = results.filter(pc.field("run_id") == run(NETWORK).run_id)
    assert network["epoch"].to_pylist() == [1, 2, 3]
    assert set(network["experiment_name"].to_pylist()) == {"e"}
    for spec in (run(NETWORK), run(LINEAR)):
        mine = results.filter(pc.field("run_id") == spec.run_id)
        assert sum(mine["exported"].to_pylist()) == 1
    losses = network["val_loss"].to_pylist()
    assert network["exported"].to_pylist() == [loss == min(losses) for loss in losses]


def test_the_linear_model_exports_its_last_iteration(finished):
    mine = finished.rows(RESULTS).filter(pc.field("run_id") == run(LINEAR).run_id)
    assert mine["exported"].to_pylist() == [False] * (len(mine) - 1) + [True]
    assert mine["loss"][-1].as_py() == pc.min(mine["loss"]).as_py()


def test_retraining_replaces_the_rows_of_the_run_as_a_whole_and_gives_the_same_numbers(trained):
    before = trained.rows(RESULTS).drop_columns("seconds")
    trained.built(run(NETWORK))
    assert trained.rows(RESULTS).drop_columns("seconds") == before


def test_a_run_keeps_all_that_is_needed_to_apply_it(finished):
    folder = finished.folder(run(NETWORK))
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "layers.py", "model.keras", "history.jsonl", "individuals.parquet")
    }
    assert json.loads((folder / "config.json").read_text())["missing_values_map"] == {"size": 0}
    assert [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_an_empty_test_split_exports_the_last_epoch_and_says_so(platform, decision_table):
    platform.imported(decision_table(test=()))
    platform.built(dataset(), run(NETWORK))
    results = platform.rows(RESULTS)
    assert results["val_loss"].null_count == 3
    assert results["exported"].to_pylist() == [False, False, True]
    assert any("test split is empty" in note for note in platform.manifest(run(NETWORK))["notes"])


# ---- the inference table


def test_the_inference_table_has_the_columns_that_are_documented(finished):
    assert {field.name: field.type for field in finished.rows(SCORED).schema} == INFERENCE_COLUMNS


def test_every_row_of_the_table_is_scored_once(finished, decision_table):
    scored, table = finished.rows(SCORED), decision_table().sort_by([(key, "ascending") for key in KEYS])
    assert scored.select([*KEYS, "_train"]) == table.select([*KEYS, "_train"])


def test_probabilities_are_the_softmax_of_the_utilities_within_a_decision(finished):
    decisions: dict[tuple[int, int], list[dict[str, float]]] = {}
    for row in finished.rows(SCORED).to_pylist():
        decisions.setdefault((row["_individual"], row["_decision"]), []).append(row)
    for rows in decisions.values():
        weights = [math.exp(row["utility"]) for row in rows]
        for row, weight in zip(rows, weights, strict=True):
            assert row["probability"] == pytest.approx(weight / sum(weights), rel=1e-12)
            assert row["odds"] == pytest.approx(weight / (sum(weights) - weight), rel=1e-9)
            assert row["log_odds"] == pytest.approx(math.log(row["odds"]), abs=1e-9)
        assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-12)


def test_individuals_do_not_straddle_partitions(finished):
    partitions = {(row["_individual"], row["_train"], row["_partition"]) for row in finished.rows(SCORED).to_pylist()}
    assert len(partitions) == 6
    assert {partition for _, train, partition in partitions if train} <= {0, 1}
    assert {partition for _, train, partition in partitions if not train} == {0}


AWKWARD = (0, -1, -(2**63), 2**53, 2**53 + 1, 2**63 - 1)


def test_the_union_of_the_shards_is_the_table_for_ids_0_negative_and_beyond_2_to_53(platform, decision_table):
    table = decision_table(AWKWARD, test=(2**53 + 1,))
    platform.imported(table)
    platform.built(dataset(train_partitions=3), run(LINEAR), inference(run(LINEAR), train_partitions=4))
    scored = platform.rows(SCORED)
    assert scored.select(KEYS) == table.sort_by([(key, "ascending") for key in KEYS]).select(KEYS)
    assert Counter(decisions_of(platform.folder(dataset()))) == Counter(
        {(row["_individual"], row["_decision"]): 1 for row in table.to_pylist()}
    )


def decisions_of(folder: Path) -> list[tuple[int, int]]:
    """The decisions in a dataset's files, read by TensorFlow alone."""
    import tensorflow as tf

    schema = json.loads((folder / "schema.json").read_text())
    spec = {name: tf.io.FixedLenFeature(field["shape"], field["dtype"]) for name, field in schema["fields"].items()}
    found = []
    for path in sorted(folder.rglob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            example = tf.io.parse_single_example(record, spec)
            found.append((int(example["individual"]), int(example["decision"])))
    return found


def test_a_rebuild_with_fewer_partitions_leaves_nothing_stale(trained):
    many, few = {"train_partitions": 5, "test_partitions": 3}, {"train_partitions": 1, "test_partitions": 1}
    trained.built(dataset(**many), inference(run(LINEAR), **many))
    before = trained.rows(SCORED)
    trained.built(dataset(**few), inference(run(LINEAR), **few))
    folder = trained.folder(dataset())
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tfrecord")) == [
        "test/00000-of-00001.tfrecord",
        "train/00000-of-00001.tfrecord",
    ]
    assert len(json.loads((folder / "schema.json").read_text())["files"]) == 2
    assert Counter(decisions_of(folder)).most_common(1)[0][1] == 1
    after = trained.rows(SCORED)
    assert set(after["_partition"].to_pylist()) == {0}
    assert after.drop_columns("_partition") == before.drop_columns("_partition")


def test_more_partitions_than_individuals_is_no_error(trained, decision_table):
    trained.built(dataset(train_partitions=9, test_partitions=9), inference(run(LINEAR), train_partitions=9))
    assert len(list(trained.folder(dataset()).rglob("*.tfrecord"))) == 18
    assert len(trained.rows(SCORED)) == len(decision_table())


def test_max_choices_does_not_limit_inference(trained, decision_table):
    table = decision_table()
    wide = [
        {"_individual": 9, "_decision": 0, "_choice": c, "_selected": c == 0, "_train": False, "size": 0.1, "age": c / 9}
        for c in range(7)
    ]
    trained.imported(with_rows(table, *wide))
    trained.built(inference(run(LINEAR)))
    scored = trained.rows(SCORED).filter(pc.field("_individual") == 9)
    assert len(scored) == 7
    assert sum(scored["probability"].to_pylist()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("change", ["null", "absent"])
def test_new_decisions_without_selections_or_splits_are_scored(trained, decision_table, change):
    table = decision_table()
    if change == "absent":
        new = table.drop_columns(["_selected", "_train"])
    else:
        new = with_column(table, "_selected", [None] * len(table))
        new = with_column(new, "_train", [None] * len(table))
    trained.imported(new, "haven.new")
    trained.built(inference(run(LINEAR), table="new"))
    scored = trained.rows(SCORED)
    assert scored.select(KEYS) == table.sort_by([(key, "ascending") for key in KEYS]).select(KEYS)
    assert not any(scored["_train"].to_pylist())
    assert "test_nll" not in trained.manifest(inference(run(LINEAR)))["metrics"]


def test_the_numbers_of_an_inference_count_weights_and_compare_with_the_shares_of_the_training_split(
    platform, decision_table
):
    table = decision_table()
    names = ("bus", "car", "train")
    labels = [names[choice] for choice in table["_choice"].to_pylist()]
    weight = 1.0 + np.asarray(table["_decision"])
    table = table.append_column("_alternative", pa.array(labels)).append_column("_weight", pa.array(weight))
    platform.imported(table)
    platform.built(dataset(), run(LINEAR))
    trained, shares = platform.manifest(run(LINEAR)), {"bus": 0.5, "car": 0.3, "train": 0.2}
    document = seal(trained | {"alternative_shares": shares})
    platform.artefacts.write(f"{run(LINEAR).folder}/manifest.json", [document])
    platform.built(inference(run(LINEAR)))
    found = platform.manifest(inference(run(LINEAR)))["metrics"]
    rows = platform.rows(SCORED).append_column("_selected", table["_selected"])  # both in the order of the keys
    scored = rows.filter(~pc.field("_train")).to_pylist()
    loss, by_shares = 0.0, 0.0
    for row in scored:
        if row["_selected"]:
            offered = [names[each["_choice"]] for each in scored if each["_decision"] == row["_decision"]]
            share = shares[names[row["_choice"]]] / sum(shares[label] for label in offered)
            loss -= (1 + row["_decision"]) * math.log(row["probability"])
            by_shares -= (1 + row["_decision"]) * math.log(share)
    assert (found["test_decisions"], found["test_individuals"]) == (3, 1)
    assert found["test_nll"] == pytest.approx(loss / 6, abs=1e-12)
    assert found["test_d_nlp"] == pytest.approx(-loss / 6, abs=1e-12)
    assert found["test_shares_nll"] == pytest.approx(by_shares / 6, abs=1e-12)


def test_a_decision_with_one_choice_is_certain(platform, decision_table):
    alone = {"_individual": 6, "_decision": 99, "_choice": 0, "_selected": True, "_train": False, "size": 0.5, "age": 0.5}
    platform.imported(with_rows(decision_table(), alone))
    platform.built(dataset(), run(LINEAR), inference(run(LINEAR)))
    (row,) = platform.rows(SCORED).filter(pc.field("_decision") == 99).to_pylist()
    assert (row["probability"], row["odds"], row["log_odds"]) == (1.0, math.inf, math.inf)
    assert platform.manifest(dataset())["counts"]["single_choice_decisions"] == 1


def test_two_runs_share_an_inference_table_and_each_replaces_its_own_rows(trained, decision_table):
    other = run({"layers": [], "seed": 7})
    trained.built(other, inference(run(LINEAR)), inference(other), inference(run(LINEAR)))
    assert Counter(trained.rows(SCORED)["run_id"].to_pylist()) == {
        spec.run_id: len(decision_table()) for spec in (run(LINEAR), other)
    }


def utilities(platform, spec: RunSpec) -> list[float]:
    rows = platform.rows(SCORED)
    return rows.filter(pc.field("run_id") == spec.run_id)["utility"].to_pylist()


def test_the_linear_model_does_not_move_with_max_choices_partitions_or_the_order_of_features_and_rows(
    trained, decision_table
):
    table = decision_table()
    trained.built(inference(run(LINEAR)))
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    trained.imported(shuffled)
    other = run(LINEAR, max_choices=9, dataset="wide", features=["age", "size"])
    trained.built(dataset(dataset="wide", max_choices=9, train_partitions=1, features=["age", "size"]), other)
    trained.built(inference(other, features=["age", "size"]))
    assert utilities(trained, other) == pytest.approx(utilities(trained, run(LINEAR)), abs=1e-9)


def test_a_missing_values_map_that_replaces_nothing_changes_nothing(platform, decision_table):
    table = with_column(decision_table(), "size", pc.fill_null(decision_table()["size"], 0.25).to_pylist())
    platform.imported(table)
    for index, replacement in enumerate(({}, {"size": -1, "age": 99})):
        spec = run(LINEAR, dataset=f"d{index}")
        platform.built(dataset(dataset=f"d{index}", missing_values_map=replacement), spec, inference(spec))
    assert utilities(platform, run(LINEAR, dataset="d0")) == utilities(platform, run(LINEAR, dataset="d1"))


def test_the_map_that_is_stored_with_the_run_fills_missing_values(platform, decision_table):
    table = decision_table()
    filled = with_column(table, "size", pc.fill_null(table["size"], 5.0).to_pylist())
    platform.imported(table)
    platform.imported(filled, "haven.filled")
    platform.built(dataset(missing_values_map={"size": 5}), run(LINEAR), inference(run(LINEAR)))
    before = utilities(platform, run(LINEAR))
    platform.built(inference(run(LINEAR), table="filled", upload_table="scored_filled"))
    assert platform.rows("haven.scored_filled")["utility"].to_pylist() == before


def test_the_features_of_an_inference_may_stand_in_any_order(trained):
    trained.built(inference(run(LINEAR)))
    before = utilities(trained, run(LINEAR))
    trained.built(inference(run(LINEAR), features=["age", "size"]))
    assert utilities(trained, run(LINEAR)) == before


def test_a_subset_of_the_features_trains_and_scores(platform, decision_table):
    platform.imported(decision_table())
    spec = run(LINEAR, features=["age"])
    platform.built(dataset(), spec, inference(spec, features=["age"]))
    ages = decision_table().sort_by([(key, "ascending") for key in KEYS])["age"].to_numpy()
    ratio = np.array(utilities(platform, spec))[ages != 0] / ages[ages != 0]
    assert ratio == pytest.approx(ratio[0], rel=1e-5)


# ---- what is refused


@pytest.mark.parametrize(("features", "message"), [(["size"], "age missing"), (["size", "age", "x"], "x not used by it")])
def test_another_set_of_features_is_refused(trained, features, message):
    assert message in trained.refused(inference(run(LINEAR), features=features))


def test_an_upstream_that_is_not_built_is_refused_with_the_command_to_run(platform, decision_table):
    platform.imported(decision_table())
    assert "dataset s/d is not built; run `mimic log-odds build-dataset CONFIG`" in platform.refused(run(LINEAR))
    message = platform.refused(inference(run(LINEAR)))
    assert f"run s/e/{run(LINEAR).run_id[:12]} is not trained; run `mimic log-odds run-experiment CONFIG`" in message


def test_a_table_that_is_not_imported_is_refused_with_the_command_to_run(platform):
    assert "import one with `mimic tables import" in platform.refused(dataset())


def test_a_partition_without_a_spec_is_refused_with_the_command_to_run(platform):
    add_partitions(platform.instance, "tfrecord_dataset", ["s/unknown"])
    job = platform.definitions().resolve_job_def("build_dataset")
    result = job.execute_in_process(instance=platform.instance, partition_key="s/unknown", raise_on_error=False)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "register one with `mimic log-odds build-dataset CONFIG --register-only`" in failure.user_failure_data.description


def test_decisions_larger_than_the_experiment_allows_are_refused(trained):
    assert "max_choices: 2 is less than the 3 choices" in trained.refused(run(LINEAR, max_choices=2))


def broken(table: pa.Table) -> pa.Table:
    return with_column(table, "_selected", [False] * len(table))


def test_a_broken_table_fails_its_check_and_the_previous_version_stays(trained, decision_table):
    table = decision_table()
    before, files = trained.manifest(dataset()), sorted(Path(trained.artefacts.where("s-tfrecords")).rglob("*"))
    trained.imported(broken(table))
    result = trained.build(dataset())
    assert not result.success
    check, *_ = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("decision_table_contract", False)
    assert check.metadata["outcome"].value["violations"][0]["count"] == 18
    assert trained.manifest(dataset()) == before
    assert sorted(Path(trained.artefacts.where("s-tfrecords")).rglob("*")) == files


def test_every_broken_rule_is_named_with_its_count_and_examples(platform, decision_table):
    table = broken(decision_table())
    null = {
        "_individual": 1,
        "_decision": None,
        "_choice": 0,
        "_selected": True,
        "_train": True,
        "size": 1.0,
        "age": math.inf,
    }
    platform.imported(with_rows(table, null))
    message = platform.refused(dataset())
    assert "table haven.features breaks the decision-table contract; nothing was published" in message
    assert "decisions with no selected row: 18 (individual " in message
    assert "rows with a null _decision: 1" in message
    assert "rows whose feature 'age' is infinite" in message
    assert platform.artefacts.manifest(dataset().folder) is None


def test_a_broken_table_leaves_the_inferences_as_they_were(trained, decision_table):
    table = decision_table()
    trained.built(inference(run(LINEAR)))
    before, manifest = trained.rows(SCORED), trained.manifest(inference(run(LINEAR)))
    trained.imported(pa.concat_tables([table, table.slice(0, 1)]))
    result = trained.build(inference(run(LINEAR)))
    assert not result.success
    check, *_ = result.get_asset_check_evaluations()
    assert not check.passed
    assert "decisions that offer a _choice twice" in json.dumps(check.metadata["outcome"].value)
    assert trained.rows(SCORED) == before
    assert trained.manifest(inference(run(LINEAR))) == manifest


def test_an_individual_in_both_splits_is_refused(platform, decision_table):
    table = decision_table()
    train = table["_train"].to_pylist()
    train[0:2] = [False, False]  # the whole first decision of individual 1
    platform.imported(with_column(table, "_train", train))
    assert "individuals in both train and test: 1 (individual 1)" in platform.refused(dataset())


def test_a_table_without_training_rows_is_refused(platform, decision_table):
    table = decision_table()
    platform.imported(with_column(table, "_train", [False] * len(table)))
    assert "the training split is empty" in platform.refused(dataset())
    assert platform.artefacts.manifest(dataset().folder) is None


@pytest.mark.parametrize("name", ["train/00000-of-00002.tfrecord", "test/00000-of-00001.tfrecord", "schema.json"])
def test_a_flipped_byte_in_a_dataset_is_refused_with_the_name_of_the_file(trained, name):
    flip(trained.folder(dataset()) / name)
    assert f"{name}: damaged" in trained.refused(run(LINEAR))


@pytest.mark.parametrize("name", ["model.keras", "layers.py"])
def test_a_flipped_byte_in_a_run_is_refused_with_the_name_of_the_file(trained, name):
    flip(trained.folder(run(NETWORK)) / name)
    result = trained.build(inference(run(NETWORK)))
    messages = {
        event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure
    }
    assert len(messages) == 1
    assert f"{name}: damaged" in messages.pop()
    assert len(trained.rows(SCORED)) == 0


def test_a_flipped_byte_in_a_manifest_is_refused_with_its_name(trained):
    flip(Path(trained.artefacts.where(f"{run(LINEAR).folder}/manifest.json")))
    assert "manifest.json: damaged" in trained.refused(inference(run(LINEAR)))
    flip(Path(trained.artefacts.where(f"{dataset().folder}/manifest.json")))
    assert "manifest.json: damaged" in trained.refused(run(LINEAR))


def test_a_damaged_manifest_is_replaced_by_the_next_build(trained):
    flip(Path(trained.artefacts.where(f"{dataset().folder}/manifest.json")))
    trained.built(dataset())
    assert trained.manifest(dataset())["counts"]["decisions"] == 18


# ---- versions


def test_the_version_changes_with_the_table_and_not_with_a_rebuild(trained, decision_table):
    first = trained.manifest(dataset())["fingerprint"]
    trained.built(dataset())
    assert trained.manifest(dataset())["fingerprint"] == first
    trained.imported(decision_table(seed=1))
    trained.built(dataset())
    assert trained.manifest(dataset())["fingerprint"] != first


# ---- again from where it failed


def test_reexecution_from_failure_reruns_the_failed_shard_and_the_commit_only(trained, decision_table, fails_once):
    (trained.home / "dagster").mkdir()
    with dg.DagsterInstance.get() as instance:
        register(instance, trained.specs, [(run(NETWORK), fails_once), (inference(run(NETWORK)), "")])
        first = trained.execute(instance, run(NETWORK))
        assert first.success
        (trained.home / "fail").touch()
        failed = trained.execute(instance, inference(run(NETWORK)))
        assert not failed.success
        again = trained.execute(
            instance, inference(run(NETWORK)), dg.ReexecutionOptions.from_failure(failed.run_id, instance)
        )
    assert again.success
    steps = {event.step_key for event in again.all_events if event.event_type_value == "STEP_SUCCESS"}
    assert steps == {"inference_table.score_part[part_00001]", "inference_table.publish_inference"}
    assert trained.rows(SCORED).select(KEYS) == decision_table().sort_by([(key, "ascending") for key in KEYS]).select(KEYS)
