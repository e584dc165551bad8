"""Alerts: which failed runs the sensor tells of, over a real instance; what a webhook does with them is in test_sinks."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from mimic_assets.jobs import LAUNCH
from mimic_assets.registration import register
from mimic_assets.sensors.alerts import alert_on_failure
from mimic_core.configs import parse_spec
from mimic_core.specs import DatasetSpec
from resources.sinks import LogSink


def dataset(name: str = "d") -> DatasetSpec:
    """A dataset of a table that is not there."""
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s"}
    return parse_spec(DatasetSpec, document | {"dataset": name})


@dg.op
def ends(context: dg.OpExecutionContext):
    if context.run.tags["how"] == "interrupted":
        raise dg.DagsterExecutionInterruptedError


@dg.job
def other():
    ends()


class Daemon:
    """The sensor daemon over a platform: each tick goes on where the last one ended."""

    def __init__(self, platform):
        self.platform, self.cursor = platform, None

    def tick(self):
        """Evaluate the sensor once; returns what came of each failed run."""
        definitions, instance = self.platform.definitions(), self.platform.instance
        sink = {"alerts": definitions.resources["alerts"]}
        context = dg.build_sensor_context(
            instance, self.cursor, sensor_name="alert_on_failure", definitions=definitions, resources=sink
        )
        data = definitions.resolve_sensor_def("alert_on_failure").evaluate_tick(context)
        self.cursor = data.cursor
        return data.dagster_run_reactions


@pytest.fixture
def daemon(platform):
    daemon = Daemon(platform)
    daemon.tick()  # the first one only notes where the runs stand
    return daemon


@pytest.fixture
def webhook(monkeypatch):
    """The alerts that reach a local server; one whose text has `refuse` in it gets a 400."""
    got = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            alert = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got.append(alert)
            self.send_response(400 if "refuse" in alert["text"] else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/s3cret")
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield got
        server.shutdown()


def test_the_sensor_runs_unless_it_is_stopped():
    assert alert_on_failure.default_status is dg.DefaultSensorStatus.RUNNING


def test_a_failed_build_is_told_to_the_webhook_once(daemon, webhook):
    result = daemon.platform.build(dataset())
    (reaction,) = daemon.tick()
    assert reaction.error is None
    (alert,) = webhook
    assert alert.pop("failed_at").endswith("+00:00")
    assert alert == {
        "format_version": 1,
        "event": "run_failed",
        "text": f"tfrecord_dataset s/d failed (run {result.run_id}): {alert['error']}",
        "job": "build_dataset",
        "asset": "tfrecord_dataset",
        "partition": "s/d",
        "dagster_run_id": result.run_id,
        "error": result.failure_data_for_node("tfrecord_dataset.plan_dataset").user_failure_data.description,
    }
    assert "haven.features" in alert["error"]
    assert not daemon.tick()
    assert len(webhook) == 1


def test_an_asset_that_is_built_from_its_page_is_named(daemon, webhook):
    register(daemon.platform.instance, daemon.platform.specs, [(dataset(), "")])
    job = daemon.platform.definitions().resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey("tfrecord_dataset")]
    job.execute_in_process(
        instance=daemon.platform.instance, partition_key="s/d", asset_selection=selection, raise_on_error=False
    )
    daemon.tick()
    assert [(alert["job"], alert["asset"]) for alert in webhook] == [("__ASSET_JOB", "tfrecord_dataset")]


def test_without_a_webhook_the_log_has_one_line_for_each(daemon, capfd):
    runs = [daemon.platform.build(dataset(name)).run_id for name in ("d", "e")]
    capfd.readouterr()
    assert [reaction.error for reaction in daemon.tick()] == [None, None]
    lines = [line for line in capfd.readouterr().err.splitlines() if " failed (run " in line]
    assert [run in line and "ERROR" in line for run, line in zip(runs, lines, strict=True)] == [True, True]


def test_an_alert_that_is_refused_is_an_error_of_the_tick_and_keeps_back_no_other(daemon, webhook):
    for name in ("d", "refuse", "e"):
        daemon.platform.build(dataset(name))
    first, refused, last = daemon.tick()
    assert (first.error, last.error) == (None, None)
    assert "the webhook of MIMIC_ALERT_WEBHOOK answered 400" in refused.error.to_string()
    assert "s3cret" not in refused.error.to_string()
    assert [alert["partition"] for alert in webhook] == ["s/d", "s/refuse", "s/e"]
    assert not daemon.tick()


def test_a_webhook_that_is_down_stops_neither_the_builds_nor_later_alerts(daemon, monkeypatch, request):
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", f"http://127.0.0.1:{free.getsockname()[1]}/s3cret")
    daemon.platform.build(dataset())
    (reaction,) = daemon.tick()
    assert "cannot be reached" in reaction.error.to_string()
    assert "s3cret" not in reaction.error.to_string()
    webhook = request.getfixturevalue("webhook")
    daemon.platform.build(dataset("e"))
    assert [reaction.error for reaction in daemon.tick()] == [None]
    assert [alert["partition"] for alert in webhook] == ["s/e"]


@pytest.mark.parametrize(
    ("tags", "alerts"),
    [
        ({"how": "well"}, 0),
        ({"how": "interrupted", LAUNCH: "1"}, 0),  # Ctrl-C, by somebody who is there
        ({"how": "interrupted"}, 1),  # a machine that was taken away
    ],
)
def test_runs_that_succeed_or_that_their_user_ends_are_no_failures(daemon, webhook, tags, alerts):
    other.execute_in_process(instance=daemon.platform.instance, tags=tags, raise_on_error=False)
    daemon.tick()
    assert [alert["error"] for alert in webhook] == ["interrupted"] * alerts


def test_a_cancelled_run_is_no_failure(daemon, webhook):
    instance = daemon.platform.instance
    run = instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_canceled(run)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert not daemon.tick()
    assert webhook == []


def test_a_run_whose_process_died_is_told_with_what_is_known(daemon, webhook):
    instance = daemon.platform.instance
    run = instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "process 7 ended without finishing this run")
    daemon.tick()
    assert [alert["text"] for alert in webhook] == [
        f"other failed (run {run.run_id}): process 7 ended without finishing this run"
    ]


def test_a_failed_run_that_dagster_launches_anew_is_not_told_but_the_last_of_them_is(daemon, webhook):
    instance = daemon.platform.instance
    for again in ("true", "false"):
        run = instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED, tags={"dagster/will_retry": again})
        instance.report_run_failed(run, f"will be launched anew: {again}")
    daemon.tick()
    assert [alert["error"] for alert in webhook] == ["will be launched anew: false"]


def test_what_failed_before_the_sensor_first_ran_is_not_told(platform, webhook):
    platform.build(dataset())
    daemon = Daemon(platform)
    daemon.tick()
    assert not daemon.tick()
    assert webhook == []


def test_the_log_is_the_sink_where_none_is_chosen(platform):
    assert isinstance(platform.definitions().resources["alerts"], LogSink)
