"""What the tests of manifests share: the checks of manifest_checks.py, a script and no package, loaded by its path."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_checks() -> ModuleType:
    """Load tests/deploy/manifest_checks.py once."""
    name = "manifest_checks"
    if name not in sys.modules:
        place = importlib.util.spec_from_file_location(name, Path(__file__).with_name("manifest_checks.py"))
        sys.modules[name] = importlib.util.module_from_spec(place)
        place.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def manifest_checks() -> ModuleType:
    return load_checks()
