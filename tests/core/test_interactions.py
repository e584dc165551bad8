from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mimic_core import logit, runs
from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block
from mimic_core.errors import SpecError
from mimic_core.interactions import columns, expand
from mimic_core.layers_files import default_layers, load_layers
from mimic_core.networks import build_network, export_network, linear_network, utility_function
from mimic_core.specs import ExperimentSpec, RunSpec
from mimic_core.streams import Stream, in_memory

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
EXPERIMENT = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 4, "database": "haven", "table": "r"}


def run_spec(features, pairs, **model):
    document = EXPERIMENT | {"features": features, "interactions": pairs, "model": {"layers": [], **model}}
    return parse_spec(RunSpec, document)


def test_patterns_stand_for_features_and_names_for_any_column():
    features = ["cost", "asc_bus", "asc_car"]
    assert expand([["asc_*", "income"]], features) == (("asc_bus", "income"), ("asc_car", "income"))
    assert expand([["asc_?us", "c*"]], features) == (("asc_bus", "cost"),)
    assert expand([["asc_*", "asc_*"]], features) == (
        ("asc_bus", "asc_bus"),
        ("asc_bus", "asc_car"),
        ("asc_car", "asc_car"),
    )
    # a product stands once, whatever the order of its two columns
    assert expand([["cost", "income"], ["income", "cost"], ["c*", "income"]], features) == (("cost", "income"),)


def test_the_columns_of_a_model_are_features_and_products():
    found = columns([["asc_*", "income"]], ["cost", "asc_bus"])
    assert found.inputs == ("cost", "asc_bus", "income")
    assert found.names == ("cost", "asc_bus", "asc_bus:income")
    x = np.array([[2.0, 3.0, 5.0]], np.float32)
    assert found.values(x).tolist() == [[2.0, 3.0, 15.0]]
    assert found.values(x).dtype == np.float64


def test_what_cannot_be_expanded_is_an_error_with_its_path():
    with pytest.raises(
        SpecError, match=r"interactions\[1\]\[0\]: the pattern 'asc\*' matches none of the features; they are"
    ):
        run_spec(["c"], [["c", "d"], ["asc*", "c"]])
    with pytest.raises(SpecError, match=r'interactions\[0\]: expected two names or patterns of features, found \["c"\]'):
        run_spec(["c"], [["c"]])
    with pytest.raises(SpecError, match=r"interactions\[0\]\[1\]: expected a column name that does not begin with '_'"):
        run_spec(["c"], [["c", "_train"]])


def test_a_feature_whose_name_looks_like_a_pattern_is_that_feature():
    features = ["age", "age[1]", "age*"]
    assert expand([["age[1]", "age*"], ["age?", "age"]], features) == (
        ("age[1]", "age*"),
        ("age*", "age"),
    )
    assert run_spec(["age[1]"], [["age[1]", "age[1]"]]).columns.names == ("age[1]", "age[1]:age[1]")


def test_a_product_that_has_the_name_of_another_column_is_refused_when_it_is_parsed():
    with pytest.raises(
        SpecError,
        match=r"interactions: the product of 'a' and 'b' would be called 'a:b', and one of the features is called 'a:b'; "
        r"give one of these columns another name in the table, or leave it out",
    ):
        run_spec(["a", "a:b"], [["a", "b"]])
    with pytest.raises(
        SpecError, match=r"the product of 'a' and 'b:c' would be called 'a:b:c', and so would that of 'a:b' and 'c'"
    ):
        run_spec(["a:b", "c", "a"], [["a:b", "c"], ["a", "b:c"]])


def test_interactions_are_part_of_a_run_id_only_where_they_are_set():
    document = EXPERIMENT | {"features": ["c"], "models": [{"layers": []}]}
    pairs = (..., None, [["c", "c"]])
    specs = [parse_spec(ExperimentSpec, document | ({} if each is ... else {"interactions": each})) for each in pairs]
    plain, unset, given = (spec.runs[0].run_id for spec in specs)
    assert plain == unset != given


def test_an_exported_model_holds_its_interactions():
    wanted = columns([["a", "b"], ["b", "b"]], ["a", "c"])
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)  # a, c, b
    a, c, b = x.T.astype(float)
    _, loaded = export_network(linear_network(np.array([1.0, 2.0, 3.0, 4.0]), wanted), default_layers([]))
    np.testing.assert_allclose(utility_function(loaded)(x), a + 2 * c + 3 * a * b + 4 * b * b, rtol=1e-12)


