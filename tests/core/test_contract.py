import pyarrow as pa
import pytest

from mimic_core.contract import Rules, check_decisions, check_disjoint_individuals, check_whole_decisions
from mimic_core.errors import DecisionTableError, TableError
from mimic_core.outcomes import LeftOut, Outcome, Violation, add_up, document, require_kept

MAP = "without an entry in missing_values_map"


def table(*rows, **columns):
    """Return a table from rows of (individual, decision, choice, selected), all for training, size 1."""
    individual, decision, choice, selected = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "_individual": pa.array(individual, pa.int64()),
            "_decision": pa.array(decision, pa.int64()),
            "_choice": pa.array(choice, pa.int64()),
            "_selected": pa.array(selected, pa.bool_()),
            "_train": pa.array(columns.get("train", [True] * len(rows)), pa.bool_()),
            "size": pa.array(columns.get("size", [1.0] * len(rows)), pa.float64()),
        }
    )


def outcome_of(source, **options):
    return check_decisions(source.to_batches(), Rules(**{"features": ("size",)} | options)).outcome


def broken(source, **options):
    """Return the texts of the rules that a table breaks."""
    return [str(violation) for violation in outcome_of(source, **options).violations]


def missing(source, **options):
    """Return the texts of the rules that single rows of a table break."""
    return [text for text in broken(source, **options) if text.startswith("rows ")]


def test_a_table_that_keeps_the_contract_is_counted_and_breaks_no_rule():
    source = table((1, 0, 0, True), (1, 0, 1, False), (1, 0, 2, False), (1, 1, 5, True), (2, 0, 0, False), (2, 0, 1, True))
    outcome = outcome_of(source, max_choices=3)
    assert outcome == Outcome(rows=6, decisions=3, single_choice_decisions=1, largest_choice_set=3, violations=())
    assert missing(source) == []
    require_kept(outcome, "haven.t")


def test_an_empty_shard_keeps_the_contract():
    assert outcome_of(table(), max_choices=3) == Outcome()
    assert missing(table()) == []


def test_a_decision_with_no_selected_row_is_named():
    source = table((7, 3, 0, False), (7, 3, 1, False), (7, 4, 0, True))
    assert broken(source) == ["decisions with no selected row: 1 (individual 7 decision 3)"]


def test_a_decision_with_two_selected_rows_is_named():
    source = table((7, 3, 0, True), (7, 3, 1, True), (-7, 3, 0, True))
    assert broken(source) == ["decisions with two or more selected rows: 1 (individual 7 decision 3)"]


def test_selected_rows_do_not_matter_where_they_are_not_asked_for():
    assert broken(table((7, 3, 0, False), (7, 4, 0, True), (7, 4, 1, True)), labelled=False) == []


def test_a_choice_offered_twice_is_named():
    source = table((7, 3, 1, True), (7, 3, 0, False), (7, 3, 1, False), (7, 4, 1, True))
    assert broken(source) == ["decisions that offer a _choice twice: 1 (individual 7 decision 3)"]


def test_the_same_choice_in_neighbouring_decisions_is_no_duplicate():
    assert broken(table((1, 0, 0, True), (1, 1, 0, True), (2, 0, 0, True), (2, 1, 0, True))) == []


def test_more_rows_than_max_choices_are_named():
    source = table(*((7, 3, c, c == 0) for c in range(4)), *((7, 4, c, c == 0) for c in range(3)))
    assert broken(source, max_choices=3) == ["decisions with more than max_choices = 3 rows: 1 (individual 7 decision 3)"]
    assert broken(source, max_choices=4) == broken(source, max_choices=None) == []


def test_all_decisions_are_counted_and_five_are_named():
    source = table(*((i, i * 10, 0, False) for i in range(1234)))
    examples = ", ".join(f"individual {i} decision {i * 10}" for i in range(5))
    assert broken(source) == [f"decisions with no selected row: 1,234 ({examples}, ...)"]


def test_exactly_five_examples_end_without_dots():
    assert broken(table(*((i, 0, 0, False) for i in range(5))))[0].endswith("individual 4 decision 0)")


