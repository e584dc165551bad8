"""Has the runs of a daemon's code server forked from one process that has imported what they need, the modules in PRELOAD.

Python imports this module where its folder is in PYTHONPATH. Dagster begins each run in a new interpreter, which takes 4
seconds of a core before the run does anything, and 5 more for TensorFlow; what happens in a run is the same.
"""

import multiprocessing
import os

if modules := os.environ.get("PRELOAD"):
    context_of = multiprocessing.get_context

    def forking(method: str | None = None) -> multiprocessing.context.BaseContext:
        context = context_of("forkserver" if method == "spawn" else method)
        context.set_forkserver_preload(modules.split(","))
        return context

    multiprocessing.get_context = forking
