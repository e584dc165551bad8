"""Profiles: counts of a table that can be checked by hand, whatever blocks it is read in, and their pictures."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from mimic_core import profile_plots
from mimic_core.contract import Rules, check_block
from mimic_core.profiles import add_profiles, document, profile_block, profile_version
from mimic_core.sources import FLAGS
from mimic_core.world import TableState

TABLE = pa.table(
    {
        "_individual": [1, 1, 1, 1, 1, 2, 2, 3],
        "_decision": [1, 1, 1, 2, 2, 1, 1, 1],
        "_choice": [0, 1, 2, 0, 1, 0, 1, 0],
        "_selected": [True, False, False, False, True, False, True, True],
        "_train": [True] * 5 + [False] * 2 + [True],
        "_alternative": ["bus", "car", "walk", "bus", "car", "bus", "car", "bus"],
        "size": [1.0, None, 3.0, float("nan"), 5.0, float("inf"), -2.0, 5.0],
        "age": pa.array([1, 2, 3, 4, 5, 6, 7, None], pa.int16()),
    }
)


def profiled(*tables, features=("size", "age")):
    """The document of some blocks of a table."""
    blocks = (check_block(table, Rules(labelled=all(name in table.column_names for name in FLAGS))) for table in tables)
    return document(add_profiles(profile_block(block, features) for block in blocks))


def test_rows_decisions_and_individuals_are_counted_by_split():
    found = profiled(TABLE)
    assert found["rows"] == {"train": 6, "test": 2}
    assert found["decisions"] == {"train": 3, "test": 1}
    assert found["individuals"] == {"train": 2, "test": 1, "both": 0}
    assert found["sizes"] == [[1, 1], [2, 2], [3, 1]]


def test_an_alternative_has_the_rows_that_offer_it_and_those_that_select_it():
    assert profiled(TABLE)["alternatives"] == [
        {"alternative": "bus", "offered": 4, "selected": 2},
        {"alternative": "car", "offered": 3, "selected": 2},
        {"alternative": "walk", "offered": 1, "selected": 0},
    ]


def test_a_feature_has_its_missing_and_infinite_values_counted_and_the_others_summed_up():
    size, age = profiled(TABLE)["features"]
    assert size == {"feature": "size", "nulls": 2, "infinite": 1, "lowest": -2.0, "mean": 12 / 5, "highest": 5.0}
    assert age == {"feature": "age", "nulls": 1, "infinite": 0, "lowest": 1.0, "mean": 4.0, "highest": 7.0}


def test_a_feature_without_any_value_has_no_mean():
    (empty,) = profiled(TABLE.append_column("none", pa.nulls(8, pa.float64())), features=["none"])["features"]
    assert empty == {"feature": "none", "nulls": 8, "infinite": 0, "lowest": None, "mean": None, "highest": None}


@pytest.mark.parametrize("cuts", [[5], [7], [5, 7]])
def test_blocks_of_whole_individuals_add_up_to_the_table(cuts):
    bounds = [0, *cuts, len(TABLE)]
    parts = [TABLE.slice(start, end - start) for start, end in pairwise(bounds)]
    assert profiled(*parts) == profiled(TABLE)


def test_an_individual_in_both_splits_counts_in_each_and_is_named():
    mixed = TABLE.set_column(4, "_train", pa.array([True] * 3 + [False] * 4 + [True]))
    found = profiled(mixed.slice(5), mixed.slice(0, 5))
    assert found["individuals"] == {"train": 2, "test": 2, "both": 1}
    assert found["leaks"] == ["1"]


def test_a_table_without_splits_and_labels_is_counted_as_a_whole():
    found = profiled(TABLE.drop_columns(["_selected", "_train", "_alternative"]))
    assert (found["rows"], found["decisions"], found["individuals"]) == ({"all": 8}, {"all": 4}, {"all": 3})
    assert (found["alternatives"], found["selects"]) == ([], False)


def test_of_many_alternatives_the_most_offered_are_named_and_the_others_summed(monkeypatch):
    monkeypatch.setattr("mimic_core.profiles.MOST_ALTERNATIVES", 1)
    first, rest = profiled(TABLE)["alternatives"]
    assert first["alternative"] == "bus"
    assert rest == {"alternative": None, "labels": 2, "offered": 4, "selected": 2}


def test_alternatives_that_are_numbers_are_named_by_them():
    numbered = TABLE.set_column(5, "_alternative", pa.array([7, 8, 9, 7, 8, 7, 8, 7]))
    assert [row["alternative"] for row in profiled(numbered)["alternatives"]] == ["7", "8", "9"]


def test_the_version_of_a_profile_follows_content_and_columns():
    columns = {"size": {"id": 1, "type": "double"}}
    versions = [
        profile_version(TableState(token=token, columns=columns | more, rows=rows))
        for token, more, rows in (("a", {}, 1), ("a", {}, 2), ("b", {}, 1), ("a", {"age": {"id": 2, "type": "double"}}, 1))
    ]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


@pytest.fixture
def draw(drawn_figures):
    """Draw a picture; returns its axes."""

    def drawn(plot, *arguments):
        assert plot(*arguments).startswith(b"\x89PNG")
        (axes,) = drawn_figures.pop().axes
        return axes

    return drawn


def test_the_picture_of_choice_sets_has_a_bar_for_each_size(draw):
    axes = draw(profile_plots.choice_set_sizes, [(1, 1), (3, 4)])
    assert [bar.get_height() for bar in axes.patches] == [1, 0, 4]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "3"]


def test_of_many_sizes_all_decisions_are_in_a_bounded_number_of_bars():
    sizes = [(int(size), 3) for size in np.unique(np.geomspace(1, 1e6, 500).astype(int))]
    bars = profile_plots.group_sizes(sizes)
    assert len(bars) <= profile_plots.MOST_BARS
    assert sum(count for _, count in bars) == 3 * len(sizes)
    assert bars[-1][0].endswith("to 1000000")


def test_the_picture_of_alternatives_has_shares_of_all_also_of_those_that_are_not_drawn(draw):
    rows = [{"alternative": "bus", "offered": 6, "selected": 1}, {"alternative": "car", "offered": 2, "selected": 3}]
    rows.append({"alternative": None, "labels": 5, "offered": 2, "selected": 0})
    axes = draw(profile_plots.alternative_shares, rows, ("offered", "selected"))
    assert [bar.get_width() for bar in axes.patches] == [0.6, 0.2, 0.25, 0.75]
    assert "5 more" in axes.get_xlabel()
