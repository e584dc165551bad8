"""Interruptions: SIGTERM ends what a command does as Ctrl-C does, also where Dagster would note the signal and go on."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SECONDS = 0.5
INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")  # what is raised at a signal, the second in steps
LOST_SECONDS = 0.05  # after which a signal that was lost is sent again


@contextmanager
def terminable() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C what runs within the context that this gives."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    # a shell has what it starts in the background ignore Ctrl-C, and with it the signal that stands for both here
    interrupts = signal.getsignal(signal.SIGINT)
    if interrupts is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # a signal may come while a connection is closed, of which this logger would print a traceback
    pools = logging.getLogger("sqlalchemy.pool")
    level = pools.level
    pools.setLevel(logging.CRITICAL)
    unraisable, timers = sys.unraisablehook, list[threading.Timer]()

    # or while something is called for garbage, of which Python would only print the exception
    def send_again(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type.__name__ not in INTERRUPTS:
            unraisable(lost)
            return
        timers.append(threading.Timer(LOST_SECONDS, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for timer in timers:  # what has ended by itself is not ended once more
            timer.cancel()
        pools.setLevel(level)
        signal.signal(signal.SIGINT, interrupts)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def noting() -> Iterator[Callable[[float], None]]:
    """Note Ctrl-C and SIGTERM within the context, and end it where it waits by the function that this gives.

    A signal that ends what runs wherever it comes is lost now and then: of what is called for garbage, as by SQLAlchemy
    after each query of Dagster's, Python only prints the exception (3 of 300 signals among such queries), and what is cut
    off between two statements may keep a lock that what follows needs. One that comes while another is noted ends what
    runs all the same, for it tells of impatience.

    Raises:
        KeyboardInterrupt: from the function, after it has waited some seconds, or at the end of the context.
    """
    noted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    def wait(seconds: float) -> None:
        nonlocal noted
        time.sleep(seconds)
        if noted:
            noted = False
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    wait(0)


@contextmanager
def interruptible(waits: Callable[[], bool]) -> Iterator[None]:
    """End a Dagster execution on a signal also while none of its steps runs.

    Dagster has signals raise in steps only; an execution in this process that waits for a slot of a pool notes them and
    goes on waiting. So another signal, which it does not handle, follows then.

    Args:
        waits: whether the execution waits; asked from a thread of its own after a signal.

    Raises:
        KeyboardInterrupt: within the context, after SIGINT or SIGTERM.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ended = threading.Event()

    def raise_interrupt(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise KeyboardInterrupt

    def watch() -> None:
        while (number := ours.recv(1)) and number[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        while number and not ended.wait(SECONDS):
            if waits():
                os.kill(os.getpid(), signal.SIGUSR1)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    before: Any = signal.signal(signal.SIGUSR1, raise_interrupt)
    woken = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(woken)
        theirs.close()  # the watcher reads the end of it
        watcher.join()
        ours.close()
        signal.signal(signal.SIGUSR1, before)
