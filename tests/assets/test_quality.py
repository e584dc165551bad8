"""The checks that builds answer beside the contract: through Dagster, with severities, numbers and pictures."""

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mimic_assets.inference_checks import calibration_result, drift_result, warnings
from mimic_core import contrasts, inferences
from mimic_core.calibration import Calibration
from mimic_core.configs import parse_spec
from mimic_core.evaluation import Measured
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, RunSpec

NAMED = {"database": "haven", "table": "features", "features": ["size", "age"], "space": "s"}
DATASET = parse_spec(
    DatasetSpec,
    NAMED
    | {"dataset": "d", "max_choices": 3, "missing_values_map": {"size": 0}, "train_partitions": 2}
    | {"test_partitions": 1},
)
CONTRAST = {"database": "haven", "source_table": "features", "train_partitions": 1, "test_partitions": 1}
CONTRAST |= {"destination_table": "contrasts", "decisions_per_individual": 2, "alternatives_per_decision": 1}
RUN = parse_spec(
    RunSpec,
    {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    | {"database": "haven", "table": "results", "model": {"layers": []}},
)


def inference(**changes: object) -> InferenceSpec:
    document = NAMED | {"experiment_name": "e", "run_id": RUN.run_id, "upload_table": "scored"}
    return parse_spec(InferenceSpec, document | {"train_partitions": 2, "test_partitions": 1} | changes)


SAME, MOVED = inference(), inference(table="moved", upload_table="scored_moved", train_partitions=1)


@pytest.fixture(scope="module")
def finished(shared_platform, decision_table):
    """A run applied to its own table, in another order, and to one whose ages have moved, without labels."""
    table = decision_table(range(80), test=range(60, 80))
    shared_platform.imported(table)
    shared_platform.built(DATASET, RUN)
    shared_platform.imported(table.take(pa.array(np.random.default_rng(0).permutation(len(table)))))
    shared_platform.built(SAME)
    moved = table.set_column(table.column_names.index("age"), "age", pc.add(table["age"], 1.0)).drop(["_selected"])
    shared_platform.imported(moved, "haven.moved")
    shared_platform.built(MOVED)
    return shared_platform


def answered(platform, spec) -> dict[str, dg.AssetCheckEvaluation]:
    """The newest answer of every check of a partition that its builds answer."""
    found: dict[str, dg.AssetCheckEvaluation] = {}
    for key in platform.definitions().resolve_asset_graph().asset_check_keys:
        if key.asset_key == dg.AssetKey(spec.asset):
            records = platform.instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
            events = [record.event.dagster_event for record in reversed(records) if record.event]
            answers = [event for event in events if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION]
            for event in answers:
                if event.asset_check_evaluation_data.partition == spec.key:
                    found[key.name] = event.asset_check_evaluation_data
    return found


def test_the_answers_of_a_build_are_about_what_it_made_and_not_about_what_was_there_before(finished):
    finished.built(SAME)
    keys = [key for key in finished.definitions().resolve_asset_graph().asset_check_keys if key.name != "up_to_date"]
    infos = finished.instance.event_log_storage.get_asset_check_partition_info(keys)
    current = {(info.check_key.asset_key.to_user_string(), info.check_key.name): info.is_current for info in infos}
    assert len(current) == 6
    assert all(current.values()), current


def numbers(check: dg.AssetCheckEvaluation) -> dict[str, object]:
    return {name: value.value for name, value in check.metadata.items()}


def test_a_dataset_and_a_run_keep_how_the_features_of_the_training_rows_are_distributed(finished, decision_table):
    described = finished.manifest(DATASET)["distributions"]
    table = decision_table(range(80), test=range(60, 80))
    train = table.filter(table["_train"])
    assert described["rows"] == described["sampled_rows"] == len(train)
    size = np.sort(pc.fill_null(train["size"], 0.0).to_numpy().astype(np.float32))
    deciles = size[-(-np.arange(1, 10) * len(size) // 10) - 1]
    assert described["features"]["size"]["edges"] == [float(value) for value in np.unique(deciles)]
    assert described["features"]["size"]["missing"] == 0
    assert finished.manifest(RUN)["distributions"] == described


def test_the_rows_that_a_run_was_trained_on_do_not_drift_in_whatever_order(finished):
    check = answered(finished, SAME)["feature_drift"]
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert check.description == "no feature is distributed otherwise than in the training data"
    assert 0 < numbers(check)["largest index"] < 0.05
    assert not any("drift" in note for note in finished.manifest(SAME)["notes"])


def test_a_feature_that_has_moved_is_a_warning_and_a_note_and_the_inference_is_published(finished):
    check, manifest = answered(finished, MOVED)["feature_drift"], finished.manifest(MOVED)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    shown, drifts = numbers(check), manifest["drift"]
    assert (shown["drifting features"], shown["training rows"]) == (1, finished.manifest(DATASET)["distributions"]["rows"])
    assert [drift["feature"] for drift in drifts] == ["age", "size"]
    assert shown["largest index"] == pytest.approx(drifts[0]["index"], abs=1e-6)
    assert drifts[0]["index"] > 1 > drifts[0]["limit"] >= 0.2 > drifts[1]["index"]
    assert shown["features"].splitlines()[2] == f"| age | {drifts[0]['index']:.4f} | {drifts[0]['limit']:.4f} | drifts |"
    named = f"population stability index: age {drifts[0]['index']:.2f}"
    assert manifest["notes"] == [
        f"feature drift: 1 of 2 features are distributed otherwise than in the training data, by their {named}"
    ]


def test_the_calibration_of_test_decisions_is_judged_and_shown_as_a_picture(finished):
    check = answered(finished, SAME)["calibration"]
    shown = numbers(check)
    assert (check.passed, check.severity, shown["split"], shown["decisions"]) == (
        True,
        dg.AssetCheckSeverity.WARN,
        "test",
        60,
    )
    assert shown["calibration error"] == pytest.approx(
        finished.manifest(SAME)["metrics"]["test_calibration_error"], abs=1e-6
    )
    assert shown["at most"] == pytest.approx(0.05 + shown["by chance"], abs=2e-6)
    assert shown["reliability"].startswith("![reliability](data:image/png;base64,")


def test_without_labels_there_is_nothing_to_judge(finished):
    check = answered(finished, MOVED)["calibration"]
    assert check.passed
    assert check.description.startswith("nothing to judge: no decision has exactly one selected row")


def test_the_probabilities_of_what_is_published_sum_to_one(finished):
    check = answered(finished, SAME)["probabilities_sum_to_one"]
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.ERROR)
    assert numbers(check)["decisions"] == 240
    assert 0 <= numbers(check)["largest difference from 1"] < 1e-12


def test_individuals_are_counted_by_split(finished):
    check = answered(finished, DATASET)["individuals_disjoint"]
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.ERROR)
    expected = {"train individuals": 60, "test individuals": 20, "individuals in both": 0, "examples": "none"}
    assert numbers(check) == expected


def test_a_run_shows_its_calibration_and_an_inference_how_its_scores_are_spread(finished):
    assert finished.shown(RUN)["calibration"].startswith("![calibration](data:image/png;base64,")
    for spec in (SAME, MOVED):
        assert finished.shown(spec)["scores"].startswith("![scores](data:image/png;base64,")


def test_individuals_in_both_splits_are_counted_and_named(platform, decision_table):
    table = decision_table()
    both = pa.array([train and not last for train, last in zip(table["_train"].to_pylist(), at(table, 2, 1), strict=True)])
    platform.imported(table.set_column(table.column_names.index("_train"), "_train", both))
    assert not platform.build(DATASET).success
    check = answered(platform, DATASET)["individuals_disjoint"]
    assert not check.passed
    assert (numbers(check)["individuals in both"], numbers(check)["examples"]) == (1, "individual 2")


def at(table: pa.Table, individual: int, decision: int) -> list[bool]:
    """Which rows are those of a decision."""
    return pc.and_(pc.equal(table["_individual"], individual), pc.equal(table["_decision"], decision)).to_pylist()


def test_probabilities_that_do_not_sum_to_one_publish_nothing(finished, monkeypatch):
    of_one = inferences.choice_probabilities
    monkeypatch.setattr(inferences, "choice_probabilities", lambda *given: (of_one(*given)[0] * 0.9, *of_one(*given)[1:]))
    spec, before = inference(upload_table="spoilt"), set((finished.home / "mimic/warehouse").rglob("*.parquet"))
    text = finished.refused(spec)
    assert text.startswith(
        f"run {RUN.run_id} gives 240 of 240 decisions probabilities that do not sum to 1, but are up to 0.1"
    )
    check = answered(finished, spec)["probabilities_sum_to_one"]
    assert (check.passed, numbers(check)["decisions off"]) == (False, 240)
    assert finished.manifest(spec) is None
    assert set((finished.home / "mimic/warehouse").rglob("*.parquet")) == before


def test_a_contrast_set_that_is_not_balanced_is_not_published(platform, decision_table, monkeypatch):
    paired = contrasts._paired
    monkeypatch.setattr(contrasts, "_paired", lambda rows, ids: paired(rows, np.roll(ids, 1)))
    platform.imported(decision_table())
    spec = parse_spec(ContrastSpec, CONTRAST)
    assert platform.refused(spec).startswith("contrast set haven.contrasts is not balanced: 12 of 12 pairs are not one")
    check = answered(platform, spec)["contrast_balance"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert platform.manifest(spec) is None


def test_what_an_older_run_does_not_say_of_its_training_data_is_no_warning():
    check = drift_result(None, None)
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert check.description.startswith("not known: the run's manifest does not say")
    assert warnings(None, None) == []


def test_probabilities_that_are_not_calibrated_are_a_warning_with_the_bound():
    found = Calibration(split="train", decisions=10, error=0.2, by_chance=0.01)
    check = calibration_result(found, {"train": Measured()})
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warnings(found, []) == [f"calibration: {check.description}"]
    assert check.description == (
        "the calibration error of the training decisions (there are no test decisions) is 0.2000, expected at most 0.0600: "
        "0.05, and 0.0100 by chance with so few rows"
    )
