"""Contrasts: what is sampled is counted, even, random and the same everywhere, and the logit on it agrees."""

from collections import Counter
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core import contrasts
from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block
from mimic_core.contrasts import contrast_schema, require_contrasts, sample, usable_individuals
from mimic_core.errors import SpecError, TableError
from mimic_core.identifiers import surrogates
from mimic_core.interactions import columns
from mimic_core.logit import estimate
from mimic_core.outcomes import Outcome
from mimic_core.rows import hash64
from mimic_core.shards import plan_parts, shard_index
from mimic_core.sources import KEYS
from mimic_core.specs import ContrastSpec
from mimic_core.streams import in_memory

SWISSMETRO = Path(__file__).parents[2] / ".." / "shared" / "data" / "swissmetro.parquet"
CONFIG = {
    "database": "haven",
    "source_table": "example_log_odds_features",
    "train_partitions": 2,
    "test_partitions": 1,
    "destination_table": "example_log_odds_contrasts",
    "decisions_per_individual": 2,
    "alternatives_per_decision": 2,
}
FEATURES = ["near", "price", "first"]
TRUTH = np.array([1.0, -0.7, 0.4])


def spec(draws=1, alternatives=1, seed=0, **changes):
    drawn = {"decisions_per_individual": draws, "alternatives_per_decision": alternatives, "seed": seed}
    return parse_spec(ContrastSpec, {**CONFIG, **drawn, **changes})


def table(decisions):
    """Return the rows of {individual: {decision: choices}}: the first choice is selected, multiples of 3 test."""
    ids = [(i, d, c, c == choices[0]) for i, of in decisions.items() for d, choices in of.items() for c in choices]
    individual, decision, choice, selected = zip(*ids, strict=True)
    return pa.table(
        {
            "_individual": pa.array(individual, pa.int64()),
            "_decision": pa.array(decision, pa.int64()),
            "label": [f"{i}/{d}/{c}" for i, d, c, _ in ids],
            "_choice": pa.array(choice, pa.int64()),
            "_selected": selected,
            "_train": [i % 3 != 0 for i in individual],
            "size": pa.array([None if c % 4 == 0 else row / 2 for row, c in enumerate(choice)], pa.float64()),
        }
    )


def drawn(source, spec, partitions=None):
    """Return the contrast table of a source as one table in the order of its keys, from one shard or from partitions."""
    blocks = [source]
    if partitions:
        ids, train = (np.asarray(source[name]) for name in ("_individual", "_train"))
        blocks = [source.filter(pa.array(part.holds(ids, train))) for part in plan_parts(partitions, None)]
    made = [pairs for block in blocks for pairs in sample(check_block(block, Rules()), spec)]
    empty = contrast_schema(source.schema, "t", spec.sampling).empty_table()
    return pa.concat_tables([empty, *made]).sort_by([(name, "ascending") for name in KEYS])


def rejected_choices(decisions):
    """Return {(individual, decision): the rejected choices} of the decisions that have any."""
    return {(i, d): choices[1:] for i, of in decisions.items() for d, choices in of.items() if len(choices) > 1}


def pairs_of(found):
    """Return the selected and the rejected row of each new decision."""
    rows = found.to_pylist()
    return list(zip(rows[::2], rows[1::2], strict=True))


def even(counts, keys):
    """Tell whether these keys were used equally often but for one, and no others were used."""
    uses = [counts[key] for key in keys]
    return max(uses) - min(uses) <= 1 and set(counts) <= set(keys)


def order_of(seed, individual, *ids):
    """Return the hash that orders a decision or a choice: each id is hashed with the hash of what stands above it."""
    found = hash64(np.array([individual]), seed)[0]
    for value in ids:
        found = hash64(np.array([int(found) ^ value % 2**64], np.uint64))[0]
    return found


