"""Sinks: where alerts of failed runs go, which is the log of the sensor that sends them or a webhook."""

import logging
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg

from mimic_core.errors import AlertError, SpecError

if TYPE_CHECKING:
    from requests import RequestException

FORMAT_VERSION = 1
# Dagster gives a sensor up to 5 failed runs at once and 60 seconds for all of them; with these one that hangs has about 10
CONNECT_SECONDS, ANSWER_SECONDS = 2, 5
ATTEMPTS, PATIENCE_SECONDS = 3, 4


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One failed run.

    Attributes:
        asset, partition: what was built; None where the run built none.
        error: what its failed steps say, one line for each.
        failed_at: UTC time, ISO 8601.
    """

    job: str
    asset: str | None
    partition: str | None
    dagster_run_id: str
    error: str
    failed_at: str

    @property
    def text(self) -> str:
        """All of it in one line, for people."""
        what = " ".join(name for name in (self.asset or self.job, self.partition) if name)
        return f"{what} failed (run {self.dagster_run_id}): {'; '.join(self.error.splitlines())}"

    def document(self) -> dict[str, Any]:
        """Return what a webhook gets."""
        return {"format_version": FORMAT_VERSION, "event": "run_failed", "text": self.text, **asdict(self)}


class AlertSink(dg.ConfigurableResource[Any], ABC):
    """Where alerts go.

    Attributes:
        log_level: of their lines in the log. (Dagster 1.13 wants a resource to have a field.)
    """

    log_level: int = logging.ERROR

    @abstractmethod
    def send(self, alert: Alert, log: logging.Logger) -> None:
        """Deliver an alert.

        Args:
            log: that of the sensor, which Dagster shows with its tick.

        Raises:
            AlertError: it could not be delivered; the log has it.
        """


class LogSink(AlertSink):
    """The log alone."""

    def send(self, alert: Alert, log: logging.Logger) -> None:
        """Write an alert as one line."""
        log.log(self.log_level, alert.text)


class WebhookSink(AlertSink):
    """A URL that takes each alert as a POST of JSON; it may hold a secret, so no message shows it."""

    url: str

    def send(self, alert: Alert, log: logging.Logger) -> None:
        """Post an alert, up to 3 times while the webhook does not answer, is busy (429) or fails (5xx).

        Raises:
            AlertError: the webhook refused it or did not answer; the log has the alert.
        """
        import requests
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential

        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE_SECONDS),
            wait=wait_exponential(multiplier=0.5),  # seconds
            reraise=True,
        )
        try:
            retrying(self._post, alert)
        except requests.RequestException as error:
            # Dagster shows a tick as good again if a later alert of it gets through; its log keeps both lines
            log.log(self.log_level, alert.text)
            problem = (
                f"the alert of run {alert.dagster_run_id} was not delivered: the webhook of MIMIC_ALERT_WEBHOOK "
                f"{_reason(error)}; check that it is right and runs. The log of the sensor's tick has the alert"
            )
            log.error(problem)
            raise AlertError(problem) from None  # the library's own message has the URL
        log.info(f"sent to the webhook: {alert.text}")

    def _post(self, alert: Alert) -> None:
        import requests

        # a redirection would turn the POST into a GET elsewhere
        answer = requests.post(
            self.url, json=alert.document(), timeout=(CONNECT_SECONDS, ANSWER_SECONDS), allow_redirects=False
        )
        if not 200 <= answer.status_code < 300:
            raise requests.HTTPError(response=answer)


def require_webhook(url: str) -> str:
    """Return the URL of a webhook.

    Raises:
        SpecError: it is no http or https URL; the message does not tell it.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # requests does not catch what a name like a..b raises
        usable = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not set(url) & set(" \t\r\n")
        )
    except ValueError:
        usable = False
    if not usable:
        raise SpecError(
            "MIMIC_ALERT_WEBHOOK: expected https://HOST/PATH or http://HOST/PATH, found something else; correct it, "
            "or unset it to have alerts in the log"
        )
    return url


def _may_pass(error: BaseException) -> bool:
    """Tell whether the webhook may take the same alert a little later."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, requests.ConnectionError | requests.Timeout)


def _reason(error: "RequestException") -> str:
    from requests import Timeout

    if error.response is not None:
        return f"answered {error.response.status_code}"
    return "did not answer in time" if isinstance(error, Timeout) else f"cannot be reached ({type(error).__name__})"
