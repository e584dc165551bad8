"""The index: nothing is read twice, and nothing depends on it."""

import sqlite3
from pathlib import Path

import pytest

from resources.index import Index


class Reader:
    """Counts what is read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, name: str) -> dict[str, object]:
        self.read.append(name)
        return {"error": "damaged"} if name.startswith("bad") else {"name": name, "rows": 3}


@pytest.fixture
def index(tmp_path):
    return Index(path=str(tmp_path / "below" / "index.db"))


def asked(index, kind="specs", **stamps):
    """Ask for facts; returns them and what had to be read for it."""
    reader = Reader()
    return index.facts(kind, stamps, reader), reader.read


def test_what_was_read_is_not_read_again_until_its_stamp_changes(index):
    facts, read = asked(index, a="1", b="1")
    assert facts == {"a": {"name": "a", "rows": 3}, "b": {"name": "b", "rows": 3}}
    assert read == ["a", "b"]
    assert asked(index, a="1", b="1") == (facts, [])
    assert asked(index, a="2", b="1") == (facts, ["a"])


def test_another_kind_and_another_process_have_the_same_names_for_themselves(index):
    asked(index, a="1")
    assert asked(index, kind="manifests", a="1")[1] == ["a"]
    assert asked(Index(path=index.path), a="1")[1] == []


def test_what_is_not_asked_for_is_forgotten(index):
    asked(index, a="1", b="1")
    assert list(asked(index, b="1")[0]) == ["b"]
    assert asked(index, a="1", b="1")[1] == ["a"]


def test_what_could_not_be_read_is_tried_again(index):
    assert asked(index, bad="1") == ({"bad": {"error": "damaged"}}, ["bad"])
    assert asked(index, bad="1")[1] == ["bad"]


@pytest.mark.parametrize("content", [b"no database", b"", b"SQLite format 3\x00" + b"x" * 200])
def test_a_damaged_index_is_made_anew(index, content):
    asked(index, a="1")
    Path(index.path).write_bytes(content)
    assert asked(index, a="1")[1] == ["a"]
    assert asked(index, a="1")[1] == []


def test_an_index_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("no folder")
    index = Index(path=str(tmp_path / "file" / "index.db"))
    assert asked(index, a="1") == ({"a": {"name": "a", "rows": 3}}, ["a"])
    assert asked(index, a="1")[1] == ["a"]


def test_the_facts_of_an_older_mimic_are_read_again(index, monkeypatch):
    asked(index, a="1")
    monkeypatch.setattr("resources.index.FORMAT", 99)
    assert asked(index, a="1")[1] == ["a"]
    assert asked(index, a="1")[1] == []


def test_an_index_with_a_cut_text_in_it_is_made_anew(index):
    asked(index, a="1")
    with sqlite3.connect(index.path) as connection:
        connection.execute("UPDATE facts SET facts = substr(facts, 1, 5)")
    connection.close()
    assert asked(index, a="1")[1] == ["a"]
    assert asked(index, a="1")[1] == []
