"""Removal: the note in the folder of a removed table, by which maintenance knows that its files are nobody's."""

from collections.abc import Sequence
from os import DirEntry
from pathlib import Path

from resources.listing import size_and_change

NOTE = "metadata/removed"


def note_removal(folder: Path) -> None:
    """Note that the table in a folder is about to leave its catalog; while that knows the table, the note says nothing."""
    (folder / NOTE).touch()


def was_removed(folder: Path, metadata: Sequence["DirEntry[str]"]) -> bool:
    """Tell whether a table was removed after all of its metadata files were written.

    What is newer than the note is a table that was made there since, and that another catalog may know.
    """
    note = folder / NOTE
    changes = [fact[1] for fact in map(size_and_change, metadata) if fact is not None]
    return note.is_file() and note.stat().st_mtime >= max(changes, default=0.0)


def removed_since(folder: Path, before: float) -> bool:
    """Tell whether a table of a folder was removed after a time, until which its files were in use."""
    note = folder / NOTE
    return note.is_file() and note.stat().st_mtime >= before


def forget_note(folder: Path) -> None:
    """Remove the note, the last of a table's files, so that a removal of files that is cut off can go on."""
    (folder / NOTE).unlink(missing_ok=True)
