from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.optimize

from mimic_core import logit, runs, splits
from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block
from mimic_core.datasets import by_shard, rules, schema_document, shard_path
from mimic_core.errors import TrainingError
from mimic_core.evaluation import evaluate
from mimic_core.interactions import columns
from mimic_core.layers_files import default_layers
from mimic_core.manifests import file_entry, seal
from mimic_core.records import encode
from mimic_core.shards import plan_parts
from mimic_core.sources import SPLITS
from mimic_core.specs import DatasetSpec, RunSpec
from mimic_core.streams import in_memory

SWISSMETRO = Path(__file__).parents[2] / ".." / "shared" / "data" / "swissmetro.parquet"
FEATURES = ["age", "cost", "size"]


def table(n=240, features=3, largest=4, seed=0, hole=False):
    """Return n decisions of two to `largest` choices drawn from a logit; with a hole, some costs are null."""
    random = np.random.default_rng(seed)
    counts = random.integers(2, largest + 1, n)
    starts = np.cumsum(counts) - counts
    x = random.normal(size=(counts.sum(), features)) * [1.0, 10.0, 0.1][:features] + [0.0, 50.0, 3.0][:features]
    utility = x @ [1.0, -0.1, 5.0][:features] + random.gumbel(size=len(x))
    selected = np.zeros(len(x), bool)
    selected[[start + utility[start : start + count].argmax() for start, count in zip(starts, counts, strict=True)]] = True
    decision = np.repeat(np.arange(n), counts)
    columns = {"_individual": decision // 4 - 7, "_decision": decision % 4, "_choice": np.arange(len(x)) - starts[decision]}
    columns |= {"_selected": selected, "_train": decision // 4 % 5 != 0}
    columns |= {name: x[:, j].astype(np.float32) for j, name in enumerate(FEATURES[:features])}
    if hole:
        columns["cost"] = pa.array([None if i % 9 == 0 else v for i, v in enumerate(columns["cost"].tolist())], pa.float32())
    return pa.table(columns)


def flat(source, features=FEATURES, **missing):
    """Return a table as flat rows."""
    return check_block(source, Rules(features=tuple(features), missing_values_map=missing)).rows


def estimate(rows, features, on_iteration=None):
    return logit.estimate(in_memory(rows), columns((), features), on_iteration=on_iteration)


def trained(spec, train, test):
    return runs.train(spec, default_layers([]), in_memory(train), in_memory(test))


def train_rows(source, features=FEATURES, **missing):
    return flat(source.filter(source["_train"]), features, **missing)


def rows_for_test(source, features=FEATURES):
    return flat(source.filter(pc.invert(source["_train"])), features)


def fit_with_scipy(source, features):
    """Maximise the likelihood, written with plain loops over decisions, by SciPy's BFGS without derivatives."""
    decisions = {}
    for row in source.to_pylist():
        if row["_train"]:
            decisions.setdefault((row["_individual"], row["_decision"]), []).append(row)
    scale = np.array([np.std(source[name].to_numpy()) for name in features])
    parts = []
    for rows in decisions.values():
        rows = sorted(rows, key=lambda row: not row["_selected"])  # the selected one first
        parts.append(np.array([[row[name] for name in features] for row in rows]) / scale)

    def negative_log_likelihood(beta):
        total = 0.0
        for x in parts:
            utility = x @ beta
            utility = utility - utility[0]
            total += np.log(np.exp(utility).sum())
        return total / len(parts)

    found = scipy.optimize.minimize(negative_log_likelihood, np.zeros(len(features)), method="BFGS", options={"gtol": 1e-7})
    return found.x / scale, found.fun


def run_spec(features=FEATURES, **model):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 9, "database": "haven", "table": "r"}
    return parse_spec(RunSpec, {**document, "features": list(features), "model": {"layers": [], **model}})


def coefficients(run, features=FEATURES):
    return dict(zip(features, run.network.get_weights()[0][:, 0].tolist(), strict=True))


def through_a_dataset(folder, source, max_choices=4, missing_values_map=None, features=FEATURES, trained_on=None):
    """Build a dataset with two and one shards from a table, read it and estimate the linear model on it."""
    document = {"database": "haven", "table": "t", "space": "s", "dataset": "d", "train_partitions": 2}
    document |= {"max_choices": max_choices, "features": list(features), "missing_values_map": missing_values_map or {}}
    spec, files = parse_spec(DatasetSpec, document), []
    block = check_block(source, rules(spec))
    assert block.outcome.violations == ()
    (part,) = plan_parts(spec.partitions, None, per_step=max(spec.partitions.values()))
    held = dict(by_shard(block, part))
    for place, shard in enumerate(part.shards):
        data = b"".join(encode(held[place], spec.max_choices)) if place in held else b""
        path = folder / shard_path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        files.append(file_entry(data, path=shard_path(shard), split=shard.split))
    (folder / "schema.json").write_bytes(seal(schema_document(spec, files, [])))
    names = list(trained_on or features)
    train, test = (splits.read_rows(folder, split, names) for split in SPLITS)
    return coefficients(trained(run_spec(names), train, test), names)


def test_one_column_worked_out_by_hand():
    # 3 of 4 decisions select the choice with x = 1 over that with x = 0, so exp(b) / (1 + exp(b)) = 3 / 4
    source = pa.table(
        {
            "_individual": [0, 0, 0, 0, 1, 1, 1, 1],
            "_decision": [0, 0, 1, 1, 0, 0, 1, 1],
            "_choice": [0, 1] * 4,
            "_selected": [True, False, True, False, True, False, False, True],
            "_train": [True] * 8,
            "age": [1.0, 0.0] * 4,
        }
    )
    found = estimate(flat(source, ["age"]), ["age"])
    assert found.coefficients.tolist() == pytest.approx([np.log(3)], abs=1e-9)
    assert found.gradient <= 1e-8


@pytest.mark.parametrize("seed", [0, 1])
def test_the_estimate_is_that_of_an_independent_scipy_fit(seed):
    source = table(seed=seed)
    expected, nll = fit_with_scipy(source, FEATURES)
    rows, iterations = train_rows(source), []
    assert set(rows.counts) == {2, 3, 4}
    found = estimate(rows, FEATURES, lambda *values: iterations.append(values))
    np.testing.assert_allclose(found.coefficients, expected, atol=2e-4)
    assert [number for number, _, _ in iterations] == list(range(1, found.iterations + 1))
    assert iterations[-1][1] == pytest.approx(nll, abs=1e-8)
    assert iterations[-1][2].tolist() == found.coefficients.tolist()
    assert found.not_identified == ()


def test_the_estimate_is_exact_whatever_batch_size_and_epochs_were_asked():
    source = table()
    expected, _ = fit_with_scipy(source, FEATURES)
    train, test = train_rows(source), rows_for_test(source)
    found = []
    for model in ({"batch_size": 1, "epochs": 1}, {"batch_size": 1000, "epochs": 50}, {"optimizer": "SGD", "seed": 7}):
        found.append(coefficients(trained(run_spec(**model), train, test)))
    np.testing.assert_allclose(list(found[0].values()), expected, atol=2e-4)
    assert found[0] == found[1] == found[2]


def test_the_gradient_at_the_estimate_is_below_the_tolerance_on_standardised_columns():
    rows = train_rows(table())
    found = estimate(rows, FEATURES)
    x = rows.x.astype(float)
    x -= np.repeat(np.add.reduceat(x, rows.starts) / rows.counts[:, None], rows.counts, axis=0)
    x /= x.std(axis=0)
    weights = np.exp(rows.x.astype(float) @ found.coefficients)
    p = weights / np.repeat(np.add.reduceat(weights, rows.starts), rows.counts)
    gradient = ((p - rows.selected) @ x) / rows.decisions
    assert np.abs(gradient).max() <= 1e-8
    assert found.gradient <= 1e-8


def test_the_estimate_does_not_move_with_max_choices(tmp_path):
    found = [through_a_dataset(tmp_path / str(most), table(), max_choices=most) for most in (4, 5, 12)]
    assert found[0] == found[1] == found[2]


def test_the_estimate_does_not_move_with_a_replacement_that_nothing_needs(tmp_path):
    found = [
        through_a_dataset(tmp_path / name, table(hole=True), missing_values_map={"cost": -1, **more})
        for name, more in (("a", {}), ("b", {"age": -1}), ("c", {"age": 1e6, "size": 99}))
    ]
    assert found[0] == found[1] == found[2]


def test_the_estimate_does_not_move_with_the_order_of_features(tmp_path):
    expected = through_a_dataset(tmp_path / "a", table())
    for name, order in (("b", ("size", "cost", "age")), ("c", ("cost", "age", "size"))):
        assert through_a_dataset(tmp_path / name, table(), features=order) == expected
        assert through_a_dataset(tmp_path / f"{name}2", table(), trained_on=order) == expected


def test_the_estimate_does_not_move_with_the_order_of_rows(tmp_path):
    source = table()
    mixed = source.take(np.random.default_rng(3).permutation(len(source)))
    assert through_a_dataset(tmp_path / "a", mixed) == through_a_dataset(tmp_path / "b", source)


def test_decisions_with_a_single_choice_do_not_move_the_estimate():
    source = table()
    alone = source.slice(0, 1).set_column(0, "_individual", pa.array([10**6])).set_column(3, "_selected", pa.array([True]))
    alone = alone.set_column(4, "_train", pa.array([True]))
    found = estimate(train_rows(pa.concat_tables([source, alone])), FEATURES).coefficients
    np.testing.assert_allclose(found, estimate(train_rows(source), FEATURES).coefficients, rtol=1e-9)


def test_the_unit_of_a_feature_only_changes_the_unit_of_its_coefficient():
    rows = train_rows(table())
    units = np.array([1e-6, 1.0, 1e6], np.float32)
    found = estimate(replace(rows, x=rows.x * units), FEATURES)
    np.testing.assert_allclose(found.coefficients * units, estimate(rows, FEATURES).coefficients, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e20])
