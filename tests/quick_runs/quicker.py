"""What libraries make anew again and again, made once in a process, and a wait of theirs that is shorter.

Dagster reads all its migrations whenever it opens a database, which each run, step and tick of a sensor does, and makes an
engine for every query, which then compiles its statement anew. Each session of AWS reads a megabyte of JSON. What is asked
of the databases and services is the same.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

engines: dict[str, Any] = {}
migrations: dict[str, Any] = {}
models: dict[str, Any] = {}
services: dict[tuple[str, ...], list[str]] = {}


def keep_migrations(module: ModuleType) -> None:
    read = module.ScriptDirectory.from_config

    def from_config(config: Any) -> Any:
        place = config.get_main_option("script_location")
        return migrations[place] if place in migrations else migrations.setdefault(place, read(config))

    module.ScriptDirectory.from_config = from_config


def keep_engines(module: ModuleType) -> None:
    make = module.create_engine

    def create_engine(address: str, **options: Any) -> Any:
        return engines[address] if address in engines else engines.setdefault(address, make(address, **options))

    module.create_engine = create_engine


def keep_connections(module: ModuleType) -> None:
    """Have Dagster's connections to Postgres stay open: it has one for each query, for which a server begins a process.

    Those of its webserver stay open anyway.
    """
    from sqlalchemy.pool import NullPool, QueuePool

    make = module.create_engine

    def create_engine(address: str, **options: Any) -> Any:
        if options.get("poolclass") is not NullPool:
            return make(address, **options)
        if address not in engines:
            engine = make(address, **options | {"poolclass": QueuePool, "max_overflow": -1})
            engine.dispose = lambda: None  # each tick of a sensor opens an instance, and closes it
            return engines.setdefault(address, engine)
        return engines[address]

    module.create_engine = create_engine


def look_often(module: ModuleType) -> None:
    """Have runs look every 2 seconds whether the Jobs of their steps still run, in place of 20."""
    begin = module.StepDelegatingExecutor.__init__

    def begun(executor: Any, *arguments: Any, **options: Any) -> None:
        begin(executor, *arguments, **{"check_step_health_interval_seconds": 2} | options)

    module.StepDelegatingExecutor.__init__ = begun


def keep_models(module: ModuleType) -> None:
    """Read each file of a service once, and which services there are; of a file that is not there nothing is kept."""
    load, listed = module.JSONFileLoader.load_file, module.Loader.list_available_services

    def load_file(loader: Any, path: str) -> Any:
        if path not in models and (found := load(loader, path)) is not None:
            models[path] = found
        return models.get(path)

    def list_available_services(loader: Any, type_name: str) -> list[str]:
        asked = (type_name, *loader.search_paths)
        return services[asked] if asked in services else services.setdefault(asked, listed(loader, type_name))

    module.JSONFileLoader.load_file = load_file
    module.Loader.list_available_services = list_available_services


SQLITE = "dagster._core.storage"
Changes = dict[str, Callable[[ModuleType], None]]  # by module
KEEPING: Changes = {
    "alembic.script.base": keep_migrations,
    "botocore.loaders": keep_models,
    "dagster_postgres.utils": keep_connections,
    f"{SQLITE}.event_log.sqlite.sqlite_event_log": keep_engines,
    f"{SQLITE}.runs.sqlite.sqlite_run_storage": keep_engines,
    f"{SQLITE}.schedules.sqlite.sqlite_schedule_storage": keep_engines,
}
SHORTER: Changes = {"dagster._core.executor.step_delegating.step_delegating_executor": look_often}


class Finder:
    """Finds the modules as Python does, and changes them as soon as they are imported."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in self._changes:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others))
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._changes[name](module)

        spec.loader.exec_module = exec_module
        return spec


def be_quicker(changes: Changes = KEEPING) -> None:
    """Make this process quicker, with the modules that are imported and those that will be."""
    for name in changes.keys() & sys.modules.keys():
        changes[name](sys.modules[name])
    sys.meta_path.insert(0, Finder(changes))
