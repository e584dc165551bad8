from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.contract import check_block
from mimic_core.effects import summarise
from mimic_core.errors import SpecError, TrainingError
from mimic_core.evaluation import combine
from mimic_core.identifiers import surrogates
from mimic_core.inferences import (
    SCORES,
    check_features,
    choice_probabilities,
    explain_rows,
    inference_rows,
    inference_schema,
    measure_selected,
    rules,
)
from mimic_core.shards import Part, Shard, plan_parts
from mimic_core.sources import KEYS, SPLITS

TEST_SHARD = Shard(split="test", index=3, count=4)
WHOLE_TEST = Shard(split="test", index=3, count=4, span=(-(2**63), 2**63 - 1))
RUN_ID = "07c49bc09b5b47fca0fbcd0aba35f414ce6a129a12ee7f0310df016f084cda7f"


def one(*shards):
    """A part of some shards."""
    return Part(index=0, shards=shards, row_groups=None, whole=False)


def table(individual, decision, choice, **columns):
    keys = {"_individual": individual, "_decision": decision, "_choice": choice}
    columns = {"size": [float(i) for i in range(len(choice))]} | columns
    return pa.table({name: pa.array(values, pa.int64()) for name, values in keys.items()} | columns)


def decisions(scale, seed=0, n=300):
    """Return utilities and starts of n decisions of one to six choices, with ties for the highest and everywhere."""
    random = np.random.default_rng(seed)
    parts = [scale * random.normal(size=random.integers(1, 7)) for _ in range(n)]
    for part in parts[::5]:
        part[-1] = part.max()  # two with the highest utility
    for part in parts[::7]:
        part[:] = part[0]  # all equal
    counts = np.array([len(part) for part in parts])
    return np.concatenate(parts), np.cumsum(counts) - counts


def reference(utility, starts):
    """Probability, odds and log-odds in extended precision, one choice at a time, straight from their definition."""
    rows = []
    for part in np.split(utility.astype(np.longdouble), starts[1:]):
        weights = np.exp(part - part.max())
        for i, u in enumerate(part):
            others = np.delete(part, i)
            if len(others):
                log_odds = u - (others.max() + np.log(np.exp(others - others.max()).sum()))
            else:
                log_odds = np.longdouble(np.inf)
            rows.append((weights[i] / weights.sum(), np.exp(log_odds), log_odds))
    with np.errstate(over="ignore", under="ignore"):
        return np.array(rows).astype(np.float64).T


def test_odds_worked_out_by_hand():
    probability, odds, log_odds = choice_probabilities(np.log([1.0, 2.0, 5.0]), np.array([0]))
    assert probability == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=1e-15)
    assert odds == pytest.approx([1 / 7, 2 / 6, 5 / 3], abs=1e-14)
    assert log_odds == pytest.approx(np.log([1 / 7, 2 / 6, 5 / 3]), abs=1e-14)


def test_a_single_choice_has_probability_one_and_infinite_odds():
    for utility in (-1e300, -1.0, 0.0, 1e300):
        found = [values.tolist() for values in choice_probabilities(np.array([utility]), np.array([0]))]
        assert found == [[1.0], [np.inf], [np.inf]]


def test_equal_utilities_have_equal_probabilities():
    probability, odds, log_odds = choice_probabilities(np.full(4, -700.0), np.array([0]))
    assert probability.tolist() == [0.25] * 4
    assert odds == pytest.approx([1 / 3] * 4, rel=1e-15)
    assert log_odds == pytest.approx([-np.log(3)] * 4, rel=1e-15)