def reference(source, spec):
    """Sample with dicts and loops, straight from the rules."""
    individuals = {}
    for row in source.to_pylist():
        individuals.setdefault(row["_individual"], {}).setdefault(row["_decision"], []).append(row)
    found = []
    for i, decisions in sorted(individuals.items()):
        usable = sorted((d for d in decisions if len(decisions[d]) > 1), key=lambda d, i=i: order_of(spec.seed, i, d))
        turns = {}
        for d in usable:
            rejected = [row for row in decisions[d] if not row["_selected"]]
            turns[d] = cycle(sorted(rejected, key=lambda row, i=i, d=d: order_of(spec.seed, i, d, row["_choice"])))
        new = i * spec.decisions_per_individual * spec.alternatives_per_decision
        for d in islice(cycle(usable), spec.decisions_per_individual):
            selected = next(row for row in decisions[d] if row["_selected"])
            for rejected in islice(turns[d], spec.alternatives_per_decision):
                for choice, row in enumerate((selected, rejected)):
                    old = {"_old_decision": d, "_old_choice": row["_choice"]}
                    found.append(row | {"_decision": new, "_choice": choice} | old)
                new += 1
    return found


SMALL = st.integers(-3, 5)
IDS = st.one_of(SMALL, st.sampled_from([2**53, 2**53 + 1]), st.integers(-(2**63), 2**63 - 1))
INDIVIDUALS = st.one_of(SMALL, st.sampled_from([2**53, 2**53 + 1]), st.integers(-(2**57), 2**57))  # new ids do not wrap
CHOICES = st.lists(IDS, min_size=1, max_size=5, unique=True)
DECISIONS = st.dictionaries(IDS, CHOICES, min_size=1, max_size=4)
TABLES = st.dictionaries(INDIVIDUALS, DECISIONS, min_size=1, max_size=4)
SPECS = st.builds(spec, st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31 - 1))
examples = settings(deadline=None, derandomize=True, max_examples=100)


def test_one_pair_worked_out_by_hand():
    source = table({7: {30: [2, 5]}})
    keys = {"_individual": 7, "_decision": 7, "_train": True, "_old_decision": 30}
    assert drawn(source, spec()).to_pylist() == [
        keys | {"_choice": 0, "_selected": True, "label": "7/30/2", "size": 0.0, "_old_choice": 2},
        keys | {"_choice": 1, "_selected": False, "label": "7/30/5", "size": 0.5, "_old_choice": 5},
    ]


def test_new_decisions_are_numbered_by_individual_and_rank():
    found = drawn(table({-1: {0: [0, 1, 2]}, 0: {5: [1, 0]}, 7: {30: [2, 5], 31: [0]}}), spec(draws=2, alternatives=3))
    assert found["_decision"].to_pylist()[::2] == [*range(-6, 0), *range(6), *range(42, 48)]
    assert found["_choice"].to_pylist() == [0, 1] * 18


def test_new_decisions_wrap_around_at_the_ends_of_64_bits():
    for individual, expected in ((2**63 - 1, [-2, -1]), (-(2**63), [0, 1])):
        found = drawn(table({individual: {0: [0, 1]}}), spec(draws=2))
        assert found["_decision"].to_pylist()[::2] == expected


def test_the_columns_are_those_of_the_source_in_their_order_and_where_rows_come_from():
    source = table({1: {0: [0, 1]}})
    (part,) = sample(check_block(source, Rules()), spec())
    assert part.column_names == [*source.column_names, "_old_decision", "_old_choice"]
    assert part.schema == contrast_schema(source.schema, "t", None)


def test_each_decision_and_each_rejected_choice_is_used_before_any_is_used_again():
    source = table({1: {0: [0, 1, 2, 3], 1: [9, 8, 7, 6]}})
    thrice = [(d, c) for d, choices in ((0, [1, 2, 3]), (1, [6, 7, 8])) for c in choices]
    for draws, alternatives, times in ((2, 3, 1), (6, 1, 1), (6, 2, 2), (2, 6, 2)):
        found = pairs_of(drawn(source, spec(draws, alternatives)))
        assert Counter((r["_old_decision"], r["_old_choice"]) for _, r in found) == dict.fromkeys(thrice, times)


@examples
@given(TABLES, SPECS)
def test_the_sample_is_that_of_a_reference_written_with_loops(decisions, spec):
    source = table(decisions)
    assert drawn(source, spec).to_pylist() == reference(source, spec)


