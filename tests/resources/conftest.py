"""What the tests of tables share: processes that start quickly."""

import multiprocessing
from multiprocessing.context import BaseContext

import pytest

SLOW_IMPORTS = ["resources.environments", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow", "sqlalchemy.dialects.sqlite"]


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Give the context in which a process starts within milliseconds; a spawned one imports for more than a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    return context


collect_ignore = ["full_disk.py"]  # a script that fills a disk
