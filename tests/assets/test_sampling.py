"""Sampling of alternatives through Dagster: contrast sets by weights, and choice sets that are too large."""

import math

import numpy as np
import pyarrow as pa
import pytest

from mimic_assets.planning import make_plan
from mimic_assets.registration import register
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, RunSpec
from mimic_core.splits import read_rows

CONTRASTS, OFFSET = "haven.contrasts", "_sampling_log_probability"
SAMPLE = {"overflow": "sample", "max_choices": 2}


def contrast(**changes):
    document = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
    document |= {"decisions_per_individual": 2, "alternatives_per_decision": 2, "sampling": {"weights": "popularity"}}
    return parse_spec(ContrastSpec, document | changes)


def dataset(**changes):
    document = {"database": "haven", "table": "contrasts", "max_choices": 2, "features": ["size", "age"], "space": "s"}
    return parse_spec(DatasetSpec, document | {"missing_values_map": {"size": 0}, "dataset": "d"} | changes)


def run(**changes):
    document = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 2, "features": ["size", "age"]}
    return parse_spec(RunSpec, document | {"database": "haven", "table": "r", "model": {"layers": []}} | changes)


def weighted(table, *first):
    """Give a decision table the weights 1, 2 and 3 of its choices, but for the first ones that are told."""
    weights = [*first, *(np.asarray(table["_choice"]) + 1.0).tolist()[len(first) :]]
    return table.append_column("popularity", pa.array(weights, pa.float64()))


def states(platform):
    plan, _ = make_plan(platform.instance, platform.inventory)
    return {node.asset: str(partition.state) for node, partition in plan.partitions.items()}


@pytest.fixture(scope="module")
def source(shared_platform, decision_table):
    """A platform with the source table; each test builds partitions of its own."""
    shared_platform.imported(weighted(decision_table()))
    return shared_platform


def test_weighted_contrasts_carry_their_log_probabilities_into_the_records_of_a_dataset(source):
    source.built(contrast(), dataset())
    pairs = source.rows(CONTRASTS)
    rejected = pairs.filter(pa.compute.invert(pairs["_selected"])).to_pylist()
    selected = pairs.filter(pairs["_selected"]).to_pylist()
    for chosen, other in zip(selected, rejected, strict=True):
        total = 6.0 if chosen["_old_decision"] % 2 else 3.0
        for row, beside in ((chosen, other), (other, chosen)):
            expected = math.log(beside["popularity"] / (total - row["popularity"]))
            assert row[OFFSET] == pytest.approx(expected, abs=1e-12)
    assert source.shown(contrast())["dagster/column_schema"].columns[-1].name == OFFSET
    rows = read_rows(source.folder(dataset()), "train")
    kept = pairs.filter(pairs["_train"]).sort_by([(name, "ascending") for name in ("_individual", "_decision", "_choice")])
    assert rows.offset.tolist() == np.asarray(kept[OFFSET]).astype(np.float32).tolist()


def test_another_sampling_makes_contrasts_and_what_is_made_of_them_out_of_date(source):
    source.built(contrast(), dataset())
    assert set(states(source).values()) == {"current"}
    before = source.tables.pin(CONTRASTS).token, source.manifest(dataset())["fingerprint"]
    even = contrast(sampling="uniform")
    register(source.instance, source.specs, [(even, "")])
    assert states(source)["contrast_set"] != "current"
    assert states(source)["tfrecord_dataset"] != "current"
    source.built(even, dataset())
    assert set(states(source).values()) == {"current"}
    after = source.tables.pin(CONTRASTS).token, source.manifest(dataset())["fingerprint"]
    assert set(before).isdisjoint(after)
    assert OFFSET not in source.rows(CONTRASTS).column_names
    assert read_rows(source.folder(dataset()), "train").offset is None


def test_a_column_of_weights_that_is_missing_is_refused_before_anything_is_read(source):
    text = source.refused(contrast(sampling={"weights": "popularty"}, destination_table="misnamed"))
    assert "column 'popularty' is missing (did you mean 'popularity'?)" in text


def test_a_weight_that_nothing_can_be_drawn_by_publishes_nothing_or_drops_its_decision(platform, decision_table):
    platform.imported(weighted(decision_table(), 1.0, 0.0))
    text = platform.refused(contrast())
    rule = "rows whose sampling weight 'popularity' is null, zero, negative or not finite: 1 (individual 1 decision 0)"
    assert rule in text
    assert platform.manifest(contrast()) is None
    drops = contrast(invalid_decisions="drop")
    platform.built(drops)
    manifest = platform.manifest(drops)
    assert (manifest["counts"]["source_decisions"], manifest["counts"]["dropped_decisions"]) == (17, 1)
    assert manifest["notes"] == [f"left out: {rule}"]


def test_decisions_larger_than_max_choices_are_an_error_that_says_how_large_and_what_else_can_be_done(source):
    text = source.refused(dataset(table="features", dataset="refused"))
    assert "decisions with more than max_choices = 2 rows: 6 (individual 1 decision 1, " in text
    assert (
        'the largest decision offers 3 choices: give that many as max_choices, or set "overflow": "sample" to keep' in text
    )


def test_decisions_larger_than_max_choices_are_sampled_counted_and_trained_on_where_the_spec_says_so(source):
    spec = dataset(table="features", dataset="sampled", **SAMPLE)
    source.built(spec, run(dataset="sampled"))
    manifest = source.manifest(spec)
    expected = {"rows": 36, "decisions": 18, "largest_choice_set": 2, "sampled_decisions": 6, "single_choice_decisions": 0}
    assert {name: manifest["counts"][name] for name in expected} == expected
    assert (manifest["contract"]["rows"], manifest["contract"]["largest_choice_set"]) == (42, 3)
    (note,) = manifest["notes"]
    assert note.startswith("of 6 decisions with more than max_choices = 2 choices the selected one and a uniform sample")
    assert read_rows(source.folder(spec), "test").counts.tolist() == [2, 2, 2]


def test_neither_shards_nor_steps_change_what_is_sampled_and_the_seed_does(source):
    found = []
    for changes in ({}, {"train_partitions": 3, "test_partitions": 2}, {"seed": 1}):
        spec = dataset(table="features", dataset="sampled", **SAMPLE, **changes)
        source.built(spec)
        rows = read_rows(source.folder(spec), "train")
        found.append((rows.choice.tolist(), rows.x.tolist()))
    assert found[0] == found[1] != found[2]
