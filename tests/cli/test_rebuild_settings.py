"""The settings of rebuilds on the command line."""

import os

import pytest
from click.testing import CliRunner

from mimic_assets.cli.main import main
from mimic_assets.definitions import defs


class StartedError(Exception):
    """The command became `dagster dev`."""


@pytest.mark.parametrize(("options", "state"), [((), "STOPPED"), (("--rebuild",), "RUNNING")])
def test_dev_switches_rebuilding_on_when_it_is_told_to(home, monkeypatch, options, state):
    def execv(*_):
        raise StartedError

    monkeypatch.delenv("MIMIC_REBUILD", raising=False)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    result = CliRunner().invoke(main, ["dev", "--port", "3947", *options])
    assert isinstance(result.exception, StartedError), result.output
    (sensor,) = [sensor for sensor in defs().get_repository_def().sensor_defs if sensor.name == "rebuild_sensor"]
    assert sensor.default_status.value == state
    os.environ.pop("MIMIC_REBUILD", None)


def test_env_prints_the_settings_that_are_set_and_a_wrong_one_is_named(home, monkeypatch):
    monkeypatch.setenv("MIMIC_SPECS", "dropped")
    monkeypatch.setenv("MIMIC_MAX_IN_FLIGHT", "2")
    result = CliRunner().invoke(main, ["env"])
    assert f"export MIMIC_SPECS={home}/dropped" in result.output
    assert "export MIMIC_MAX_IN_FLIGHT=2" in result.output
    monkeypatch.setenv("MIMIC_MAX_IN_FLIGHT", "two")
    result = CliRunner().invoke(main, ["env"])
    assert result.exit_code == 2
    assert "MIMIC_MAX_IN_FLIGHT is 'two', expected a whole number" in result.output