def test_a_column_that_is_constant_within_every_decision_is_not_identified(constant):
    rows = train_rows(table())
    of_decision = np.repeat(np.random.default_rng(5).normal(size=rows.decisions) + constant, rows.counts)
    x = np.column_stack([rows.x, np.full(len(rows), constant), of_decision]).astype(np.float32)
    found = estimate(replace(rows, x=x), [*FEATURES, "flat", "income"])
    assert found.not_identified == ("flat", "income")
    assert found.coefficients[3:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.coefficients[:3], estimate(rows, FEATURES).coefficients, rtol=1e-9)


def test_exactly_dependent_columns_leave_the_utilities_unaffected():
    rows = train_rows(table())
    twice, sums = 2 * rows.x[:, 0], rows.x[:, 0] - 3 * rows.x[:, 2]
    x = np.column_stack([rows.x, twice, sums]).astype(np.float32)
    found = estimate(replace(rows, x=x), [*FEATURES, "twice", "sums"])
    assert len(found.not_identified) == 2
    assert all(found.coefficients[[*FEATURES, "twice", "sums"].index(name)] == 0 for name in found.not_identified)
    alone = evaluate(rows, rows.x @ estimate(rows, FEATURES).coefficients)
    together = evaluate(rows, x.astype(float) @ found.coefficients)
    assert together.nll == pytest.approx(alone.nll, abs=1e-7)