def test_odds_underflow_to_zero_and_overflow_to_infinity_while_log_odds_stay_finite():
    probability, odds, log_odds = choice_probabilities(np.array([2000.0, -2000.0]), np.array([0]))
    assert probability.tolist() == [1.0, 0.0]
    assert odds.tolist() == [np.inf, 0.0]
    assert log_odds.tolist() == [4000.0, -4000.0]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_numbers_are_those_of_an_extended_precision_reference(scale):
    utility, starts = decisions(scale)
    found, expected = choice_probabilities(utility, starts), reference(utility, starts)
    for values, wanted, near_zero in zip(found, expected, (1e-300, 1e-300, 1e-11), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-11, atol=near_zero)
    single = np.diff(np.append(starts, len(utility))) == 1
    assert single.sum() > 20
    assert (found[0][starts[single]] == 1).all()


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0, 1e300])
def test_probabilities_sum_to_one_odds_are_never_nan_and_log_odds_finite(scale):
    utility, starts = decisions(scale)
    probability, odds, log_odds = choice_probabilities(utility, starts)
    counts = np.diff(np.append(starts, len(utility)))
    alone = np.repeat(counts == 1, counts)
    assert np.abs(np.add.reduceat(probability, starts) - 1).max() <= 1e-12
    assert ((probability >= 0) & (probability <= 1)).all()
    assert not np.isnan(odds).any()
    assert (odds >= 0).all()
    assert np.isfinite(log_odds[~alone]).all()
    assert np.isposinf(log_odds[alone]).all()


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.lists(
        st.lists(st.one_of(st.floats(-1e300, 1e300), st.sampled_from([0.0, 1.0, 1e-300, -745.2])), min_size=1, max_size=5),
        min_size=1,
        max_size=5,
    )
)
def test_any_finite_utilities_give_probabilities_and_no_nan(parts):
    utility, counts = np.concatenate(parts), np.array([len(part) for part in parts])
    starts = np.cumsum(counts) - counts
    probability, odds, log_odds = choice_probabilities(utility, starts)
    assert np.abs(np.add.reduceat(probability, starts) - 1).max() <= 1e-12
    assert not np.isnan(odds).any()
    assert (np.isfinite(log_odds) == np.repeat(counts > 1, counts)).all()


def prepared(source):
    """Return a block of a table as it is scored."""
    return check_block(source, rules(["size"], {}))


def test_no_rows_have_no_probabilities():
    assert [len(values) for values in choice_probabilities(np.empty(0), np.empty(0, np.int64))] == [0, 0, 0]


def test_probabilities_sum_to_one_within_individual_and_decision_where_decision_ids_repeat():
    n = 40
    source = table(
        np.arange(6 * n) % n, np.arange(6 * n) // n % 2, np.arange(6 * n) // n, _train=pa.array([False] * (6 * n))
    )
    utility = np.random.default_rng(0).normal(size=6 * n)
    found = inference_rows(prepared(source), utility, one(TEST_SHARD), experiment_name="e", run_id=RUN_ID).to_pandas()
    sums = found.groupby(["_individual", "_decision"])["probability"].agg(["sum", "size"])
    assert len(sums) == 2 * n
    assert (sums["size"] == 3).all()
    assert (sums["sum"] - 1).abs().max() <= 1e-6


def test_rows_hold_ids_the_split_the_shard_and_the_run():
    source = table([2**53 + 1, -1, 2**53 + 1], [0, 2**63 - 1, 0], [1, 0, 0])
    utility = np.array([5.0, 0.0, 0.0])
    found = inference_rows(prepared(source), utility, one(WHOLE_TEST), experiment_name="test", run_id=RUN_ID)
    assert found.schema == inference_schema(source.schema)
    assert found.to_pylist() == [
        {
            "_individual": individual,
            "_decision": decision,
            "_choice": choice,
            "_train": False,
            "probability": probability,
            "odds": odds,
            "log_odds": log_odds,
            "utility": utility,
            "experiment_name": "test",
            "run_id": RUN_ID,
            "_partition": 3,
        }
        for individual, decision, choice, probability, odds, log_odds, utility in (
            (-1, 2**63 - 1, 0, 1.0, np.inf, np.inf, 5.0),
            (2**53 + 1, 0, 0, 0.5, 1.0, 0.0, 0.0),
            (2**53 + 1, 0, 1, 0.5, 1.0, 0.0, 0.0),
        )
    ]


def test_rows_of_a_training_shard_say_so():
    block = prepared(table([1], [0], [0], _train=[True]))
    shards = [Shard(split="train", index=0, count=1), TEST_SHARD]
    found = inference_rows(block, np.zeros(1), one(*shards), experiment_name="e", run_id=RUN_ID)
    assert (found["_train"].to_pylist(), found["_partition"].to_pylist()) == ([True], [0])


