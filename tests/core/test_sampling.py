"""Sampling of alternatives: draws follow the weights, their log-probabilities correct for them, and samples are uniform."""

import math
from collections import Counter
from decimal import Decimal
from itertools import cycle, islice

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core import contrasts
from mimic_core.configs import parse_spec
from mimic_core.contract import Rules, check_block, check_table
from mimic_core.contrasts import contrast_schema, sample
from mimic_core.datasets import ids_by_shard, labels, rules, sampled_note, within_max_choices
from mimic_core.errors import TableError
from mimic_core.rows import hash64
from mimic_core.sampling import weighted_choices, within
from mimic_core.shards import plan_parts
from mimic_core.sources import KEYS, check_schema
from mimic_core.specs import ContrastSpec, DatasetSpec

OFFSET = "_sampling_log_probability"
examples = settings(deadline=None, derandomize=True, max_examples=80)


def spec(draws=1, alternatives=1, seed=0, **changes):
    document = {"database": "haven", "source_table": "t", "destination_table": "c", "sampling": {"weights": "weight"}}
    document |= {"decisions_per_individual": draws, "alternatives_per_decision": alternatives, "seed": seed}
    return parse_spec(ContrastSpec, document | changes)


def dataset(most, seed=0, **changes):
    document = {"database": "haven", "table": "t", "max_choices": most, "overflow": "sample", "seed": seed}
    return parse_spec(DatasetSpec, document | {"features": ["size"], "space": "s", "dataset": "d"} | changes)


def table(decisions):
    """Return the rows of {individual: {decision: {choice: weight}}}: the first choice is selected, multiples of 3 test."""
    rows = []
    for individual, of in decisions.items():
        for decision, weights in of.items():
            for place, (choice, weight) in enumerate(weights.items()):
                row = {"_individual": individual, "_decision": decision, "_choice": choice, "_selected": place == 0}
                rows.append(row | {"_train": individual % 3 != 0, "weight": float(weight), "size": float(len(rows))})
    return pa.Table.from_pylist(rows)


def pairs_of(source, spec, size=contrasts.PAIRS_PER_PART):
    """Return the pairs that are sampled from one block, as two rows each."""
    block = check_block(source, contrasts.rules(spec))
    assert block.outcome.violations == ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrasts, "PAIRS_PER_PART", size)
        rows = [row for part in sample(block, spec) for row in part.to_pylist()]
    return list(zip(rows[::2], rows[1::2], strict=True))


def in_order(pairs):
    return sorted(pairs, key=lambda pair: (pair[0]["_individual"], pair[0]["_decision"]))


def hashed(seed, *ids):
    """Return the hash of ids below each other: each is hashed with the hash of what stands above it."""
    found = int(hash64(np.array([ids[0]]), seed)[0])
    for value in ids[1:]:
        found = int(hash64(np.array([found ^ value % 2**64], np.uint64))[0])
    return found


def reference(source, spec):
    """Draw with dicts, loops and Python's integers, straight from the rules."""
    individuals = {}
    for row in source.to_pylist():
        individuals.setdefault(row["_individual"], {}).setdefault(row["_decision"], []).append(row)
    found = []
    for i, decisions in sorted(individuals.items()):
        usable = sorted((d for d in decisions if len(decisions[d]) > 1), key=lambda d, i=i: hashed(spec.seed, i, d))
        rank = 0
        for d in islice(cycle(usable), spec.decisions_per_individual if usable else 0):
            selected = next(row for row in decisions[d] if row["_selected"])
            rejected = sorted((row for row in decisions[d] if not row["_selected"]), key=lambda row: row["_choice"])
            largest = max(row["weight"] for row in rejected)
            units = [max(round(row["weight"] / largest * 2**32), 1) for row in rejected]
            for _ in range(spec.alternatives_per_decision):
                left, drawn = hashed(spec.seed, i, d, rank) % sum(units), 0
                while left >= units[drawn]:
                    left, drawn = left - units[drawn], drawn + 1
                pair = (selected, rejected[drawn])
                found.append((d, pair, [log_probability(decisions[d], *of) for of in (pair, pair[::-1])]))
                rank += 1
    return found


def log_probability(decision, row, other):
    """Return ln(w_j / (W - w_i)) of row i beside the other row j."""
    rest = math.fsum(of["weight"] for of in decision if of["_choice"] != row["_choice"])
    return math.log(other["weight"]) - math.log(rest)


