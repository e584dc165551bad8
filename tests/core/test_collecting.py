"""Garbage is not looked for at the end of a process; what it says and does there is said and done."""

import subprocess
import sys

PROGRAM = """
import atexit, gc, sys
from mimic_core.collecting import THRESHOLDS, collect_seldom

class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        print("looked for")

if sys.argv[1] == "seldom":
    atexit.register(print, "before")
    collect_seldom()
    collect_seldom()
    atexit.register(print, "after")
    assert gc.get_threshold() == THRESHOLDS
kept = Cycle()
sys.stdout.write("end\\n")
"""


def said(how: str) -> list[str]:
    result = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_a_process_ends_without_a_search_through_what_it_held():
    assert said("as Python does") == ["end", "looked for"]
    assert said("seldom") == ["end", "after", "before"]