def test_nothing_identified_is_the_uniform_choice():
    rows = train_rows(table())
    iterations = []
    found = estimate(replace(rows, x=np.zeros_like(rows.x)), FEATURES, lambda *values: iterations.append(values))
    assert found.not_identified == ("age", "cost", "size")
    assert found.coefficients.tolist() == [0.0, 0.0, 0.0]
    assert iterations[-1][1] == pytest.approx(np.mean(np.log(rows.counts)))


def test_columns_that_are_not_identified_are_noted_and_without_effect_in_a_run():
    source = table()
    source = source.append_column("income", pa.array(np.asarray(source["_individual"]), pa.float32()))
    source = source.append_column("aged", pa.array(2 * np.asarray(source["age"]), pa.float32()))
    names = ["income", "aged", *FEATURES]
    rows = train_rows(source, names)
    run = trained(run_spec(names), rows, rows)
    found = coefficients(run, names)
    (note,) = run.notes
    assert note.startswith("not identified, and without effect on the utilities: ")
    assert "income" in note
    assert found["income"] == 0
    assert 0 in (found["aged"], found["age"])
    alone = coefficients(trained(run_spec(), train_rows(source), train_rows(source)))
    assert found["age"] + 2 * found["aged"] == pytest.approx(alone["age"], rel=1e-6)
    assert found["cost"] == pytest.approx(alone["cost"], rel=1e-6)


