"""Commits: tried again where another writer was first, because only metadata is written anew."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mimic_core.errors import ConflictError

T = TypeVar("T")

MOST_ATTEMPTS = 30


def retry(name: str, commit: Callable[[], T]) -> T:
    """Call what commits to a table until no other commit comes in between; returns what it returns.

    Args:
        commit: loads the table and commits.

    Raises:
        ConflictError: others kept committing first.
    """
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    for attempt in range(MOST_ATTEMPTS):
        try:
            return commit()
        except (CommitFailedException, ValidationException) as error:
            last = error
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311  jitter, not a secret
    raise ConflictError(f"table {name}: {MOST_ATTEMPTS} attempts to commit failed, the last with: {last}")
