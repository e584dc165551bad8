"""Collecting garbage: how often Python looks for it in the processes that are ours, from commands to the steps of a run."""

import atexit
import gc
from functools import cache

THRESHOLDS = 50_000, 20, 50  # new objects, and looks at the younger ones before one at older ones


@cache
def collect_seldom() -> None:
    """Look for garbage more seldom than Python does, and not at the end of this process.

    What our processes make first is what they import: hundreds of thousands of objects of which none is garbage, and all
    are at the end, when nobody needs the room any more. To look through them took a third of the CPU time of a command that
    builds a small dataset (`benchmarks/start_up.py`). What is to happen at the end belongs into `with` or `atexit`, not
    into `__del__`.
    """
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)
