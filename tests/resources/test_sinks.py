"""Sinks: an alert reaches a webhook, or the error says why not; a secret in its URL is told to nobody."""

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest

from mimic_core.errors import AlertError, SpecError
from resources import sinks
from resources.environments import alert_sink
from resources.sinks import Alert, LogSink, WebhookSink, require_webhook

LOG = logging.getLogger("tick")
ALERT = Alert(
    job="build_dataset",
    asset="tfrecord_dataset",
    partition="s/d",
    dagster_run_id="1a2b",
    error="table haven.t: 2 null keys\nstep b failed: lost",
    failed_at="2026-01-31T17:45:00+00:00",
)
TEXT = "tfrecord_dataset s/d failed (run 1a2b): table haven.t: 2 null keys; step b failed: lost"


class Webhook(ThreadingHTTPServer):
    """A local server that answers with the given statuses, the last one again and again; None: it hangs up."""

    def __init__(self, *statuses: int | None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.statuses, self.got = list(statuses), []
        self.url = f"http://127.0.0.1:{self.server_port}/hooks/s3cret?key=s3cret"


class Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, self.headers["content-type"], json.loads(body)))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        if status is not None:
            self.send_response(status)
            self.send_header("location", self.server.url)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook(200) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def refused(url: str) -> str:
    """Send an alert that cannot be delivered; returns all that Dagster could show of the error."""
    with pytest.raises(AlertError) as caught:
        WebhookSink(url=url).send(ALERT, LOG)
    return "".join(traceback.format_exception(caught.value))


def test_the_log_has_an_alert_in_one_line(caplog):
    LogSink().send(ALERT, LOG)
    assert caplog.record_tuples == [("tick", logging.ERROR, TEXT)]


def test_a_run_that_built_no_asset_is_named_by_its_job():
    alert = Alert(job="maintenance", asset=None, partition=None, dagster_run_id="1", error="lost", failed_at="")
    assert alert.text == "maintenance failed (run 1): lost"


def test_a_webhook_gets_the_whole_alert_as_json_once(webhook):
    WebhookSink(url=webhook.url).send(ALERT, LOG)
    document = {
        "format_version": 1,
        "event": "run_failed",
        "text": TEXT,
        "job": "build_dataset",
        "asset": "tfrecord_dataset",
        "partition": "s/d",
        "dagster_run_id": "1a2b",
        "error": "table haven.t: 2 null keys\nstep b failed: lost",
        "failed_at": "2026-01-31T17:45:00+00:00",
    }
    assert webhook.got == [("/hooks/s3cret?key=s3cret", "application/json", document)]


def test_a_busy_or_failing_webhook_is_asked_again(webhook, caplog):
    webhook.statuses = [503, 429, 200]
    WebhookSink(url=webhook.url).send(ALERT, LOG)
    assert len(webhook.got) == 3
    assert caplog.messages[-1] == f"sent to the webhook: {TEXT}"


@pytest.mark.parametrize(
    ("status", "attempts", "reason"),
    [
        (500, 3, "answered 500"),
        (404, 1, "answered 404"),
        (302, 1, "answered 302"),
        (None, 3, r"cannot be reached \(ConnectionError\)"),
    ],
)
def test_an_alert_that_a_webhook_does_not_take_is_an_error_and_in_the_log(webhook, caplog, status, attempts, reason):
    webhook.statuses = [status]
    message = refused(webhook.url)
    assert len(webhook.got) == attempts
    assert ("tick", logging.ERROR, TEXT) in caplog.record_tuples
    with pytest.raises(AlertError, match=rf"the alert of run 1a2b was not delivered: the webhook of \S+ {reason}; check"):
        raise AlertError(message)


def test_a_webhook_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(sinks, "ANSWER_SECONDS", 0.05)
    with Webhook(200) as silent:  # listens, and never answers
        assert "did not answer in time" in refused(silent.url)


def test_no_message_tells_the_url_of_a_webhook(webhook, caplog):
    webhook.statuses = [403]
    shown = [refused(webhook.url), refused("http://127.0.0.1:1/hooks/s3cret")]
    assert "s3cret" not in "".join([*shown, caplog.text])


@pytest.mark.parametrize(
    "url", ["hooks/s3cret", "ftp://s3cret/", "https://", "http://s3cret:port/", "http://a..b/s3cret", "https://a b/s3cret"]
)
def test_what_is_no_url_of_a_webhook_is_refused_without_telling_it(url):
    with pytest.raises(SpecError, match=r"MIMIC_ALERT_WEBHOOK: expected https://HOST/PATH .* or unset it") as caught:
        require_webhook(url)
    assert "s3cret" not in str(caught.value)


def test_alerts_go_to_the_log_unless_a_webhook_is_set(monkeypatch):
    assert isinstance(alert_sink(), LogSink)
    monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", "https://example.org/s3cret")
    sink = alert_sink()
    assert isinstance(sink, WebhookSink)
    assert sink.url == dg.EnvVar("MIMIC_ALERT_WEBHOOK")
    assert "s3cret" not in repr(sink)
    monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", "example.org")
    with pytest.raises(SpecError, match="MIMIC_ALERT_WEBHOOK"):
        alert_sink()
