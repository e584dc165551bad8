"""Explained inferences: derivatives beside the probabilities, labels of alternatives, and the effects that people see."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core.configs import parse_spec
from mimic_core.networks import gradient_function, load_network
from mimic_core.specs import DatasetSpec, InferenceSpec, RunSpec

NETWORK, LINEAR = {"layers": ["D4"], "epochs": 2, "batch_size": 4, "seed": 1}, {"layers": []}
EXPLAIN = ["age", "size"]
LABELS = np.array(["bus", "car", "train"])


def run(model: dict[str, Any]) -> RunSpec:
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "results", "model": model})


def inference(of: RunSpec, **changes: object) -> InferenceSpec:
    document = {"database": "haven", "table": "features", "train_partitions": 2, "test_partitions": 1}
    document |= {"features": ["size", "age"], "space": "s", "experiment_name": "e"}
    return parse_spec(InferenceSpec, document | {"run_id": of.run_id, "upload_table": "scored"} | changes)


PLAIN = inference(run(LINEAR))
EXPLAINED = inference(run(NETWORK), table="labelled", explain=EXPLAIN)


@pytest.fixture(scope="module")
def finished(shared_platform, decision_table):
    """A run that is explained is applied after one that is not, to a table with labels after one without, into one table."""
    table = decision_table()
    shared_platform.imported(table)
    document = {"database": "haven", "table": "features", "train_partitions": 1, "test_partitions": 1, "max_choices": 3}
    document |= {"features": ["size", "age"], "missing_values_map": {"size": 0}, "space": "s", "dataset": "d"}
    shared_platform.built(parse_spec(DatasetSpec, document), run(NETWORK), run(LINEAR), PLAIN)
    label = pa.array(LABELS[table["_choice"].to_numpy()])
    shared_platform.imported(table.append_column("_alternative", label), "haven.labelled")
    shared_platform.built(EXPLAINED)
    return shared_platform


def rows_of(platform, spec: InferenceSpec) -> pa.Table:
    return platform.rows(spec.destination).filter(pc.field("run_id") == spec.run_id)


def test_rows_of_a_run_that_explains_nothing_have_null_in_the_columns_of_the_others(finished):
    found = rows_of(finished, PLAIN)
    assert found.column_names[-3:] == ["_alternative", "d_probability_d_age", "d_probability_d_size"]
    assert [found[name].null_count for name in found.column_names[-3:]] == [len(found)] * 3
    assert found["probability"].null_count == 0


def test_rows_that_are_explained_have_their_label_and_the_derivatives_of_their_network(finished, decision_table):
    found = rows_of(finished, EXPLAINED)
    assert found["_alternative"].to_pylist() == LABELS[found["_choice"].to_numpy()].tolist()
    network = load_network(
        finished.folder(run(NETWORK)) / "model.keras", (finished.folder(run(NETWORK)) / "layers.py").read_text()
    )
    source = decision_table().sort_by([(key, "ascending") for key in ("_individual", "_decision", "_choice")])
    x = np.column_stack([pc.fill_null(source[name], 0.0).to_numpy() for name in ("size", "age")]).astype(np.float32)
    slope, probability = gradient_function(network, [1, 0])(x), found["probability"].to_numpy()
    for place, name in enumerate(EXPLAIN):
        expected = probability * (1 - probability) * slope[:, place]
        assert found[f"d_probability_d_{name}"].to_numpy() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert np.abs(slope).max() > 0


def test_effects_are_averages_of_these_rows_per_feature_and_label(finished):
    found, manifest = rows_of(finished, EXPLAINED), finished.manifest(EXPLAINED)
    stored = manifest["effects"]
    assert any(note.startswith("the elasticities by 'age' mean little") for note in manifest["notes"])
    assert [(one["feature"], one["alternative"]) for one in stored] == [
        (name, label) for name in EXPLAIN for label in (None, *LABELS)
    ]
    for one in stored:
        mine = found if one["alternative"] is None else found.filter(pc.field("_alternative") == one["alternative"])
        marginal = mine[f"d_probability_d_{one['feature']}"].to_numpy()
        assert one["rows"] == len(mine)
        assert one["marginal_effect_mean"] == pytest.approx(marginal.mean(), rel=1e-9)
        assert one["marginal_effect_quantiles"][2] == pytest.approx(np.median(marginal), rel=1e-9)


def test_dagster_shows_the_effects_as_a_table_and_a_picture(finished):
    shown = finished.shown(EXPLAINED)
    assert len(shown["effects"].splitlines()) == 2 + 2 * 4
    assert shown["effects"].splitlines()[3].startswith("| age | bus | 18 |")
    assert shown["elasticities"].startswith("![elasticities](data:image/png;base64,")
    assert {"effects", "elasticities"}.isdisjoint(finished.shown(PLAIN))
    assert "effects" not in finished.manifest(PLAIN)


def test_labels_of_another_type_need_another_table_and_nothing_is_built(finished, decision_table):
    table = decision_table()
    numbered = table.append_column("_alternative", table["_choice"].cast(pa.int64()))
    finished.imported(numbered, "haven.numbered")
    finished.built(inference(run(LINEAR), table="labelled", upload_table="mixed", train_partitions=1))
    text = finished.refused(inference(run(NETWORK), table="numbered", upload_table="mixed"))
    assert text == (
        "table haven.mixed holds inferences of other types:\n"
        "  column '_alternative' is string, and would be int64 for table haven.numbered\n"
        "  give another upload_table"
    )


def test_effects_do_not_depend_on_the_number_of_steps(finished):
    other = inference(run(NETWORK), table="labelled", explain=EXPLAIN, upload_table="alone", train_partitions=1)
    finished.built(other)
    for one, expected in zip(finished.manifest(other)["effects"], finished.manifest(EXPLAINED)["effects"], strict=True):
        for name, value in expected.items():
            assert one[name] == (
                value if value is None or isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-9)
            )


def test_the_table_can_be_exported_with_all_of_its_columns(finished, tmp_path):
    pin = finished.tables.pin("haven.scored")
    assert finished.tables.export(pin, tmp_path / "rows.parquet") == 84
    assert pq.read_table(tmp_path / "rows.parquet")["d_probability_d_age"].null_count == 42
