"""Removal: the note in the folder of a removed table, by which maintenance knows that its files are nobody's."""

from collections.abc import Sequence

from resources.storage import File, Storage

NOTE = "metadata/removed"


def note_removal(table: Storage) -> None:
    """Note that a table is about to leave its catalog; while that knows the table, the note says nothing.

    Args:
        table: the folder of the table.
    """
    with table.writing(NOTE):
        pass


def was_removed(table: Storage, metadata: Sequence[File]) -> bool:
    """Tell whether a table was removed after all of its metadata files were written.

    What is newer than the note is a table that was made there since, and that another catalog may know.
    """
    note = table.status(NOTE)
    changes = [status.changed for file in metadata if (status := file.status) is not None]
    return note is not None and note.changed >= max(changes, default=0.0)


def removed_since(table: Storage, before: float) -> bool:
    """Tell whether a table of a folder was removed after a time, until which its files were in use."""
    note = table.status(NOTE)
    return note is not None and note.changed >= before


def forget_note(table: Storage) -> None:
    """Remove the note, the last of a table's files, so that a removal of files that is cut off can go on."""
    table.remove(NOTE)
