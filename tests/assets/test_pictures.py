"""Markdown of what people named: nothing in it is loaded by the browser of whoever looks at the page."""

import pytest

from mimic_assets.alternatives import alternatives_shown
from mimic_assets.pictures import markdown_table
from mimic_assets.shown import notes_shown

PICTURE = "![car](/graphql?query=mutation)"
ROW = {"alternative": PICTURE, "offered": 2, "selected": 1, "observed_share": 0.5, "predicted_share": 0.5}


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(alternatives_shown({"train": [ROW]})["alternatives"].value, id="a label"),
        pytest.param(notes_shown([f"not_identified: {PICTURE}"])["notes"].value, id="a column in a note"),
        pytest.param(markdown_table([("individual",), (PICTURE,)]), id="an id"),
    ],
)
def test_a_text_of_a_table_is_no_picture_and_can_still_be_read(shown):
    """A browser loads a picture unasked, and Dagster's server executes mutations in the query of a GET."""
    assert "![" not in shown
    assert "!\\[car](/graphql?query=mutation)" in shown


def test_a_cell_ends_neither_at_a_bar_nor_at_the_end_of_a_line():
    assert markdown_table([("label",), ("a|b\nc\\|d",)]).splitlines()[2:] == ["| a\\|b c\\\\\\|d |"]
