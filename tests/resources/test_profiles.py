"""Profiles of source tables: what is found by reading one, and what is kept of it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import SpecError
from resources.artefacts import ArtefactStore
from resources.environments import freshness, local_resources
from resources.profiles import (
    FOLDER,
    forget_profiles,
    has_profile,
    profile_table,
    read_profile,
    state_of,
    write_profile,
)


@pytest.fixture
def artefacts(tmp_path):
    return ArtefactStore(root=str(tmp_path / "objects"))


@pytest.fixture
def tables(home):
    return local_resources(home / "mimic")["tables"]


@pytest.fixture
def registered(tables, home):
    """The function that registers a table where its file lies, and pins it."""

    def register(table, row_group_size=None):
        pq.write_table(table, home / "table.parquet", row_group_size=row_group_size)
        return tables.register("haven.registered", home / "table.parquet")

    return register


def found_in(pin, tables, rows=None):
    told = rows if rows is not None else []
    return profile_table(pin, tables, lambda _: None, lambda stage, done, total: told.append((stage, done, total)))


def test_a_registered_table_is_read_once_with_what_it_holds_and_what_is_wrong(tables, registered, decision_table):
    table = decision_table()
    broken = table.set_column(3, "_selected", pa.array([True, *table["_selected"].to_pylist()[1:]]))
    rows: list[tuple[str, int, int]] = []
    pin = registered(broken, row_group_size=7)
    found = found_in(pin, tables, rows)
    assert (found["token"], found["problem"], found["others"]) == (pin.token, "", [])
    assert found["profile"]["individuals"] == {"train": 5, "test": 1, "both": 0}
    assert found["profile"]["features"][0]["nulls"] == 1
    rules = {violation["rule"]: violation["count"] for violation in found["contract"]["violations"]}
    chosen_already = table["_selected"][0].as_py()
    assert rules == ({} if chosen_already else {"decisions with two or more selected rows": 1})
    assert rows[-1] == ("read", len(table), len(table))


@pytest.mark.parametrize("missing", ["_selected", "_train"])
def test_a_table_to_be_scored_needs_no_labels_and_no_splits(tables, registered, decision_table, missing):
    found = found_in(registered(decision_table().drop_columns([missing])), tables)
    assert (found["problem"], found["labelled"], found["contract"]["violations"]) == ("", False, [])


def test_what_can_be_no_decision_table_is_told_as_a_problem(tables, registered, decision_table):
    found = found_in(registered(decision_table().drop_columns(["_choice", "_train"])), tables)
    assert found["problem"] == (
        "table haven.registered is no decision table: column '_choice' is missing; column '_train' is missing; "
        "its columns are _individual, _decision, _selected, size, age"
    )
    assert "profile" not in found


def test_the_state_of_a_pinned_table_is_that_of_the_inventory(tables, registered, decision_table, home):
    pin = registered(decision_table())
    assert local_resources(home / "mimic")["inventory"].sources()["haven.registered"] == state_of(pin, tables)


def test_the_profile_of_a_table_replaces_that_of_what_it_held_before(artefacts):
    for version in ("a", "b"):
        write_profile(artefacts, "haven.t", version, {"problem": "", "token": version})
    assert not has_profile(artefacts, "haven.t", "a")
    assert has_profile(artefacts, "haven.t", "b")
    assert (read_profile(artefacts, "haven.t", "b") or {}).get("version") == "b"
    assert read_profile(artefacts, "haven.t", "a") is None


def test_a_damaged_profile_counts_as_none(artefacts):
    write_profile(artefacts, "haven.t", "a", {"problem": ""})
    path = Path(artefacts.where(f"{FOLDER}/haven.t/a.json"))
    path.write_bytes(path.read_bytes().replace(b"haven.t", b"haven.u"))
    assert read_profile(artefacts, "haven.t", "a") is None


def test_the_profiles_of_tables_that_are_gone_are_forgotten(artefacts):
    forget_profiles(artefacts, [])
    for name in ("haven.t", "haven.u"):
        write_profile(artefacts, name, "a", {"problem": ""})
    forget_profiles(artefacts, ["haven.u", "haven.v"])
    assert [has_profile(artefacts, name, "a") for name in ("haven.t", "haven.u")] == [False, True]


def test_the_limit_of_freshness_is_a_whole_number_of_days_or_none(monkeypatch):
    monkeypatch.delenv("MIMIC_FRESH_DAYS", raising=False)
    assert freshness().days is None
    monkeypatch.setenv("MIMIC_FRESH_DAYS", "7")
    assert freshness().days == 7
    monkeypatch.setenv("MIMIC_FRESH_DAYS", "0")
    with pytest.raises(SpecError, match="MIMIC_FRESH_DAYS is '0', expected a whole number of at least 1"):
        freshness()