def test_an_estimate_that_does_not_converge_is_an_error(monkeypatch):
    monkeypatch.setattr(logit, "MOST_ITERATIONS", 2)
    expected = r"did not converge: after 2 Newton iterations the largest gradient per decision is .*, expected 1e-08 or less"
    for l2 in (None, 1e-3):
        with pytest.raises(TrainingError, match=expected):
            logit.estimate(in_memory(train_rows(table())), columns((), FEATURES), l2=l2)


def test_swissmetro_gives_the_reference_numbers():
    if not SWISSMETRO.is_file():
        pytest.skip("the reference table ../shared/data/swissmetro.parquet is not here")
    features = ["tt", "co", "he", "seats", "asc_sm", "asc_car"]
    source = pq.read_table(SWISSMETRO)
    train = train_rows(source, features)
    test = rows_for_test(source, features)
    found = estimate(train, features)
    fitted, judged = (evaluate(rows, rows.x @ found.coefficients) for rows in (train, test))
    assert (fitted.decisions, judged.decisions) == (8568, 2151)
    assert fitted.nll == pytest.approx(0.806235, abs=1e-5)
    assert judged.nll == pytest.approx(0.807659, abs=1e-5)
    assert judged.null_nll == pytest.approx(1.0341, abs=1e-4)
    assert judged.accuracy == pytest.approx(0.6569, abs=1e-4)
    assert found.not_identified == ()
    assert found.gradient <= 1e-8


def test_an_exact_sum_is_recognised_through_the_rounding_of_float32_features():
    """Columns far from zero keep fewer digits of what varies, so the sum is only exact to their rounding."""
    source = table()
    size = pc.add(source["size"], 1000.0)
    source = source.set_column(source.column_names.index("size"), "size", size)
    both = pc.add(size, source["age"])
    rows = train_rows(source.append_column("both", both), ("size", "age", "both"))
    result = estimate(rows, ["size", "age", "both"])
    assert len(result.not_identified) == 1
    assert np.abs(result.coefficients).max() < 50


@pytest.mark.parametrize("offset", [1e6, 2e7, 1.7e9])
def test_a_column_far_from_zero_leaves_the_other_estimates_as_they_are(offset):
    """Float32 leaves little or nothing of what varies in a year in seconds; that is no fault of the other columns."""
    source = table()
    names = source.column_names[-2:]
    alone = estimate(train_rows(source, names), list(names))
    moments = offset + np.random.default_rng(3).normal(size=len(source))
    rows = train_rows(source.append_column("moment", pa.array(moments)), [*names, "moment"])
    beside = estimate(rows, [*names, "moment"])
    assert set(beside.not_identified) <= {"moment"}
    assert beside.coefficients[:2] == pytest.approx(alone.coefficients, rel=0.1, abs=0.02)