def test_a_shard_of_no_rows_gives_no_rows():
    source = table([], [], [])
    found = inference_rows(prepared(source), np.empty(0), one(TEST_SHARD), experiment_name="e", run_id=RUN_ID)
    assert (len(found), found.schema) == (0, inference_schema(source.schema))


def test_new_decisions_need_no_selected_row_no_flags_and_any_number_of_choices():
    block = check_block(table([1] * 500, [0] * 500, list(range(500))), rules(["size"], {}))
    assert block.outcome.violations == ()
    assert block.outcome.largest_choice_set == 500
    nulls = {name: pa.array([None, None], pa.bool_()) for name in ("_selected", "_train")}
    assert check_block(table([1, 1], [0, 0], [0, 1], **nulls), rules(["size"], {})).outcome.violations == ()


def test_a_duplicate_choice_a_null_key_and_a_missing_feature_are_reported():
    source = table([1, 1, 1, None], [0, 0, 1, 1], [0, 0, 0, 0], size=[1.0, None, float("inf"), 1.0])
    assert [str(v) for v in check_block(source, rules(["size"], {})).outcome.violations] == [
        "rows with a null _individual: 1 (individual None decision 1)",
        "rows whose feature 'size' is null or NaN without an entry in missing_values_map: 1 (individual 1 decision 0)",
        "rows whose feature 'size' is infinite (or too large for float32): 1 (individual 1 decision 1)",
        "decisions that offer a _choice twice: 1 (individual 1 decision 0)",
    ]


def test_the_missing_value_map_of_the_run_is_used():
    block = check_block(table([1, 1], [0, 0], [0, 1], size=[None, 2.0]), rules(["size"], {"size": -1}))
    assert block.rows.x.tolist() == [[-1.0], [2.0]]
    assert block.outcome.violations == ()


def test_utilities_that_are_not_finite_are_refused_with_ids():
    block = prepared(table([1, 1, 7], [0, 0, 5], [0, 1, 0]))
    expected = r"gives 2 of 3 rows a utility that is not finite \(individual 1 decision 0, individual 7 decision 5\)"
    with pytest.raises(TrainingError, match=f"run {RUN_ID} {expected}"):
        inference_rows(block, np.array([np.nan, 0.0, np.inf]), one(TEST_SHARD), experiment_name="e", run_id=RUN_ID)


LABELLED = table([1, 1, 7], [0, 0, 5], [0, 1, 0], _alternative=["car", "bus", "car"])


def scored(block, utility=(1.0, 0.0, 2.0)):
    """Return the rows of an inference table before they are explained."""
    return inference_rows(block, np.array(utility), one(WHOLE_TEST), experiment_name="e", run_id=RUN_ID)


def test_labels_of_alternatives_stand_after_the_ids():
    found = scored(prepared(LABELLED))
    assert found.column_names[:5] == [*KEYS, "_alternative", "_train"]
    assert found["_alternative"].to_pylist() == ["car", "bus", "car"]
    assert found.schema == inference_schema(LABELLED.schema)


def test_a_table_without_labels_and_without_features_to_explain_has_the_columns_that_it_always_had():
    found = inference_schema(LABELLED.drop_columns(["_alternative"]).schema)
    assert found.names == [*KEYS, *SCORES.names]


def test_derivatives_stand_last_in_the_order_asked_for_and_effects_have_the_labels():
    block = check_block(LABELLED.append_column("tt", pa.array([3.0, 1.0, 2.0])), rules(["size", "tt"], {}))
    slope = np.array([[4.0, -1.0], [4.0, -1.0], [4.0, -1.0]])
    rows, sums = explain_rows(scored(block), block, slope, ["tt", "size"], ["size", "tt"], run_id=RUN_ID)
    assert rows.schema == inference_schema(LABELLED.schema, ["tt", "size"])
    p = rows["probability"].to_numpy()
    assert rows["d_probability_d_tt"].to_numpy() == pytest.approx(p * (1 - p) * 4, abs=1e-15)
    assert rows["d_probability_d_size"].to_numpy() == pytest.approx(p * (1 - p) * -1, abs=1e-15)
    found = {(one.feature, one.alternative): one for one in summarise(sums, ["tt", "size"])}
    assert list(found) == [(name, label) for name in ("tt", "size") for label in (None, "bus", "car")]
    assert found["tt", "bus"].elasticity_mean == pytest.approx((1 - p[1]) * 4 * 1.0)
    assert found["size", "bus"].elasticity_mean == pytest.approx((1 - p[1]) * -1 * 1.0)
    assert found["tt", "car"].rows == 2