@examples
@given(TABLES, SPECS)
def test_each_usable_individual_has_all_its_draws_and_no_other_individual_any(decisions, spec):
    found = drawn(table(decisions), spec)
    draws = spec.decisions_per_individual * spec.alternatives_per_decision
    usable = {i for i, _ in rejected_choices(decisions)}
    assert Counter(found["_individual"].to_pylist()) == dict.fromkeys(usable, 2 * draws)
    assert Counter(found["_decision"].to_pylist()) == {i * draws + rank: 2 for i in usable for rank in range(draws)}


@examples
@given(TABLES, SPECS)
def test_each_new_decision_pairs_two_copied_rows_of_one_decision(decisions, spec):
    source = table(decisions)
    copied = {tuple(row.pop(name) for name in KEYS): row for row in source.to_pylist()}
    for pair in pairs_of(drawn(source, spec)):
        assert [(row["_choice"], row["_selected"]) for row in pair] == [(0, True), (1, False)]
        assert len({(row["_individual"], row["_decision"], row["_old_decision"]) for row in pair}) == 1
        for row in pair:
            of = copied[row["_individual"], row["_old_decision"], row["_old_choice"]]
            assert {name: row[name] for name in of} == of


@examples
@given(TABLES, SPECS)
def test_decisions_of_an_individual_are_used_evenly(decisions, spec):
    uses = Counter((s["_individual"], s["_old_decision"]) for s, _ in pairs_of(drawn(table(decisions), spec)))
    usable = rejected_choices(decisions)
    assert all(count % spec.alternatives_per_decision == 0 for count in uses.values())
    for i in {i for i, _ in usable}:
        mine = {key: count // spec.alternatives_per_decision for key, count in uses.items() if key[0] == i}
        assert even(Counter(mine), [key for key in usable if key[0] == i])


@examples
@given(TABLES, SPECS)
def test_rejected_choices_of_a_decision_are_used_evenly_in_each_draw_and_over_all(decisions, spec):
    uses = {}
    for _, row in pairs_of(drawn(table(decisions), spec)):
        decision = row["_individual"], row["_old_decision"]
        for draw in ("all", row["_decision"] // spec.alternatives_per_decision):
            uses.setdefault((decision, draw), Counter())[row["_old_choice"]] += 1
    assert all(even(counts, rejected_choices(decisions)[decision]) for (decision, _), counts in uses.items())


@examples
@given(TABLES, SPECS, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 4))
def test_neither_row_order_nor_partitions_nor_the_other_split_change_the_sample(decisions, spec, random, train, test):
    source = table(decisions)
    mixed = source.take(random.sample(range(len(source)), len(source)))
    expected = drawn(source, spec)
    assert drawn(mixed, spec) == expected
    assert drawn(mixed, spec, {"train": train, "test": test}) == expected
    for split in (True, False):
        alone = source.filter(pa.array([value == split for value in source["_train"].to_pylist()]))
        assert drawn(alone, spec).to_pylist() == [row for row in expected.to_pylist() if row["_train"] == split]


def cut_anywhere(source, random):
    """Cut a table into tables of whole individuals, in the order of the individuals, at random places."""
    ids = surrogates(source["_individual"])
    different = np.unique(ids)
    cuts = sorted(random.sample(range(1, len(different)), random.randint(0, len(different) - 1)))
    return [source.filter(pa.array(np.isin(ids, different[a:b]))) for a, b in pairwise([0, *cuts, len(different)])]


@examples
@given(TABLES, SPECS, st.randoms(use_true_random=False))
def test_blocks_that_are_cut_anywhere_between_individuals_give_the_sample_of_the_whole_in_its_order(decisions, spec, random):
    source = table(decisions)
    mixed = source.take(random.sample(range(len(source)), len(source)))
    parts = [pairs for part in cut_anywhere(mixed, random) for pairs in sample(check_block(part, Rules()), spec)]
    assert [row for part in parts for row in part.to_pylist()] == reference(source, spec)


@settings(examples, max_examples=40)
@given(TABLES, SPECS, st.randoms(use_true_random=False))
def test_text_ids_are_sampled_as_the_numbers_that_stand_for_them(decisions, spec, random):
    texts = numbers = table(decisions)
    for name in KEYS:
        position = texts.column_names.index(name)
        texts = texts.set_column(position, name, texts[name].cast(pa.string()))
        numbers = numbers.set_column(position, name, pa.array(surrogates(texts[name])))
    mixed = texts.take(random.sample(range(len(texts)), len(texts)))
    parts = [pairs for part in cut_anywhere(mixed, random) for pairs in sample(check_block(part, Rules()), spec)]
    found = [row for part in parts for row in part.to_pylist()]
    assert [(row["label"], row["_choice"]) for row in found] == [
        (row["label"], row["_choice"]) for row in reference(numbers, spec)
    ]
    assert all(
        "/".join(row[name] for name in ("_individual", "_old_decision", "_old_choice")) == row["label"] for row in found
    )


@examples
@given(TABLES, SPECS, st.integers(1, 9))
def test_parts_are_small_and_together_the_same(decisions, spec, size):
    block, expected = check_block(table(decisions), Rules()), drawn(table(decisions), spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrasts, "PAIRS_PER_PART", size)
        parts = list(sample(block, spec))
    assert [row for part in parts for row in part.to_pylist()] == expected.to_pylist()
    assert all(len(part) == 2 * size for part in parts[:-1])
    assert all(0 < len(part) <= 2 * size for part in parts)


def test_another_seed_gives_another_sample_and_the_same_seed_the_same():
    source = table({i: {d: [0, 1, 2, 3] for d in range(5)} for i in range(20)})
    samples = [drawn(source, spec(2, 2, seed)) for seed in (0, 0, 1, 2, 2**31 - 1)]
    assert samples[0] == samples[1]
    assert len({str(found["label"].to_pylist()) for found in samples}) == 4


def looks_uniform(counts):
    """Tell whether counts are what a uniform draw gives; a good sampler fails once in ten thousand times."""
    return bool(scipy.stats.chisquare(np.ravel(counts)).pvalue > 1e-4)


def cells(of, n, by, m):
    """Return (n, m) counts of how often two ranks occur together."""
    return np.bincount(np.asarray(of) * m + np.asarray(by), minlength=n * m).reshape(n, m)


def one_draw(seed=0, step=1):
    """Return (3000,) individual, decision rank of 6 and rejected-choice rank of 4 that one draw each takes."""
    individuals = [i * step for i in range(3000)]
    found = drawn(table({i: {d: [4, 0, 1, 2, 3] for d in range(6)} for i in individuals}), spec(seed=seed))
    return (np.array(found[name])[1::2] for name in ("_individual", "_old_decision", "_old_choice"))


@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, 1), (12345, -1), (0, 2**40)])
def test_every_decision_with_every_rejected_choice_is_equally_likely(seed, step):
    individual, decision, choice = one_draw(seed, step)
    assert looks_uniform(cells(decision, 6, choice, 4))
    for index in range(2):
        mine = shard_index(individual, 2) == index
        assert looks_uniform(cells(decision[mine], 6, choice[mine], 4))


