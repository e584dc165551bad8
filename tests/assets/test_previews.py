import math

import pyarrow as pa
import pytest

from mimic_assets.previews import preview_shown
from mimic_core.errors import SpecError
from resources.environments import previews
from resources.previews import Previews

RUN_ID = "07c49bc09b5b47fca0fbcd0aba35f414ce6a129a12ee7f0310df016f084cda7f"


def records(rows: pa.Table) -> list[dict[str, object]]:
    return [dict(record.data) for record in preview_shown(rows)["preview"].records]


def test_long_texts_run_ids_and_numbers_are_short():
    long = {"share": 0.123456789, "run_id": RUN_ID, "text": f"a\n{'c' * 40}"}
    assert records(pa.Table.from_pylist([long])) == [{"share": 0.12346, "run_id": "07c49bc0", "text": f"a {'c' * 19}..."}]


def test_values_that_a_browser_cannot_read_as_numbers_are_shown_as_texts():
    row = {"id": 2**60 + 1, "small": 7, "kept": True, "none": None, "infinite": math.inf, "list": [1, 2]}
    shown = {"id": "1152921504606846977", "infinite": "inf", "list": "[1, 2]"}
    assert records(pa.Table.from_pylist([row])) == [row | shown]


def test_as_many_columns_are_shown_as_there_is_room_for_the_reserved_ones_first():
    names = [f"x{place}" for place in range(500)] + ["_individual", "_choice"]
    (shown,) = records(rows := pa.table({name: [0] for name in names}))
    assert list(shown) == [*names[:12], "_individual", "_choice"]  # 10 of 31 pixels, 2 of 39, 96 and 67 take 555 of 580
    assert (preview_shown(rows)["columns"], preview_shown(rows)["columns_in_preview"]) == (502, 14)
    wide = pa.table({name: ["x" * 24] for name in ("a", "b", "c", "d", "_individual")})
    assert [list(row) for row in records(wide)] == [["a", "_individual"]]  # 219 pixels each


def test_no_rows_are_shown_where_there_are_none():
    assert preview_shown(pa.table({"a": pa.array([], pa.int64())})) == {}


def test_the_environment_says_how_many_rows_are_shown(monkeypatch):
    monkeypatch.setenv("MIMIC_PREVIEW_ROWS", "3")
    assert previews() == Previews(rows=3)
    monkeypatch.setenv("MIMIC_PREVIEW_ROWS", "ten")
    with pytest.raises(SpecError, match="MIMIC_PREVIEW_ROWS is 'ten', expected a whole number of at least 0"):
        previews()
    monkeypatch.setenv("MIMIC_PREVIEW_ROWS", "5000")
    with pytest.raises(SpecError, match="MIMIC_PREVIEW_ROWS is 5,000, expected at most 100"):
        previews()