IDS = st.one_of(st.integers(-3, 5), st.sampled_from([2**53, 2**53 + 1]), st.integers(-(2**63), 2**63 - 1))
WEIGHTS = st.one_of(st.floats(0.01, 100), st.sampled_from([1e-12, 1e12]))
TABLES = st.dictionaries(
    st.integers(-(2**57), 2**57) | st.integers(-3, 5),
    st.dictionaries(IDS, st.dictionaries(IDS, WEIGHTS, min_size=1, max_size=5), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
).map(table)
SPECS = st.builds(spec, st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31 - 1))


def test_the_hand_check_of_three_alternatives():
    source = table({1: {0: {1: 0.8, 2: 0.15, 3: 0.05}}})
    pairs = pairs_of(source, spec(alternatives=20))
    first, second = next(pair for pair in pairs if pair[1]["_old_choice"] == 2)
    assert [first[OFFSET], second[OFFSET]] == pytest.approx([math.log(0.75), math.log(0.8 / 0.85)], abs=1e-15)
    assert first[OFFSET] - second[OFFSET] == pytest.approx(-0.2271, abs=5e-5)


@examples
@given(TABLES, SPECS)
def test_the_draws_and_their_log_probabilities_are_those_of_a_reference_written_with_loops(source, spec):
    expected, found = reference(source, spec), pairs_of(source, spec)
    assert [(s["_old_decision"], s["size"], r["size"]) for s, r in found] == [
        (decision, selected["size"], rejected["size"]) for decision, (selected, rejected), _ in expected
    ]
    for pair, (_, _, offsets) in zip(found, expected, strict=True):
        assert [row[OFFSET] for row in pair] == pytest.approx(offsets, rel=1e-12, abs=1e-12)


@settings(examples, max_examples=50)
@given(TABLES, SPECS, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 9))
def test_neither_row_order_nor_shards_nor_parts_change_the_weighted_sample(source, spec, random, shards, size):
    expected = pairs_of(source, spec)
    mixed = source.take(random.sample(range(len(source)), len(source)))
    assert pairs_of(mixed, spec, size) == expected
    ids, train = (np.asarray(mixed[name]) for name in ("_individual", "_train"))
    parts = plan_parts({"train": shards, "test": shards}, None)
    blocks = [mixed.filter(pa.array(part.holds(ids, train))) for part in parts]
    assert in_order([pair for block in blocks if len(block) for pair in pairs_of(block, spec)]) == in_order(expected)


def test_text_ids_are_drawn_by_the_same_weights():
    source = table({i: {0: {7: 1.0, 8: 1e9, 9: 1.0}} for i in range(20)})
    for name in KEYS:
        source = source.set_column(source.column_names.index(name), name, source[name].cast(pa.string()))
    pairs = pairs_of(source, spec(alternatives=3))
    assert {(s["_old_choice"], r["_old_choice"]) for s, r in pairs} == {("7", "8")}


def test_another_seed_draws_others_and_the_same_seed_the_same():
    source = table({i: {0: dict.fromkeys(range(6), 1.0)} for i in range(20)})
    drawn = [pairs_of(source, spec(2, 2, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, -1), (12345, 2**40)])
def test_frequencies_follow_the_weights_and_draws_do_not_depend_on_each_other(seed, step):
    weights = {4: 0.5, 0: 8.0, 1: 4.0, 2: 2.0, 3: 1.0}  # 4 is selected
    pairs = pairs_of(table({i * step: {5: weights} for i in range(3000)}), spec(2, 2, seed))
    drawn = np.array([rejected["_old_choice"] for _, rejected in pairs]).reshape(3000, 4)
    share = np.array([8, 4, 2, 1]) / 15
    for first, second in ((0, 1), (0, 2), (1, 3), (2, 3)):
        cells = np.bincount(drawn[:, first] * 4 + drawn[:, second], minlength=16)
        assert scipy.stats.chisquare(cells, np.outer(share, share).ravel() * 3000).pvalue > 1e-4
    unlike = np.roll(share, 1)
    cells = np.bincount(drawn[:, 0], minlength=4)
    assert scipy.stats.chisquare(cells, unlike * 3000).pvalue < 1e-4


def test_the_scale_of_weights_changes_neither_draws_nor_log_probabilities():
    source = table({i: {0: {c: 1.5**c for c in range(6)}} for i in range(50)})
    scaled = source.set_column(5, "weight", pa.array(np.asarray(source["weight"]) * 2.0**-60))
    for pair, other in zip(pairs_of(source, spec(1, 4)), pairs_of(scaled, spec(1, 4)), strict=True):
        assert [row["_old_choice"] for row in pair] == [row["_old_choice"] for row in other]
        assert [row[OFFSET] for row in pair] == pytest.approx([row[OFFSET] for row in other], rel=1e-12)