def test_ids_that_are_zero_negative_or_beyond_two_to_the_53_are_named_exactly():
    source = table((0, -5, 0, False), (-(2**63), 0, 0, False), (2**53 + 1, 2**63 - 1, 0, False))
    assert broken(source) == [
        "decisions with no selected row: 3 (individual -9223372036854775808 decision 0, individual 0 decision -5, "
        "individual 9007199254740993 decision 9223372036854775807)"
    ]


def test_every_broken_rule_is_found_at_once():
    source = table((1, 0, 0, False), (1, 0, 0, False), (1, 1, 0, True), (1, 1, 1, True), (1, 1, 2, True))
    assert broken(source, max_choices=2) == [
        "decisions that offer a _choice twice: 1 (individual 1 decision 0)",
        "decisions with no selected row: 1 (individual 1 decision 0)",
        "decisions with two or more selected rows: 1 (individual 1 decision 1)",
        "decisions with more than max_choices = 2 rows: 1 (individual 1 decision 1)",
    ]


@pytest.mark.parametrize("position", range(5))
def test_a_null_in_a_key_or_flag_is_named(position):
    row = [1, 2, 3, True, True]
    name = ["_individual", "_decision", "_choice", "_selected", "_train"][position]
    row[position] = None
    source = table((1, 2, 4, False), tuple(row[:4]), train=[True, row[4]])
    assert missing(source) == [f"rows with a null {name}: 1 (individual {row[0]} decision {row[1]})"]


def test_a_null_flag_is_no_violation_where_it_is_not_required():
    source = table((1, 2, 4, None), (1, 2, 3, None), train=[None, None])
    assert missing(source, labelled=False) == []


def test_rows_with_a_null_key_belong_to_no_decision():
    source = table((1, 0, 0, True), (None, 0, 0, True), (1, None, 0, True), (1, 0, None, True), (1, 0, 1, None))
    outcome = outcome_of(source)
    assert (outcome.rows, outcome.decisions) == (5, 1)
    assert "decisions with two or more selected rows" not in {violation.rule for violation in outcome.violations}


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_feature_without_an_entry_in_the_map_is_named(value):
    source = table((1, 0, 0, True), (2, 5, 0, True), size=[1.0, value])
    assert missing(source) == [f"rows whose feature 'size' is null or NaN {MAP}: 1 (individual 2 decision 5)"]
    assert missing(source, missing_values_map={"size": -1}) == []
    assert missing(source, features=()) == []


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e39])
def test_an_infinite_feature_is_named_whatever_the_map_says(value):
    source = table((1, 0, 0, True), (2, 5, 0, True), size=[1.0, value])
    expected = ["rows whose feature 'size' is infinite (or too large for float32): 1 (individual 2 decision 5)"]
    assert missing(source) == missing(source, missing_values_map={"size": -1}) == expected


def test_missing_and_infinite_features_are_counted_apart_with_five_examples():
    source = table(*((i, 0, 0, True) for i in range(20)), size=[None] * 8 + [float("inf")] + [1.0] * 11)
    examples = ", ".join(f"individual {i} decision 0" for i in range(5))
    assert missing(source) == [
        f"rows whose feature 'size' is null or NaN {MAP}: 8 ({examples}, ...)",
        "rows whose feature 'size' is infinite (or too large for float32): 1 (individual 8 decision 0)",
    ]


def test_an_individual_in_both_splits_is_named():
    train, test = pa.array([-(2**63), 0, 2, 2**53 + 1]), pa.array([-(2**63), 1, 2**53, 2**53 + 1])
    assert [str(v) for v in check_disjoint_individuals(train, test)] == [
        "individuals in both train and test: 2 (individual -9223372036854775808, individual 9007199254740993)"
    ]
    assert check_disjoint_individuals(pa.array([0, 2]), pa.array([1])) == []
    assert check_disjoint_individuals(pa.array([], pa.int64()), pa.array([1])) == []


def test_seven_individuals_in_both_splits_are_counted_and_five_named():
    text = str(check_disjoint_individuals(pa.array(range(7)), pa.array(range(9)))[0])
    assert text.startswith("individuals in both train and test: 7 (individual 0, ")
    assert text.endswith("individual 4, ...)")


