"""Listing: the files below a folder, one at a time, never through a symbolic link."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def files_below(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Stream the files below a folder; what vanishes meanwhile, and symbolic links, are left out."""
    for entry in entries_of(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield entry


def entries_of(folder: "Path | str") -> "Iterator[os.DirEntry[str]]":
    """Stream what lies directly in a folder; nothing where there is none, or only a symbolic link to one."""
    if os.path.islink(folder):  # noqa: PTH114  of very many folders, each would become a Path for this
        return
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries


def folders_of(folder: Path) -> list[Path]:
    """List the folders directly in a folder, sorted."""
    return sorted(Path(entry.path) for entry in entries_of(folder) if entry.is_dir(follow_symlinks=False))