def test_a_network_gets_the_products_as_further_inputs_and_keeps_them_when_stored():
    spec, source = run_spec(["a"], [["a", "b"]], layers=["same"]), 'LAYERS = {"same": lambda: Dense(2, use_bias=False)}'
    network = build_network(spec.model, spec.columns, load_layers(source)[0])
    network.set_weights([np.eye(2, dtype=np.float32), np.array([[1.0], [10.0]], np.float32)])
    _, loaded = export_network(network, source)
    x = np.array([[2.0, 3.0], [4.0, -1.0]], np.float32)
    assert utility_function(loaded)(x).tolist() == [2 + 60, 4 - 40]


def golden(name, features, pairs, **model):
    if not (DATA / f"{name}.parquet").is_file():
        pytest.skip(f"the reference table ../shared/data/{name}.parquet is not here")
    source, spec = pq.read_table(DATA / f"{name}.parquet"), run_spec(features, pairs, **model)
    rules = Rules(features=spec.columns.inputs)
    parts = [source.filter(keep) for keep in (source["_train"], pc.invert(source["_train"]))]
    train, test = (in_memory(check_block(part, rules).rows) for part in parts)
    run = runs.train(spec, default_layers([]), train, test)
    return [run.evaluations[split].nll for split in ("train", "test")], run


def test_modecanada_with_interactions_has_the_reference_likelihood():
    features = ["cost", "ivt", "ovt", "freq", "asc_bus", "asc_car", "asc_train"]
    found, run = golden("modecanada", features, [["asc_*", name] for name in ("income", "dist", "urban")])
    assert found == pytest.approx([0.598748, 0.574105], abs=1e-5)
    assert len(run.coefficients["coefficients"]) == 16
    # the columns may stand among the features, whose main effects then cancel
    again, run = golden(
        "modecanada", [*features, "income", "dist", "urban"], [["asc_*", n] for n in ("income", "dist", "urban")]
    )
    assert again == pytest.approx(found, abs=1e-9)
    assert run.coefficients["not_identified"] == ["income", "dist", "urban"]


def test_swissmetro_with_interactions_has_the_reference_likelihood():
    shared = ["GA_1", "MALE_1", "LUGGAGE_1", "LUGGAGE_3", "FIRST_1", "GROUP_3", "WHO_1", "WHO_2", "WHO_3"]
    six = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
    found, _ = golden("swissmetro", six, [["asc_*", name] for name in shared])
    assert found == pytest.approx([0.685812, 0.737944], abs=1e-5)


def test_swissmetro_with_all_dummies_and_a_penalty_has_the_reference_likelihood():
    six = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
    if not (DATA / "swissmetro.parquet").is_file():
        pytest.skip("the reference table ../shared/data/swissmetro.parquet is not here")
    names = pq.read_schema(DATA / "swissmetro.parquet").names
    dummies = [name for name in names if not name.startswith(("_", "asc_")) and name not in six]
    found, run = golden("swissmetro", six, [["asc_*", name] for name in dummies], l2=1e-4)
    assert found == pytest.approx([0.657486, 0.682461], abs=1e-5)
    assert run.coefficients["separated"] == []
    assert run.coefficients["not_identified"] == ["asc_car:AGE_6"]  # of whom none had a car


def test_a_penalty_is_for_linear_models_only():
    def parse(*models):
        return parse_spec(ExperimentSpec, EXPERIMENT | {"features": ["c"], "models": list(models)})

    expected = r"models\[1\]\.l2: 0\.1 is for a linear model \(layers: \[\]\); give a kernel_regularizer"
    with pytest.raises(SpecError, match=expected):
        parse({"layers": []}, {"layers": ["D4"], "l2": 0.1})
    with pytest.raises(SpecError, match=r"models\[0\]\.l2: expected a number greater than 0"):
        parse({"layers": [], "l2": 0})
    with pytest.raises(SpecError, match=r"models\[0\]\.l2: expected a number of at most 1000000"):
        parse({"layers": [], "l2": 1e308})


def test_an_estimate_over_many_blocks_is_that_of_one(monkeypatch):
    if not (DATA / "swissmetro.parquet").is_file():
        pytest.skip("the reference table ../shared/data/swissmetro.parquet is not here")
    source = pq.read_table(DATA / "swissmetro.parquet")
    wanted = columns([["asc_*", "GA_1"]], ["tt", "co", "asc_sm", "asc_car"])
    source = source.append_column("_weight", pa.array(1.0 + np.asarray(source["_individual"]) % 3))
    rows, found = check_block(source, Rules(features=wanted.inputs)).rows, []
    for size, blocks in ((10**9, 1), (500, 61)):
        monkeypatch.setattr("mimic_core.streams.BLOCK_ROWS", size)
        stream = Stream(read=in_memory(rows).read, decisions=rows.decisions)
        assert len(list(stream)) == blocks
        found.append(logit.estimate(stream, wanted))
    one, other = found
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-10)
    np.testing.assert_allclose(one.clustered, other.clustered, rtol=1e-9)
    assert (one.individuals, one.decisions) == (other.individuals, other.decisions)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)