def test_what_one_seed_takes_says_nothing_of_what_another_takes():
    (_, decision, choice), (_, other_decision, other_choice) = one_draw(seed=0), one_draw(seed=1)
    assert looks_uniform(cells(decision, 6, other_decision, 6))
    assert looks_uniform(cells(choice, 4, other_choice, 4))


def test_samples_in_the_order_of_ids_do_not_look_uniform():
    first, turns = np.zeros(3000, int), np.arange(3000)
    random = np.random.default_rng(0)
    decision, choice = random.integers(6, size=3000), random.integers(4, size=3000)
    assert looks_uniform(cells(decision, 6, choice, 4))
    assert not looks_uniform(cells(first, 6, first, 4))
    assert not looks_uniform(cells(decision, 6, first, 4))
    assert not looks_uniform(cells(first, 6, choice, 4))
    assert not looks_uniform(cells(decision // 2, 6, choice, 4))
    assert not looks_uniform(cells(turns % 6, 6, turns % 4, 4))


def logit_table(individuals=1500, seed=0):
    """Return four decisions per individual, of one to eight choices, drawn from a logit with TRUTH; `first` is choice 0."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 9, 4 * individuals)
    starts = np.cumsum(counts) - counts
    decision = np.repeat(np.arange(len(counts)), counts)
    choice = np.arange(len(decision)) - starts[decision]
    x = np.column_stack([random.normal(size=(len(decision), 2)), choice == 0])
    utility = x @ TRUTH + random.gumbel(size=len(x))
    selected = utility == np.repeat(np.maximum.reduceat(utility, starts), counts)
    columns = {"_individual": decision // 4, "_decision": decision % 4, "_choice": choice, "_selected": selected}
    return pa.table(columns | {"_train": np.full(len(x), True)} | dict(zip(FEATURES, x.T, strict=True)))


def fit(source):
    """Return the coefficients of the logit on all rows and their standard errors, clustered by individual.

    H^-1 (sum over individuals of s s') H^-1 * G / (G - 1), with H the Hessian of the negative log-likelihood, s the sum of
    (y_j - p_j) x_j over an individual's rows j, and G the number of individuals.
    """
    rows = check_block(source, Rules(features=tuple(FEATURES))).rows
    beta, x = estimate(in_memory(rows), columns((), FEATURES)).coefficients, rows.x.astype(float)
    weights = np.exp(x @ beta)
    p = weights / np.repeat(np.add.reduceat(weights, rows.starts), rows.counts)
    mean = np.add.reduceat(p[:, None] * x, rows.starts)
    bread = np.linalg.inv((p[:, None] * x).T @ x - mean.T @ mean)
    first = np.flatnonzero(np.diff(rows.individual, prepend=rows.individual[0] - 1))
    scores = np.add.reduceat((rows.selected - p)[:, None] * x, first)
    meat = scores.T @ scores * len(first) / (len(first) - 1)
    return beta, np.sqrt(np.diag(bread @ meat @ bread))


def pairs_with_the_lowest_id(source):
    """Return each selected row and the rejected row of the lowest choice id: what must not be sampled."""
    rows = check_block(source, Rules()).rows
    lowest = (rows.starts + rows.selected[rows.starts])[rows.counts > 1]
    selected = np.flatnonzero(rows.selected)[rows.counts > 1]
    return source.take(np.concatenate([selected, lowest]))


@pytest.mark.parametrize(("draws", "alternatives"), [(1, 1), (4, 2), (9, 3)])
def test_the_logit_on_contrasts_finds_the_coefficients_of_the_full_decisions(draws, alternatives):
    source = logit_table()
    full, full_error = fit(source)
    found, error = fit(drawn(source, spec(draws, alternatives)))
    assert (np.abs(full - TRUTH) < 3.5 * full_error).all()
    assert (np.abs(found - TRUTH) < 3.5 * error).all()
    assert (np.abs(found - full) < 3 * error).all()
    assert (full_error < error).all()
    assert (error < 0.15).all()


def test_the_logit_on_pairs_in_the_order_of_ids_does_not():
    found, error = fit(pairs_with_the_lowest_id(logit_table()))
    assert np.abs(found - TRUTH)[2] > 10 * error[2]


def test_rows_that_break_a_rule_are_reported_together():
    source = table({1: {0: [0, 1], 1: [0, 1], 2: [0, 1]}, 2: {0: [0]}})
    source = source.set_column(3, "_choice", pa.array([0, 1, 5, 5, None, 1, 0]))
    source = source.set_column(4, "_selected", pa.array([True, True, True, False, True, False, None]))
    assert [str(violation) for violation in check_block(source, Rules()).outcome.violations] == [
        "rows with a null _choice: 1 (individual 1 decision 2)",
        "rows with a null _selected: 1 (individual 2 decision 0)",
        "decisions that offer a _choice twice: 1 (individual 1 decision 1)",
        "decisions with no selected row: 2 (individual 1 decision 2, individual 2 decision 0)",
        "decisions with two or more selected rows: 1 (individual 1 decision 0)",
    ]


def test_a_missing_or_infinite_feature_is_no_violation_since_it_is_copied():
    source = table({1: {0: [0, 1]}}).set_column(6, "size", pa.array([float("inf"), None]))
    assert check_block(source, Rules()).outcome.violations == ()
    assert drawn(source, spec())["size"].to_pylist() == [float("inf"), None]


def test_decisions_without_a_rejected_choice_are_skipped_and_counted():
    block = check_block(table({1: {0: [0], 1: [0, 1]}, 2: {0: [0], 1: [3]}, 4: {0: [0, 1, 2], 1: [0, 1]}}), Rules())
    assert (block.outcome.decisions, block.outcome.single_choice_decisions) == (6, 3)
    assert usable_individuals(block.rows) == 2
    assert {row["_individual"] for part in sample(block, spec(9, 9)) for row in part.to_pylist()} == {1, 4}


@pytest.mark.parametrize("source", [table({1: {0: [0]}}), table({1: {0: [0]}}).slice(0, 0)], ids=["single", "empty"])
def test_a_shard_without_a_rejected_choice_yields_nothing(source):
    block = check_block(source, Rules())
    assert list(sample(block, spec(3, 3))) == []
    assert usable_individuals(block.rows) == 0
    assert block.outcome.violations == ()


def test_a_table_without_any_rejected_choice_is_refused():
    require_contrasts(1, Outcome(decisions=1234), "haven.t")
    expected = (
        r"table haven\.t: none of its 1,234 decisions has a rejected choice to contrast with; "
        "give at least one decision two or more choices"
    )
    with pytest.raises(TableError, match=expected):
        require_contrasts(0, Outcome(decisions=1234), "haven.t")


def test_a_source_that_is_itself_a_contrast_set_is_refused():
    source = contrast_schema(table({1: {0: [0]}}).schema, "haven.t", None)
    with pytest.raises(TableError, match=r"table haven\.c has '_old_decision' and '_old_choice', which a contrast"):
        contrast_schema(source, "haven.c", None)
    with pytest.raises(TableError, match=r"table haven\.c has '_old_choice', .*sample from the table that this one"):
        contrast_schema(source.remove(source.get_field_index("_old_decision")), "haven.c", None)


def test_the_config_of_the_original_tool_is_read_as_it_is():
    found = parse_spec(ContrastSpec, CONFIG)
    assert (found.key, found.source) == ("haven.example_log_odds_contrasts", "haven.example_log_odds_features")
    assert found.partitions == {"train": 2, "test": 1}
    assert (found.decisions_per_individual, found.alternatives_per_decision, found.seed) == (2, 2, 0)
    assert found.document == CONFIG


def test_partitions_do_not_decide_what_is_sampled_and_the_rest_does():
    deciding = spec(2, 2).deciding
    assert deciding == {"decisions_per_individual": 2, "alternatives_per_decision": 2, "seed": 0}
    assert spec(2, 2, train_partitions=9, test_partitions=9).deciding == deciding
    assert all(other.deciding != deciding for other in (spec(3, 2), spec(2, 3), spec(2, 2, 1)))


def test_a_contrast_table_with_the_name_of_its_source_is_refused():
    expected = "destination_table: 'example_log_odds_features' is the source table; give the contrast table a name"
    with pytest.raises(SpecError, match=expected):
        spec(destination_table=CONFIG["source_table"])


@pytest.mark.parametrize("name", ["decisions_per_individual", "alternatives_per_decision", "train_partitions"])
def test_a_number_below_one_is_refused(name):
    with pytest.raises(SpecError, match=f"{name}: expected a number of at least 1, found 0"):
        parse_spec(ContrastSpec, CONFIG | {name: 0})


def test_as_many_draws_as_decisions_use_each_decision_of_swissmetro_once():
    if not SWISSMETRO.is_file():
        pytest.skip("the reference table ../shared/data/swissmetro.parquet is not here")
    source = pq.read_table(SWISSMETRO)
    source = source.filter(source["_train"]).replace_schema_metadata(None)
    found = drawn(source, spec(draws=9, alternatives=2)).to_pandas()
    choices = source.to_pandas().groupby(["_individual", "_decision"]).size()
    uses = found[found["_choice"] == 1].groupby(["_individual", "_old_decision", "_old_choice"]).size()
    assert (len(choices), len(found)) == (8568, 8568 * 2 * 2)
    assert found["_decision"].nunique() == 8568 * 2
    of_two, of_three = ((choices == n).sum() for n in (2, 3))
    assert uses.value_counts().to_dict() == {1: 2 * of_three, 2: of_two}
    assert (uses.groupby(level=[0, 1]).sum() == 2).all()
