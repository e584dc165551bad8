"""Interruptions: SIGTERM ends what a command does as Ctrl-C does, also where Dagster would note the signal and go on."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SECONDS = 0.5


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
    try:
        yield
    finally:
        pools.setLevel(level)
        signal.signal(signal.SIGINT, interrupts)
        signal.signal(signal.SIGTERM, before)


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
