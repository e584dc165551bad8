import numpy as np
import pyarrow as pa
import pytest

from mimic_core import identifiers
from mimic_core.errors import TableError
from mimic_core.identifiers import id_table, join_id_tables, require_different, surrogates


def test_whole_numbers_stand_for_themselves():
    ids = [-(2**63), 0, 2**53 + 1, 2**63 - 1]
    assert surrogates(pa.array(ids, pa.int64())).tolist() == ids
    assert surrogates(pa.array([None, 7], pa.int64())).tolist() == [0, 7]


def test_the_surrogate_of_a_text_is_the_same_in_every_release():
    assert surrogates(pa.array(["ann", "", "zoë", None])).tolist() == [
        -3242823647693640502,
        1760245841805064774,
        -3658707809728694593,
        0,
    ]


def test_a_surrogate_depends_on_its_text_alone():
    ids = pa.chunked_array([["b", "a"], ["a", None, "c"]])
    found = surrogates(ids)
    assert found[1] == found[2] == surrogates(pa.array(["a"]))[0]
    assert len(set(found.tolist())) == 4


def test_an_id_table_leads_from_surrogates_to_the_texts_of_each_column():
    rows = pa.table({"_individual": ["ann", "bob", "ann"], "_decision": [1, 2, 3], "_choice": ["car", None, "bus"]})
    found = id_table(rows, ("_individual", "_decision", "_choice"))
    assert found.schema == identifiers.SCHEMA
    assert sorted(zip(found["column"].to_pylist(), found["id"].to_pylist(), strict=True)) == [
        ("_choice", "bus"),
        ("_choice", "car"),
        ("_individual", "ann"),
        ("_individual", "bob"),
    ]
    assert found["surrogate"].to_pylist() == surrogates(found["id"]).tolist()


def test_ids_that_are_numbers_need_no_id_table():
    rows = pa.table({"_individual": [1], "_decision": [2]})
    assert len(id_table(rows, ("_individual", "_decision"))) == 0


def test_two_ids_of_one_surrogate_are_named(monkeypatch):
    monkeypatch.setattr(identifiers, "_hashes", lambda texts: np.zeros(len(texts), np.int64))
    with pytest.raises(TableError, match=r"column '_choice': the ids 'car' and 'bus' have the same 64-bit hash.*change one"):
        require_different(pa.array(["car", "car", None, "bus"]), "_choice")
    require_different(pa.array(["car", "car", None]), "_choice")


def test_a_joined_id_table_has_each_id_of_its_parts_once():
    parts = [id_table(pa.table({"_individual": ids, "_choice": ["car"] * len(ids)}), ("_individual", "_choice"))
             for ids in (["ann", "bob"], [], ["bob", "zoë"])]  # fmt: skip
    joined = join_id_tables(parts)
    assert joined.schema == identifiers.SCHEMA
    assert sorted(joined.select(["column", "id"]).to_pydict()["id"]) == ["ann", "bob", "car", "zoë"]
    assert joined["surrogate"].to_pylist() == surrogates(joined["id"]).tolist()
    assert join_id_tables([]) == identifiers.SCHEMA.empty_table()


def test_two_ids_of_one_surrogate_in_different_parts_are_named(monkeypatch):
    monkeypatch.setattr(identifiers, "_hashes", lambda texts: np.zeros(len(texts), np.int64))
    parts = [id_table(pa.table({"_choice": [text]}), ("_choice",)) for text in ("car", "bus")]
    with pytest.raises(TableError, match=r"column '_choice': the ids 'car' and 'bus' have the same 64-bit hash"):
        join_id_tables(parts)
    assert len(join_id_tables(parts[:1] * 2)) == 1