def test_labels_may_be_numbers_and_are_listed_in_their_order():
    block = prepared(LABELLED.set_column(4, "_alternative", pa.array([10, 9, 10])))
    _, sums = explain_rows(scored(block), block, np.ones((3, 1)), ["size"], ["size"], run_id=RUN_ID)
    assert [one.alternative for one in summarise(sums, ["size"])] == [None, "9", "10"]


def test_derivatives_that_are_not_finite_are_refused_with_ids():
    block = prepared(LABELLED)
    expected = (
        "gives 1 of 3 rows a derivative by 'size' that is not finite .individual 7 decision 5.; take 'size' out of explain"
    )
    with pytest.raises(TrainingError, match=f"run {RUN_ID} {expected}"):
        explain_rows(scored(block), block, np.array([[0.0], [1.0], [np.inf]]), ["size"], ["size"], run_id=RUN_ID)


def test_only_decisions_with_one_selected_row_are_evaluated():
    selected = [True, False, False, False, False, False, True]
    source = table([1] * 7, [0, 0, 1, 1, 2, 2, 2], [0, 1, 0, 1, 0, 1, 2], _selected=selected)
    utility = np.array([np.log(3), 0, 9, 9, 0, 0, np.log(2)])
    found = combine([measure_selected(prepared(source), utility, "test")])
    assert found.decisions == 2
    assert found.nll == pytest.approx(-(np.log(3 / 4) + np.log(2 / 4)) / 2)
    for nothing in (
        measure_selected(prepared(source), utility, "train"),
        measure_selected(prepared(source.drop_columns("_selected")), np.zeros(7), "test"),
        measure_selected(prepared(source.slice(0, 0)), np.empty(0), "test"),
    ):
        assert combine([nothing]) is None


@pytest.mark.parametrize(("labels", "codes"), [(["car", "bus"], surrogates(pa.array(["car", "bus"]))), ([7, 9], [7, 9])])
def test_weights_and_labels_are_those_of_the_decisions_that_are_evaluated(labels, codes):
    columns = {
        "_selected": [True, False, True, True, False, True],
        "_weight": [1.0, 1.0, 9.0, 9.0, 3.0, 3.0],
        "_alternative": [labels[i] for i in (0, 1, 0, 1, 0, 1)],
    }
    source = table([1] * 6, [0, 0, 1, 1, 2, 2], [0, 1] * 3, **columns)
    shares = dict(zip(map(int, codes), (0.8, 0.2), strict=True))
    found = combine([measure_selected(prepared(source), np.zeros(6), "test", shares)])
    assert found.decisions == 2
    assert found.shares_nll == pytest.approx(-(np.log(0.8) + 3 * np.log(0.2)) / 4)


