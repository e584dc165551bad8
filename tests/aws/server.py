"""A server of S3, Glue and the others for tests: moto, and what it lacks of what mimic relies on.

Added to moto: `UpdateTable` of Glue compares the `VersionId` that it is given with the table's, and refuses another one with
ConcurrentModificationException, as AWS does; a conditional `PutObject` compares and stores as one step, where moto's threads
may come in between. POST /test/faults with a list of faults has the requests that match them refused or slowed down; GET
/test/requests tells the requests so far, a method, path and checksum each; POST /test/objects makes many objects at once.

    python tests/aws/server.py     serves on a free port, says its address, and ends with its standard input
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.exceptions import JsonRESTError
from moto.glue.responses import GlueResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from werkzeug.serving import WSGIRequestHandler, make_server

BODIES = {
    400: ("BadRequest", "Bad request"),
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchBucket", "The specified bucket does not exist"),
    409: ("OperationAborted", "A conflicting conditional operation is currently in progress against this resource."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    501: ("NotImplemented", "A header you provided implies functionality that is not implemented"),
    503: ("SlowDown", "Please reduce your request rate."),
}
CHUNK = 64 * 1024  # bytes that are sent at once where a fault limits the rate
commits = threading.Lock()
dates = threading.local()  # what the answer of a thread has as its date


class Faults:
    """WSGI middleware: has some requests fail, and counts all.

    A fault is an object with `method`, `path` and `query` (regular expressions; all by default), and what happens: `status`
    refuses, with the error `code` if that is not the usual one of the status; `header` only where the request has a header
    of this name that matches (`header: value`), `seconds` waits before, `rate` limits the bytes of the answer per second,
    `cut` breaks it off after so many, `strip` is a header of the request that the server does not see, `date` what the
    answer has as its `Date`, `times` is how often (without it, always).
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._faults: list[dict[str, Any]] = []
        self._requests: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/test/"):
            return self._answer(environ, start, path)
        with self._lock:
            sums = [name[5:].lower() for name in environ if name.startswith(("HTTP_X_AMZ_CHECKSUM", "HTTP_X_AMZ_TRAILER"))]
            self._requests.append(f"{method} {path}?{environ.get('QUERY_STRING', '')} {' '.join(sums)}")
            fault = next((each for each in self._faults if self._fits(each, environ)), None)
            if fault and "times" in fault:
                fault["times"] -= 1
        dates.date = fault.get("date") if fault else None
        if fault is None:
            return self._application(environ, start)
        time.sleep(fault.get("seconds", 0))
        if status := fault.get("status"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code, message = BODIES[status]
            return refused(environ, start, f"{status} {code}", fault.get("code", code), message)
        if name := fault.get("strip"):
            environ.pop(f"HTTP_{name.upper().replace('-', '_')}", None)
        if fault.get("lost"):
            list(self._application(environ, lambda *_: None))
            start("500 Internal Server Error", [("Content-Type", "application/json")])
            return [b"{}"]
        answer = self._application(environ, start)
        if "cut" in fault:
            return cut(answer, fault["cut"])
        return slowed(answer, fault["rate"]) if "rate" in fault else answer

    def _fits(self, fault: dict[str, Any], environ: dict[str, Any]) -> bool:
        if fault.get("times", 1) <= 0:
            return False
        if not re.fullmatch(fault.get("method", ".*"), environ["REQUEST_METHOD"]):
            return False
        if not re.search(fault.get("query", ""), environ.get("QUERY_STRING", "")):
            return False
        name, _, value = fault.get("header", "").partition(": ")
        found = environ.get(f"HTTP_{name.upper().replace('-', '_')}", "") if name else ""
        return bool(re.search(fault.get("path", ""), environ["PATH_INFO"]) and (not name or re.search(value or ".", found)))

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any], path: str) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self._lock:
            if path == "/test/faults":
                self._faults = json.loads(body)
            if path == "/test/objects":
                add_objects(**json.loads(body))
            found = list(self._requests)
            if path == "/test/reset":
                self._requests.clear()
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(found).encode()]


def add_objects(bucket: str, names: list[str]) -> None:
    """Put small objects into a bucket, many times as fast as by a request each."""
    backend = s3_backends[ACCOUNT]["aws"]
    for name in names:
        backend.put_object(bucket, name, b"1")


def cut(answer: Iterable[bytes], size: int) -> Iterable[bytes]:
    """Break an answer off after so many bytes."""
    yield b"".join(answer)[:size]


def refused(environ: dict[str, Any], start: Callable[..., Any], status: str, code: str, message: str) -> Iterable[bytes]:
    """Answer with an error, in the words of the service that is asked."""
    if "HTTP_X_AMZ_TARGET" in environ:  # of Glue
        start(status, [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps({"__type": code, "message": message}).encode()]
    said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    start(status, [("Content-Type", "application/xml")])
    return [(f"<ErrorResponse>{said}</ErrorResponse>" if environ["PATH_INFO"] == "/" else said).encode()]


class Dated(WSGIRequestHandler):
    """Gives answers the date of a fault."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return getattr(dates, "date", None) or super().date_time_string(timestamp)


def slowed(answer: Iterable[bytes], rate: float) -> Iterable[bytes]:
    """Send an answer at so many bytes per second."""
    for part in answer:
        for begin in range(0, len(part), CHUNK):
            piece = part[begin : begin + CHUNK]
            time.sleep(len(piece) / rate)
            yield piece


def compare_versions() -> None:
    """Have Glue refuse an update of another version of a table than the present one."""
    update = GlueResponse.update_table

    def compared(self: GlueResponse) -> str:
        with commits:
            version = self.parameters.get("VersionId")
            names = self.parameters["DatabaseName"], self.parameters["TableInput"]["Name"]
            if version is not None and self.glue_backend.get_table(*names).as_dict()["VersionId"] != version:
                raise JsonRESTError(
                    "ConcurrentModificationException", "Update table failed due to concurrent modifications."
                )
            return update(self)

    GlueResponse.update_table = compared


def put_in_turn() -> None:
    """Have a conditional PutObject compare and store as one step."""
    put = S3Response.put_object

    def in_turn(self: S3Response) -> Any:
        if not {"If-Match", "If-None-Match"} & set(self.headers.keys()):
            return put(self)
        with commits:
            return put(self)

    S3Response.put_object = in_turn


def main() -> None:
    """Serve until standard input ends."""
    compare_versions()
    put_in_turn()
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=Dated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
