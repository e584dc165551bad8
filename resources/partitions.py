"""Dynamic partitions: added to a Dagster instance so that those who add at the same time lose nothing."""

import random
import time
from collections.abc import Sequence

import dagster as dg

from mimic_core.errors import ConflictError

MOST_ATTEMPTS = 50


def add_partitions(instance: dg.DagsterInstance, definition: str, keys: Sequence[str]) -> None:
    """Add those partitions that are not there.

    Dagster looks which keys are missing and inserts these in one statement, which fails as a whole when somebody else adds
    one of them in between.

    Raises:
        ConflictError: others kept adding first.
    """
    from sqlalchemy.exc import IntegrityError

    for attempt in range(MOST_ATTEMPTS):
        try:
            instance.add_dynamic_partitions(definition, list(keys))
        except IntegrityError:
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311  jitter, not a secret
        else:
            return
    raise ConflictError(f"{definition}: {MOST_ATTEMPTS} attempts to add {len(keys)} partitions failed; register again")
