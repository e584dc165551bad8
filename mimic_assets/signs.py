"""Signs: what a step says of a long stage while it works, often enough to see that it goes on and rarely enough to read."""

import time
from collections.abc import Callable

from mimic_core.pace import describe_bytes, describe_pace

SECONDS_BETWEEN_SIGNS = 5.0


class Signs:
    """Says now and then how far the stages of a step are."""

    def __init__(self, say: Callable[[str], None], name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now.

        Args:
            say: takes a line for the step's log.
            name: begins each of its lines.
            clock: tells seconds since some moment.
        """
        self._say, self._prefix, self._clock = say, f"{name}: " if name else "", clock
        self._born = self._began = self._latest = self._said = clock()
        self._stage, self._done = "", 0

    def at(self, stage: str, done: int, total: int | None, unit: str = "rows") -> None:
        """Say how far a stage is, unless it is done or something was said in the last seconds.

        Args:
            stage: what was done with them, such as "read".
        """
        now = self._clock()
        if stage != self._stage or done < self._done:  # it began when the one before was last heard of
            self._stage, self._began = stage, self._latest
        self._latest, self._done = now, done
        if done != total and now >= self._said + SECONDS_BETWEEN_SIGNS:
            self._said = now
            self._say(f"{self._prefix}{stage} {describe_pace(done, total, unit, now - self._began)}")

    @property
    def seconds(self) -> float:
        """Seconds since these began."""
        return self._clock() - self._born


def spill_told(say: Callable[[str], None], name: str) -> Callable[[float], None]:
    """Return what is to be told how many bytes are about to be written to temporary files, and says so."""
    return lambda size: say(
        f"{name}: rows are in no order; about {describe_bytes(size)} are written to temporary files first"
    )
