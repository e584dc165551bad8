"""What the tests share: the checks of manifest_checks.py and terraform_checks.py, scripts and no packages."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_checks(name: str) -> ModuleType:
    """Load a script of this folder by its path, once."""
    if name not in sys.modules:
        place = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(place)
        place.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def manifest_checks() -> ModuleType:
    return load_checks("manifest_checks")


@pytest.fixture(scope="session")
def terraform_checks() -> ModuleType:
    return load_checks("terraform_checks")
