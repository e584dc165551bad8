"""Findings: what a look found out, and how looks are taken: one after another, each with its own time limit."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, Queue
from threading import Thread

from mimic_core.errors import MimicError

SECONDS = 15.0  # that a look may take
SERVER_SLOW = "see that its server runs and can be reached from here, by the network and past firewalls"
MACHINE_SLOW = "see whether this machine is busy, and whether its disks, or the shares that are mounted, answer"


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out.

    Attributes:
        about: what was looked at.
        found: how it is.
        do: what a person can do about it; empty where there is nothing to do.
    """

    about: str
    state: State
    found: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing.

    Attributes:
        look: gives findings as it goes on.
        seconds: after which nobody waits for it any more.
        slow: what to do then.
    """

    about: str
    look: Callable[[], Iterable[Finding]]
    seconds: float = SECONDS
    slow: str = SERVER_SLOW


def ok(about: str, found: str) -> Finding:
    """Make a finding that all is well."""
    return Finding(about, State.OK, found)


def warning(about: str, found: str, do: str) -> Finding:
    """Make a finding with which one can work."""
    return Finding(about, State.WARNING, found, do)


def wrong(about: str, found: str, do: str) -> Finding:
    """Make a finding with which something fails."""
    return Finding(about, State.WRONG, found, do)


def skipped(about: str, why: str, do: str = "") -> Finding:
    """Make a finding that nothing was looked at."""
    return Finding(about, State.SKIPPED, why, do)


def refusal(about: str, error: MimicError) -> Finding:
    """Turn an error, whose message ends with what to do, into a finding.

    >>> found = refusal("catalog", MimicError("catalog c.db: cannot be read: is no database; put it back"))
    >>> found.found, found.do
    ('catalog c.db: cannot be read: is no database', 'put it back')
    """
    found, _, do = one_line(error).rpartition("; ")
    return wrong(about, found, do) if found else wrong(about, do, "mend it in the environment or in .env")


def one_line(said: object) -> str:
    """Put what an error says into one line.

    >>> one_line("connection refused\\n\\tIs the server running?")
    'connection refused Is the server running?'
    """
    return " ".join(str(said).split())


def take(checks: Sequence[Check]) -> Iterator[Finding]:
    """Stream what the looks find out, in their order; what one raises, or that it does not end, is a finding too."""
    for check in checks:
        yield from _within_time(check)


def _within_time(check: Check) -> Iterator[Finding]:
    said: Queue[Finding | None] = Queue()
    # a thread that hangs keeps nobody from ending
    Thread(target=_look, args=(check, said), name=f"doctor: {check.about}", daemon=True).start()
    end = time.monotonic() + check.seconds
    while True:
        try:
            finding = said.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            yield wrong(check.about, f"no answer within {check.seconds:.0f} seconds", check.slow)
            return
        if finding is None:
            return
        yield finding


def _look(check: Check, said: "Queue[Finding | None]") -> None:
    try:
        for finding in check.look():
            said.put(finding)
    except MimicError as error:
        said.put(refusal(check.about, error))
    except Exception as error:  # of any library: the other looks go on
        found = f"{type(error).__name__}: {one_line(error)}"
        said.put(wrong(check.about, found, "this is an error that mimic does not know; tell it to those who run mimic"))
    finally:
        said.put(None)
