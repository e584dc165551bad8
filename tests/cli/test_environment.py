"""The settings of Dagster's instance in a home: copies of earlier versions are renewed, edited ones are left alone."""

import hashlib
import os
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from dagster_webserver.cli import cli

from mimic_assets.cli.environment import SHIPPED_BEFORE, prepare
from mimic_assets.cli.main import main
from mimic_core.errors import SpecError
from mimic_core.rebuilds import Policy

CURRENT = (Path(__file__).parents[2] / "deploy/local/dagster.yaml").read_text()
EARLIER = """\
# The Dagster instance of one machine: SQLite and local files below DAGSTER_HOME, no server. `mimic` copies it there once.
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 4 # a form may ask for many runs at once, and each is a process with TensorFlow in it
    dequeue_interval_seconds: 1 # people wait
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, CURRENT), (EARLIER, CURRENT), (EARLIER + "# mine\n", EARLIER + "# mine\n"), (CURRENT, CURRENT)],
    ids=["new home", "of an earlier version", "edited", "of this version"],
)
def test_a_home_has_the_settings_of_this_version_unless_they_were_edited(home, before, after):
    settings = home / "dagster/dagster.yaml"
    if before is not None:
        settings.parent.mkdir()
        settings.write_text(before)
    prepare()
    assert settings.read_text() == after
    assert [path.name for path in settings.parent.iterdir()] == ["dagster.yaml"]


def test_the_settings_of_this_version_are_no_earlier_ones():
    assert hashlib.sha256(CURRENT.encode()).hexdigest() not in SHIPPED_BEFORE


def test_the_queue_runs_one_build_of_a_partition_at_a_time(home):
    prepare()
    with dg.DagsterInstance.get() as instance:
        limits = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    each = {"applyLimitPerUniqueValue": True}
    assert {limit["key"]: limit["limit"] for limit in limits if limit.get("value") == each} == {
        "mimic/build": 1,
        "dagster/partition": 1,
    }


def test_four_builds_leave_room_in_the_queue_for_forms_answers_and_approvals(home):
    prepare()
    with dg.DagsterInstance.get() as instance:
        queue = instance.get_concurrency_config().run_queue_config
    (builds,) = [limit for limit in queue.tag_concurrency_limits if not limit.get("value")]
    assert (builds["key"], builds["limit"]) == ("dagster/partition", Policy.max_in_flight)
    assert queue.max_concurrent_runs > Policy.max_in_flight


def test_builds_of_a_daemon_share_the_cores_unless_a_person_says_otherwise(home, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda *_: started.append(dict(os.environ)))
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert CliRunner().invoke(main, ["dev", "--port", "3987"]).exit_code == 0
    assert [started[0][name] for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")] == ["1", "3"]
    assert int(started[0]["TF_NUM_INTRAOP_THREADS"]) == max(1, (os.cpu_count() or 1) // Policy.max_in_flight)


@pytest.mark.parametrize(("options", "read_only"), [((), False), (("--read-only",), True)])
def test_dev_starts_a_webserver_that_changes_nothing_where_it_is_told_to(home, monkeypatch, options, read_only):
    read = []
    webserver = ("dagster-webserver", ["--empty-workspace"])
    monkeypatch.setenv("DAGSTER_WEBSERVER_READ_ONLY", "0")  # so that it is restored
    monkeypatch.setattr(
        os, "execv", lambda *_: read.append(cli.make_context(*webserver, auto_envvar_prefix="DAGSTER_WEBSERVER"))
    )
    assert CliRunner().invoke(main, ["dev", "--port", "3988", *options]).exit_code == 0
    assert read[0].params["read_only"] is read_only


def test_a_folder_for_temporary_files_that_is_not_there_is_no_other_one(home, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(home / "nowhere"))
    with pytest.raises(SpecError, match=r"TMPDIR is .*nowhere, and there is no such folder; make it, or unset TMPDIR"):
        prepare()


def test_in_a_cluster_a_command_without_a_daemon_builds_nothing(mimic, decision_table, monkeypatch):
    mimic.imported(decision_table())
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{mimic.home / 'mimic/catalog.db'}")
    monkeypatch.setattr("mimic_assets.cli.building.DAEMON_SECONDS", 0)
    said = mimic.refused("log-odds", "build-dataset", mimic.dataset(), exit_code=1)
    assert said.startswith("mimic: no daemon of Dagster answers yet; waiting up to 0 seconds for it\n")
    assert "mimic: tfrecord_dataset s/d: no daemon of Dagster answers, and in a cluster only it starts builds" in said
    assert mimic.published() == {}


def test_in_a_cluster_files_that_other_pods_may_not_have_are_registered_with_a_warning(mimic, decision_table, monkeypatch):
    mimic.imported(decision_table())
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{mimic.home / 'mimic/catalog.db'}")
    said = []
    for folder in (mimic.home / "elsewhere", mimic.home / "mimic/incoming"):
        folder.mkdir(parents=True)
        pq.write_table(decision_table(), folder / "table.parquet")
        said.append(mimic.done("tables", "register", f"haven.{folder.name}", folder / "table.parquet").stderr)
    assert "elsewhere/table.parquet is not below MIMIC_HOME" in said[0]
    assert "not below" not in said[1]


def test_in_a_cluster_no_second_daemon_is_started(mimic, monkeypatch):
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{mimic.home / 'catalog.db'}")
    said = mimic.refused("dev")
    assert "MIMIC_ENV is 'kubernetes', where Dagster's UI and daemon are Deployments of their own; a second daemon" in said


def test_in_a_cluster_a_pod_without_the_settings_of_dagster_is_told_apart_from_one_that_is_for_commands(mimic, monkeypatch):
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{mimic.home / 'catalog.db'}")
    monkeypatch.setenv("DAGSTER_HOME", str(mimic.home / "elsewhere"))
    (mimic.home / "mimic").mkdir(exist_ok=True)
    said = mimic.refused("status")
    assert "elsewhere/dagster.yaml: there is none, so nothing here knows Dagster's database; run commands in the pod" in said
    assert not (mimic.home / "elsewhere").exists()
