"""The node of the stand-in: runs the command of each container as a process, and kills one that takes more than its memory.

It is told on standard input what to start and to kill, and says on standard output what ended, a line of JSON each. A
`dagster` command is forked from this process, which has imported what runs and steps need (MODULES): a new interpreter takes
4 seconds of a core before a step does anything. What happens in the process is the same. Without MODULES it is a new
interpreter, as in a pod. Only one thread runs here, since what is forked from a process of several may hang.
"""

import gc
import json
import os
import random
import select
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
PAGE = os.sysconf("SC_PAGE_SIZE")
MODULES = list(filter(None, os.environ.get("MODULES", "").split(",")))


def main() -> None:
    """Start and end processes until standard input is closed; then kill what still runs."""
    for module in MODULES:
        import_module(module)
    gc.collect()
    gc.freeze()
    say({"ready": True})
    running: dict[int, dict[str, Any]] = {}
    pending = b""
    while True:
        if select.select([0], [], [], LOOK_SECONDS)[0]:
            read = os.read(0, 1 << 20)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for order in map(json.loads, lines):
                if "start" in order:
                    running[start(order)] = order
                else:
                    kill(running, order["kill"], order["signal"])
        for pid, used in [(pid, used_by(pid)) for pid, order in running.items() if order["memory"]]:
            if used > running[pid]["memory"]:
                running[pid]["reason"] = "OOMKilled"
                kill(running, running[pid]["start"], signal.SIGKILL)
        reap(running)
    for order in list(running.values()):
        kill(running, order["start"], signal.SIGKILL)


def say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def start(order: dict[str, Any]) -> int:
    """Start the command of a container; returns its process id."""
    if pid := os.fork():
        with suppress(PermissionError, ProcessLookupError):  # it was faster
            os.setpgid(pid, pid)
        return pid
    os.setpgid(0, 0)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    code = 1
    try:
        code = call(order["command"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def call(command: list[str]) -> int:
    """Be the command; returns its exit code."""
    if Path(command[0]).name != "dagster" or not MODULES:
        os.execvp(command[0], command)  # noqa: S606
    from dagster._cli import main as dagster

    sys.argv = command
    try:
        dagster()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def kill(running: dict[int, dict[str, Any]], name: str, number: int) -> None:
    """Send a signal to all processes of a container; SIGTERM only to its first, as Kubernetes does."""
    for pid, order in running.items():
        if order["start"] == name:
            with suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
                if number == signal.SIGTERM:  # it may be stopped
                    os.kill(pid, signal.SIGCONT)


def used_by(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def reap(running: dict[int, dict[str, Any]]) -> None:
    """Say which processes ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        if order := running.pop(pid, None):
            code = os.waitstatus_to_exitcode(status)
            reason = order.get("reason") or ("Completed" if code == 0 else "Error")
            say({"ended": order["start"], "code": code if code >= 0 else 128 - code, "reason": reason, "time": time.time()})


if __name__ == "__main__":
    main()