@pytest.mark.parametrize("weights", [(1e300, 1e-300, 3e-300), (1e-300, 1e300, 1.0), (1.0, 1e-17, 1e-17), (9e307,) * 3])
def test_log_probabilities_are_exact_where_one_weight_is_nearly_all_of_the_sum(weights):
    rows = check_block(table({1: {0: dict(enumerate(weights))}}), Rules()).rows
    pairs = np.array([0, 1, 0, 2])
    found = weighted_choices(rows, np.array(weights)).log_probabilities(pairs)
    exact = [Decimal(weight) for weight in weights]
    for i, j, value in zip(pairs, pairs.reshape(-1, 2)[:, ::-1].ravel(), found, strict=True):
        rest = sum((weight for k, weight in enumerate(exact) if k != i), Decimal(0))
        assert value == pytest.approx(float((exact[j] / rest).ln()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.decimal128(10, 2), pa.uint8()])
def test_weights_of_any_type_of_numbers_are_used(kind):
    source = table({i: {0: {7: 3, 8: 2, 9: 1}} for i in range(5)})
    typed = source.set_column(5, "weight", source["weight"].cast(kind))
    strip = [[{**row, "weight": None} for row in pair] for pair in pairs_of(typed, spec(1, 3))]
    assert strip == [[{**row, "weight": None} for row in pair] for pair in pairs_of(source, spec(1, 3))]


def test_the_columns_of_a_weighted_contrast_table_end_with_the_log_probability():
    source = table({1: {0: {0: 1.0, 1: 2.0}}})
    (part,) = sample(check_block(source, Rules()), spec())
    assert part.column_names == [*source.column_names, "_old_decision", "_old_choice", OFFSET]
    assert part.schema == contrast_schema(source.schema, "t", spec().sampling)
    assert OFFSET not in contrast_schema(source.schema, "t", None).names


def test_a_source_that_has_the_log_probability_cannot_be_sampled_by_weights_but_evenly():
    source = table({1: {0: {0: 1.0, 1: 2.0}}}).append_column(OFFSET, pa.array([0.5, 0.25]))
    with pytest.raises(TableError, match=r"table haven\.t has '_sampling_log_probability', which a contrast set adds"):
        contrast_schema(source.schema, "haven.t", spec().sampling)
    ((selected, rejected),) = pairs_of(source, spec(sampling="uniform"))
    assert (selected[OFFSET], rejected[OFFSET]) == (0.5, 0.25)


def test_columns_of_weights_that_are_missing_or_text_are_named():
    schema = pa.schema([("_individual", pa.int64()), ("weight", pa.string())])
    with pytest.raises(TableError, match="column 'weights' is missing \\(did you mean 'weight'\\?\\)"):
        check_schema(schema, (), table="t", required=(), weights=["weights"])
    with pytest.raises(TableError, match="column 'weight' is string, expected numbers"):
        check_schema(schema, (), table="t", required=(), weights=["weight"])


WRONG = [None, 0.0, -1.0, float("inf"), float("nan")]
RULE = "rows whose sampling weight 'weight' is null, zero, negative or not finite"


def with_wrong_weights():
    """Return six decisions of two choices; the first five have a weight each that nothing can be drawn by."""
    source = table({i: {0: {0: 1.0, 1: 2.0}} for i in range(6)})
    return source.set_column(5, "weight", pa.array([v for wrong in WRONG for v in (1.0, wrong)] + [1.0, 2.0]))


def test_weights_that_nothing_can_be_drawn_by_are_one_broken_rule():
    found = check_block(with_wrong_weights(), contrasts.rules(spec()))
    assert [str(violation) for violation in found.outcome.violations] == [
        f"{RULE}: 5 (individual 0 decision 0, individual 1 decision 0, individual 2 decision 0, individual 3 decision 0, "
        "individual 4 decision 0)"
    ]
    assert check_block(with_wrong_weights(), contrasts.rules(spec(sampling="uniform"))).outcome.violations == ()


def test_weights_of_rows_that_where_leaves_out_do_not_matter():
    kept = spec(where="_individual >= 4")
    (violation,) = check_block(with_wrong_weights(), contrasts.rules(kept)).outcome.violations
    assert (violation.rule, violation.count) == (RULE, 1)
    assert len(pairs_of(with_wrong_weights(), spec(where="_individual = 5"))) == 1


def test_decisions_with_a_wrong_weight_are_dropped_where_the_spec_drops():
    source, drops = with_wrong_weights(), contrasts.rules(spec(invalid_decisions="drop"))
    offending = check_table(source.to_batches, len(source), drops).offending
    block = check_block(source, drops, offending)
    assert block.outcome.violations == ()
    assert [row["_individual"] for part in sample(block, spec()) for row in part.to_pylist()] == [5, 5]


