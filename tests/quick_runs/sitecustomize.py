"""Makes processes quick that tests start: they keep what libraries make again and again, and fork the runs of a daemon.

Python imports this module where its folder is in PYTHONPATH. Dagster begins each run in a new interpreter, which takes 4
seconds of a core before the run does anything, and 5 more for TensorFlow. With modules in PRELOAD, runs are forked from one
process that has imported these; what happens in a run is the same.
"""

import multiprocessing
import os

from quicker import KEEPING, SHORTER, be_quicker

be_quicker(KEEPING | SHORTER)

if modules := os.environ.get("PRELOAD"):
    context_of = multiprocessing.get_context

    def forking(method: str | None = None) -> multiprocessing.context.BaseContext:
        context = context_of("forkserver" if method == "spawn" else method)
        context.set_forkserver_preload(modules.split(","))
        return context

    multiprocessing.get_context = forking