IDS = st.one_of(st.integers(-2, 5), st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
FLAGS = st.sampled_from([True, False, None])
DECISIONS = st.dictionaries(
    st.tuples(IDS, IDS),
    st.tuples(FLAGS, st.dictionaries(IDS, st.tuples(FLAGS, st.floats(-9, 9, width=32)), min_size=1, max_size=4)),
    min_size=1,
    max_size=10,
)


def plain_inference(decisions, shards, stands_for):
    """Score decisions one by one: the utility is twice the size, no flag is false, every individual is in one shard."""
    found = {}
    for (i, d), (train, choices) in decisions.items():
        (shard,) = (s for s in shards if one(s).holds(np.array([stands_for[i]]), np.array([bool(train)]))[0])
        weights = {c: np.exp(2 * size) for c, (_, size) in choices.items()}
        for c, (_, size) in choices.items():
            others = sum(weight for other, weight in weights.items() if other != c)
            odds = weights[c] / others if others else np.inf
            found[i, d, c] = bool(train), weights[c] / sum(weights.values()), odds, 2 * size, shard.index
    return found


def mixed_table(decisions, random, text):
    """Return the rows of decisions in any order."""
    rows = [(i, d, c, train, *value) for (i, d), (train, of) in decisions.items() for c, value in of.items()]
    individual, decision, choice, train, selected, size = zip(*random.sample(rows, len(rows)), strict=True)
    flags = {"_train": pa.array(train, pa.bool_()), "_selected": pa.array(selected, pa.bool_())}
    source = table(individual, decision, choice, size=pa.array(size, pa.float32()), **flags)
    for position, name in enumerate(KEYS * text):
        source = source.set_column(position, name, source[name].cast(pa.string()))
    return source


def cut_anywhere(source, random):
    """Cut a table into blocks of whole individuals, in the order of the individuals, at random places."""
    ids = surrogates(source["_individual"])
    different = np.unique(ids)
    cuts = sorted(random.sample(range(1, len(different)), random.randint(0, len(different) - 1)))
    bounds = pairwise([0, *cuts, len(different)])
    return [prepared(source.filter(pa.array(np.isin(ids, different[start:end])))) for start, end in bounds]


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts"])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    decisions=DECISIONS,
    random=st.randoms(use_true_random=False),
    partitions=st.fixed_dictionaries({"train": st.integers(1, 3), "test": st.integers(1, 3)}),
)
def test_blocks_that_are_cut_anywhere_between_individuals_have_the_rows_of_a_plain_reading(
    text, decisions, random, partitions
):
    source = mixed_table(decisions, random, text)
    shards = [shard for part in plan_parts(partitions, None) for shard in part.shards]
    blocks = cut_anywhere(source, random)
    assert not any(block.outcome.violations for block in blocks)
    found = pa.concat_tables(
        inference_rows(block, block.rows.x[:, 0].astype(float) * 2, one(*shards), experiment_name="e", run_id=RUN_ID)
        for block in blocks
    )
    keys = list(zip(*(surrogates(found[name]).tolist() for name in KEYS), strict=True))
    assert keys == sorted(keys)

    ids = source["_individual"]
    stands_for = dict(zip(map(int, ids.to_pylist()), surrogates(ids).tolist(), strict=True))
    expected = plain_inference(decisions, shards, stands_for)
    assert len(found) == len(expected)
    for row in found.to_pylist():
        values = [row[name] for name in ("_train", "probability", "odds", "utility", "_partition")]
        assert values == pytest.approx(expected[tuple(int(row[name]) for name in KEYS)], rel=1e-9)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(decisions=DECISIONS, random=st.randoms(use_true_random=False))
def test_the_evaluations_of_blocks_are_of_all_decisions_with_one_selected_row(decisions, random):
    blocks = cut_anywhere(mixed_table(decisions, random, text=False), random)
    for split in SPLITS:
        found = combine(measure_selected(block, block.rows.x[:, 0].astype(float) * 2, split) for block in blocks)
        losses = []
        for train, choices in decisions.values():
            chosen = [size for selected, size in choices.values() if selected]
            if len(chosen) == 1 and bool(train) == (split == "train"):
                losses.append(np.log(sum(np.exp(2 * size) for _, size in choices.values())) - 2 * chosen[0])
        assert (found.decisions if found else 0) == len(losses)
        assert (found.nll if found else 0) == pytest.approx(np.mean(losses) if losses else 0, rel=1e-9, abs=1e-9)


def test_features_may_come_in_any_order():
    check_features(["age", "size"], ["size", "age"], RUN_ID)


def test_columns_that_only_interactions_name_may_be_named_or_left_out():
    for asked in (["size"], ["age", "size"]):
        check_features(asked, ["size"], RUN_ID, in_interactions=["age"])
    with pytest.raises(SpecError, match="rank not used by it"):
        check_features(["size", "rank"], ["size"], RUN_ID, in_interactions=["age"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["size"], "age missing; give exactly these"),
        (["size", "age", "b", "a"], "a, b not used by it; give exactly these"),
        (["size", "rank"], "age missing; rank not used by it; give exactly these"),
    ],
)
def test_another_set_of_features_is_refused(asked, expected):
    with pytest.raises(SpecError, match=f"features: run 07c49bc09b5b... was trained on size, age; {expected}"):
        check_features(asked, ["size", "age"], RUN_ID)