# ---- choice sets that are too large


def limited(source, most, seed=0):
    """Return {(individual, decision): the choices that are kept, the selected first} of a table."""
    rows = check_block(source, Rules()).rows
    kept, found = within(rows, most, seed), {}
    for i, d, c, selected in zip(
        *(part[kept].tolist() for part in (rows.individual, rows.decision, rows.choice, rows.selected)), strict=True
    ):
        found.setdefault((i, d), []).insert(0 if selected else 99, c)
    return found


@examples
@given(TABLES, st.integers(2, 6), st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_larger_decisions_keep_the_selected_choice_and_those_of_the_lowest_hashes(source, most, seed, random):
    expected = {}
    for row in source.to_pylist():
        expected.setdefault((row["_individual"], row["_decision"]), []).append(row["_choice"])
    for (i, d), (selected, *others) in expected.items():
        others.sort(key=lambda c, i=i, d=d: hashed(seed, i, d, c))
        expected[i, d] = [selected, *sorted(others[: most - 1])]
    mixed = source.take(random.sample(range(len(source)), len(source)))
    assert limited(mixed, most, seed) == expected
    alone = source.filter(pa.array([row["_train"] for row in source.to_pylist()]))
    assert limited(alone, most, seed) == {key: choices for key, choices in expected.items() if key[0] % 3}


def test_every_set_of_others_is_equally_likely_to_be_kept():
    source = table({i: {0: dict.fromkeys([4, 0, 1, 2, 3], 1.0)} for i in range(3000)})
    sets = Counter(tuple(choices) for choices in limited(source, 3).values())
    assert {choices[0] for choices in sets} == {4}
    assert len(sets) == 6
    assert scipy.stats.chisquare(list(sets.values())).pvalue > 1e-4
    assert limited(source, 3, seed=1) != limited(source, 3)


def test_a_block_within_max_choices_keeps_the_order_the_columns_and_what_the_contract_found():
    one, many = dict.fromkeys((3, 1, 2, 0), 1.0), dict.fromkeys(range(9), 1.0)
    source = table({1: {0: one, 1: {0: 1.0, 1: 1.0}}, 3: {0: many}})
    source = source.append_column("_alternative", pa.array([f"c{c}" for c in source["_choice"].to_pylist()]))
    source = source.append_column(OFFSET, pa.array(-np.asarray(source["size"])))
    source = source.set_column(2, "_choice", source["_choice"].cast(pa.string())).take(np.arange(len(source))[::-1])
    whole, (part,) = check_block(source, rules(dataset(3))), plan_parts({"train": 1, "test": 1}, None)
    block = within_max_choices(whole, dataset(3))
    assert block.outcome == whole.outcome
    assert (whole.outcome.violations, whole.outcome.largest_choice_set) == ((), 9)
    assert block.rows.counts.tolist() == [3, 2, 3]
    assert block.rows.starts.tolist() == [0, 3, 5]
    assert np.add.reduceat(block.rows.selected, block.rows.starts, dtype=int).tolist() == [1, 1, 1]
    assert (block.rows.offset == -block.rows.x[:, 0]).all()
    assert block.columns(["size"])["size"].to_pylist() == block.rows.x[:, 0].tolist()
    assert block.train.tolist() == [True] * 5 + [False] * 3
    assert sorted(labels(block)["id"].to_pylist()) == sorted(
        set(block.columns(["_alternative"])["_alternative"].to_pylist())
    )
    kept = block.columns(["_choice"])["_choice"].to_pylist()
    for place, ids in ids_by_shard(block, part):
        named = [row["id"] for row in ids.to_pylist() if row["column"] == "_choice"]
        assert sorted(named) == sorted(set(kept[5:] if place else kept[:5]))


def test_a_block_is_left_as_it_is_where_nothing_is_too_large_or_that_is_an_error():
    source = table({1: {0: dict.fromkeys(range(4), 1.0)}})
    for asked in (dataset(4), dataset(3, overflow="error")):
        block = check_block(source, rules(asked))
        assert within_max_choices(block, asked) is block
    assert rules(dataset(3)).max_choices is None
    assert rules(dataset(3, overflow="error")).max_choices == 3


def test_a_reader_is_told_that_test_numbers_are_on_sampled_choice_sets():
    assert sampled_note(0, dataset(3)) == []
    (note,) = sampled_note(1234, dataset(3))
    assert note.startswith("of 1,234 decisions with more than max_choices = 3 choices the selected one and a uniform sample")
    assert note.endswith("in the test split too: numbers of that split are on sampled choice sets")
