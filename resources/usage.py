"""Usage: what unfinished runs may still read or commit, which maintenance and garbage collection must leave alone."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

CLOCK_TICK = 0.02  # seconds by which the time of a file may lag behind the clock: it is that of the kernel's last tick


@dataclass(frozen=True, kw_only=True)
class InUse:
    """What the unfinished runs of a Dagster instance use.

    Attributes:
        since: when the oldest of them began, in seconds since 1970; infinite when there is none.
        pins: table -> the snapshots that they pinned.
        runs: their ids, and those of the runs that they repeat, whose files they publish.
        asked: when this was found out, in seconds since 1970; what runs do that began later is newer.
    """

    since: float = math.inf
    pins: Mapping[str, frozenset[int]] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()
    asked: float = field(default_factory=time.time)

    def before(self, age: float) -> float:
        """Return the moment before which something must have gone out of use to be removed.

        Args:
            age: seconds for which it must have been out of use.
        """
        return min(self.asked - age, self.since - CLOCK_TICK)
