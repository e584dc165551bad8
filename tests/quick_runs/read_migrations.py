"""Reads the migrations of Dagster's databases where it is imported, for processes that are forked from this one."""

import sys

from alembic.config import Config
from alembic.script import ScriptDirectory

for place in ("dagster:_core/storage/alembic", "dagster_postgres:alembic"):
    if place.partition(":")[0] in sys.modules:
        config = Config()
        config.set_main_option("script_location", place)
        ScriptDirectory.from_config(config).as_revision_number("head")