def decision_ids(*ids):
    individual, decision = zip(*ids, strict=True)
    return pa.table({"_individual": individual, "_decision": decision})


def test_a_decision_in_both_splits_is_named_but_not_an_individual():
    train, test = decision_ids((1, 0), (1, -1), (2**53, 0)), decision_ids((1, 1), (2, 0), (1, -1))
    assert [str(v) for v in check_whole_decisions(train, test)] == [
        "decisions with _train both true and false: 1 (individual 1 decision -1)"
    ]
    assert check_whole_decisions(train, test.slice(0, 2)) == []
    assert check_whole_decisions(train, test.slice(0, 0)) == []


def test_outcomes_of_shards_add_up_and_equal_rules_are_merged():
    first = Violation(rule="rows with a null _choice", count=3, examples=("a", "b", "c"))
    second = Violation(rule="rows with a null _choice", count=4, examples=("d", "e", "f", "g"))
    other = Violation(rule="decisions with no selected row", count=1, examples=("h",))
    total = add_up(
        [
            Outcome(rows=10, decisions=4, single_choice_decisions=1, largest_choice_set=3, violations=(first,)),
            Outcome(),
            Outcome(rows=5, decisions=2, single_choice_decisions=2, largest_choice_set=4, violations=(other, second)),
        ]
    )
    assert (total.rows, total.decisions, total.single_choice_decisions, total.largest_choice_set) == (15, 6, 3, 4)
    assert [str(v) for v in total.violations] == [
        "rows with a null _choice: 7 (a, b, c, d, e, ...)",
        "decisions with no selected row: 1 (h)",
    ]
    assert add_up([]) == Outcome()


def test_the_sum_over_shards_is_the_outcome_of_the_whole():
    rows = [(i, d, c, c == i % 2) for i in range(12) for d in range(2) for c in range(2 + i % 3)]
    whole = outcome_of(table(*rows), max_choices=3)
    shards = [[row for row in rows if row[0] // 5 == shard] for shard in range(3)]
    parts = [outcome_of(table(*shard), max_choices=3) for shard in shards]
    assert add_up(parts) == whole


def test_a_broken_table_is_refused_with_every_rule_and_what_to_do():
    rule = Violation(rule="decisions with no selected row", count=2, examples=("individual 1 decision 2",) * 2)
    across = Violation(rule="individuals in both train and test", count=1, examples=("individual 3",))
    with pytest.raises(DecisionTableError) as caught:
        require_kept(Outcome(violations=(across, rule)), "haven.t")
    assert str(caught.value) == (
        "table haven.t breaks the decision-table contract; nothing was published\n"
        "  individuals in both train and test: 1 (individual 3)\n"
        "  decisions with no selected row: 2 (individual 1 decision 2, individual 1 decision 2)\n"
        "  mend these rows in the table, or what the config says of them (max_choices, missing_values_map, where), and "
        'build again; "invalid_decisions": "drop" in the config leaves these decisions out'
    )


def test_a_filter_that_leaves_no_row_is_refused_and_a_table_without_rows_is_not():
    with pytest.raises(TableError, match=r"table haven\.t: `where` holds for none of its 1,234 rows; nothing was published"):
        require_kept(Outcome(filtered_rows=1234), "haven.t")
    require_kept(Outcome(), "haven.t")


def test_an_outcome_is_plain_values_in_a_document():
    rule = Violation(rule="decisions with no selected row", count=2, examples=("individual 1 decision 2",))
    assert document(Outcome(rows=3, violations=(rule,)), LeftOut(decisions=2, violations=(rule,))) == {
        "rows": 3,
        "decisions": 0,
        "filtered_rows": 0,
        "dropped_decisions": 2,
        "left_out": [{"rule": rule.rule, "count": 2, "examples": ("individual 1 decision 2",)}],
        "single_choice_decisions": 0,
        "largest_choice_set": 0,
        "violations": [{"rule": rule.rule, "count": 2, "examples": ("individual 1 decision 2",)}],
    }
