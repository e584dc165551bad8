"""The settings of rebuilds and of the spec folder: where they come from, and what is wrong with them."""

import pytest

from mimic_core.errors import SpecError
from mimic_core.rebuilds import Policy
from resources.environments import code_url, owners, rebuild_policy, rebuilds_by_itself, spec_folder

VARIABLES = ("MIMIC_SETTLE_SECONDS", "MIMIC_MAX_IN_FLIGHT", "MIMIC_MAX_RUNS_PER_CHANGE")


def test_without_settings_the_policy_is_the_default_one_and_nothing_is_rebuilt(home):
    assert rebuild_policy().policy() == Policy()
    assert not rebuilds_by_itself()
    assert spec_folder(home) == home / "specs"


def test_settings_are_read_from_the_environment(home, monkeypatch):
    for number, name in enumerate(VARIABLES, 5):
        monkeypatch.setenv(name, str(number))
    monkeypatch.setenv("MIMIC_REBUILD", "1")
    monkeypatch.setenv("MIMIC_SPECS", "dropped")
    assert rebuild_policy().policy() == Policy(settle_seconds=5, max_in_flight=6, max_runs_per_change=7)
    assert rebuilds_by_itself()
    assert spec_folder(home) == home / "dropped"


@pytest.mark.parametrize("value", ["-1", "2.5", "many", "٣"])
@pytest.mark.parametrize("name", VARIABLES)
def test_a_value_that_is_no_whole_number_is_refused_by_the_name_of_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=f"{name} is '{value}', expected a whole number of at least"):
        rebuild_policy()


def test_no_build_at_all_in_flight_is_refused(monkeypatch):
    monkeypatch.setenv("MIMIC_MAX_IN_FLIGHT", "0")
    with pytest.raises(SpecError, match="MIMIC_MAX_IN_FLIGHT is '0', expected a whole number of at least 1"):
        rebuild_policy()


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch):
    monkeypatch.setenv("MIMIC_REBUILD", "yes")
    with pytest.raises(SpecError, match="MIMIC_REBUILD is 'yes', expected 1"):
        rebuilds_by_itself()


def test_owners_are_teams_and_addresses_between_commas(monkeypatch):
    assert owners() == ["team:mimic"]
    monkeypatch.setenv("MIMIC_OWNERS", "team:choice, ada@example.org")
    assert owners() == ["team:choice", "ada@example.org"]


@pytest.mark.parametrize("value", ["ada", "team:", "team:a,", "ada@example", "a b@example.org"])
def test_an_owner_that_dagster_would_refuse_is_refused_with_what_to_do(monkeypatch, value):
    monkeypatch.setenv("MIMIC_OWNERS", value)
    with pytest.raises(SpecError, match=r"MIMIC_OWNERS names .*, expected team:NAME or an e-mail address"):
        owners()


def test_the_url_of_the_code_is_http_and_has_no_slash_at_its_end(monkeypatch):
    assert code_url() is None
    monkeypatch.setenv("MIMIC_CODE_URL", "https://example.org/mimic/")
    assert code_url() == "https://example.org/mimic"
    monkeypatch.setenv("MIMIC_CODE_URL", "example.org/mimic")
    with pytest.raises(SpecError, match=r"MIMIC_CODE_URL is 'example.org/mimic', expected an http or https URL"):
        code_url()
