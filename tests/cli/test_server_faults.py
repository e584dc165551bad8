"""Commands for a server that is away, restarts, loses answers or is slow to end what registers: a few scripted answers."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mimic_assets.cli import graphql, remote, remote_runs
from mimic_assets.cli.graphql import Connection
from mimic_assets.cli.remote import Server, post
from mimic_assets.cli.servers import ServerNamed
from mimic_assets.run_tags import PARTITION
from mimic_core.configs import parse_spec
from mimic_core.errors import ServerError
from mimic_core.specs import DatasetSpec

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s", "dataset": "d"}
REPOSITORY = {"name": "r", "jobs": [{"name": "register_specs"}], "sensors": [{"name": "answer_commands"}]}
ENTRY = {"name": "mimic", "permissions": [], "locationOrLoadError": {"repositories": [REPOSITORY]}}
WELL = {"current": [], "in_cluster": False, "launches_anew": False}
OUTPUT = {"metadataEntries": [{"label": "registered", "jsonString": json.dumps(WELL)}]}
GOES_ON = "What was asked for goes on there"
Answer = tuple[int, Mapping[str, Any]]


def data(name: str, found: Any) -> Answer:
    return 200, {"data": {name: found}}


def said(answer: Any) -> Answer:
    """What a dry run answers."""
    tick = {"skipReason": json.dumps({"answer": answer}), "error": None}
    return data("sensorDryRun", {"__typename": "DryRunInstigationTick", "evaluationResult": tick})


class Platform(ThreadingHTTPServer):
    """A platform of which only what is told is told.

    Attributes:
        asked: the operations of GraphQL, in order; of questions `Ask:` and their name.
        answers: by operation what comes first, of each once; a function is called for it.
        status: of the run that registers; empty before it is launched.
        builds: runs that build, with their statuses.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.questions: list[dict[str, Any]] = []
        self.posted: list[dict[str, Any]] = []
        self.answers: dict[str, list[Answer | Callable[[], Answer]]] = {}
        self.status, self.ends, self.builds = "", "SUCCESS", {"b": "SUCCESS"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, operation: str, variables: dict[str, Any]) -> Answer:
        if operation == "Ask":
            self.questions.append(json.loads(variables["cursor"]))
            operation = f"Ask:{self.questions[-1]['ask']}"
        self.asked.append(operation)
        if scripted := self.answers.get(operation):
            found = scripted.pop(0)
            return found() if callable(found) else found
        return getattr(self, operation.partition(":")[0].lower())(variables)

    def find(self, _: dict[str, Any]) -> Answer:
        return data("workspaceOrError", {"__typename": "Workspace", "locationEntries": [ENTRY]})

    def launch(self, variables: dict[str, Any]) -> Answer:
        self.posted.append(variables["params"])
        self.status = self.status or "STARTED"
        return data("launchRun", {"__typename": "LaunchRunSuccess", "run": {"runId": "r"}})

    def look(self, _: dict[str, Any]) -> Answer:
        self.status = self.ends
        return data("runOrError", {"__typename": "Run", "status": self.status})

    def end(self, _: dict[str, Any]) -> Answer:
        self.status = "STARTING" if self.ends == "STARTING" else "CANCELED"
        return data("terminateRun", {"__typename": "TerminateRunFailure", "message": "it starts"})

    def log(self, _: dict[str, Any]) -> Answer:
        return data("logsForRun", {"__typename": "EventConnection", "cursor": "", "hasMore": False, "events": [OUTPUT]})

    def events(self, _: dict[str, Any]) -> Answer:
        return data("run_0", {})

    def runs(self, variables: dict[str, Any]) -> Answer:
        (tag,) = variables["filter"]["tags"]
        runs = {"r": self.status} if tag["key"].endswith("posted") and self.status else {}
        runs = self.builds if tag["key"].endswith("launch") else runs
        tags = [{"key": PARTITION, "value": "s/d"}]
        return data("runsOrError", {"results": [{"runId": id_, "status": s, "tags": tags} for id_, s in runs.items()]})

    def ask(self, _: dict[str, Any]) -> Answer:
        outcome = {"asset": "tfrecord_dataset", "key": "s/d", "status": "built", "location": "there"}
        return said({"partitions": [outcome], "error": "its pod was lost"})


class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = re.search(r"(?:query|mutation)\s*(\w*)", asked["query"])
        status, document = self.server.answer(found[1] or "Find", asked["variables"])
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform on which all goes well, and quickly."""
    for module, name in ((graphql, "PAUSE_SECONDS"), (remote, "POLL_SECONDS"), (remote_runs, "POLL_SECONDS")):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(graphql, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(remote, "LOADS_SECONDS", 0.5)
    monkeypatch.setattr(remote_runs.RemotePlace, "poll_seconds", 0.01)
    monkeypatch.setattr(remote_runs, "CANCEL_CLUSTER_SECONDS", 0.2)
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def build(platform: Platform, *, register_only: bool = False) -> str:
    """Have a dataset built there; returns how that ended."""
    server = Server(ServerNamed(url=platform.url, user="ada"), Connection(platform.url, {}))
    (outcome,) = post(server, [(parse_spec(DatasetSpec, DATASET), "")], build=not register_only, where="my.json")
    return outcome.status


def interrupt(answer: Answer) -> Callable[[], Answer]:
    """Have Ctrl-C come with an answer."""

    def send() -> Answer:
        os.kill(os.getpid(), signal.SIGINT)
        return answer

    return send


PYTHON_ERROR = {"__typename": "PythonError", "message": "could not connect to server"}
ERRORS = [{"message": "There is no location mimic", "path": ["sensorDryRun", "evaluationResult"]}]
UNREACHABLE = {"message": "cannot reach", "className": "DagsterUserCodeUnreachableError", "causes": []}


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("Look", (429, {})),
        ("Look", (500, {"errors": "of a proxy", "data": []})),
        ("Look", (500, {"data": {"runOrError": PYTHON_ERROR}})),
        ("Launch", data("launchRun", {"__typename": "PipelineNotFoundError", "message": "no register_specs"})),
        ("Ask:outcomes", (500, {"data": None, "errors": ERRORS})),
        ("Ask:outcomes", (200, {"data": None, "errors": ERRORS})),
        ("Ask:outcomes", data("sensorDryRun", {"__typename": "SensorNotFoundError", "message": "no answer_commands"})),
        ("Ask:outcomes", data("sensorDryRun", {"__typename": "DryRun", "evaluationResult": {"error": UNREACHABLE}})),
    ],
    ids=[
        "busy",
        "a proxy of its own mind",
        "without a database",
        "no job",
        "no location",
        "no location, by a proxy",
        "no sensor",
        "no code server",
    ],
)
def test_a_server_that_answered_before_is_waited_for_whatever_it_lacks(platform, operation, answer):
    platform.answers[operation] = [answer]
    assert build(platform) == "built"
    assert platform.asked.count(operation) == 2


def test_what_a_server_lacks_for_long_is_said_and_that_the_work_goes_on(platform):
    platform.answers["Look"] = [(500, {"data": {"runOrError": PYTHON_ERROR}})] * 100
    with pytest.raises(ServerError, match=f"500 .*: could not connect to server. {GOES_ON}"):
        build(platform)


def test_at_once_it_is_said_that_a_server_which_never_answered_does_not(platform):
    platform.answers["Find"] = [(500, {"data": {"workspaceOrError": PYTHON_ERROR}})]
    with pytest.raises(ServerError, match=r"does not answer: it says 500 .*: could not connect to server; check the URL"):
        build(platform)


def test_only_what_another_version_would_not_know_is_said_to_be_one(platform):
    platform.answers["Look"] = [(400, {"errors": [{"message": "Cannot query field 'x'"}]})]
    with pytest.raises(ServerError, match=f"Cannot query field 'x'; install the same mimic on both sides. {GOES_ON}"):
        build(platform)
    unauthorized = {"__typename": "UnauthorizedError", "message": "you may not"}
    platform.answers = {"Launch": [data("launchRun", unauthorized)]}
    with pytest.raises(ServerError, match="you may not; a webserver that was started with --read-only"):
        build(platform)
    platform.answers = {"Ask:outcomes": [data("sensorDryRun", unauthorized)]}
    with pytest.raises(ServerError, match="you may not; a webserver that was started with --read-only"):
        build(platform)
    failed = {"message": "a bug", "className": "KeyError", "causes": []}
    platform.answers = {"Ask:outcomes": [data("sensorDryRun", {"__typename": "x", "evaluationResult": {"error": failed}})]}
    with pytest.raises(ServerError, match=r"cannot answer: a bug$"):  # and nothing goes on: all builds have ended
        build(platform)


def test_a_run_whose_launch_was_not_answered_is_found_and_launched_once(platform):
    def lost() -> Answer:
        platform.launch({"params": {}})
        return 504, {}

    platform.answers["Launch"] = [lost]
    assert build(platform) == "built"
    assert platform.asked.count("Launch") == 1
    platform.status, platform.answers["Launch"] = "", [(504, {})]  # it never came
    assert build(platform) == "built"
    assert platform.asked.count("Launch") == 3
    tags = {tag["key"]: tag["value"] for tag in platform.posted[-1]["executionMetadata"]["tags"]}
    config = platform.posted[-1]["runConfigData"]["ops"]["register_posted_specs"]["config"]
    assert tags == {"mimic/user": "ada", ".dagster/mimic-posted": config["launch"]}


def test_an_error_before_the_registration_ended_says_that_it_goes_on(platform):
    platform.answers["Look"] = [(401, {})]
    with pytest.raises(ServerError, match=GOES_ON):
        build(platform)
    platform.answers = {"Log": [(401, {})]}
    with pytest.raises(ServerError, match=GOES_ON):
        build(platform)


def test_a_registration_that_failed_does_not_go_on(platform):
    platform.ends = "FAILURE"
    with pytest.raises(ServerError, match=r"nothing is built, as run r that registers ended as FAILURE: its pod was lost$"):
        build(platform)


# interruptions


def test_an_interruption_while_it_is_launched_ends_the_run_though_its_id_never_came(platform, capsys):
    def lost() -> Answer:
        platform.launch({"params": {}})
        return interrupt((504, {}))()

    platform.answers["Launch"] = [lost]
    with pytest.raises(KeyboardInterrupt):
        build(platform)
    assert platform.status == "CANCELED"
    assert platform.questions[0]["ask"] == "withdraw"
    assert platform.questions[0]["withdrawn"] == ["s/d"]
    assert "the run that registers, r, ended as CANCELED; what it asked for is withdrawn" in capsys.readouterr().err


def test_an_interruption_between_registering_and_following_withdraws(platform):
    platform.answers["Log"] = [interrupt(platform.log({}))]
    platform.builds = {"b": "QUEUED"}

    def canceled() -> Answer:
        platform.builds = {"b": "CANCELED"}
        return said({})

    platform.answers["Ask:cancel"] = [canceled]
    with pytest.raises(KeyboardInterrupt):
        build(platform)
    asked = [each["ask"] for each in platform.questions]
    assert asked[:2] == ["withdraw", "cancel"]  # in this order


def test_a_run_that_starts_is_asked_to_end_again_and_again_and_nothing_is_claimed_of_one_that_does_not(platform, capsys):
    platform.ends = "STARTING"
    platform.answers["Look"] = [interrupt(data("runOrError", {"__typename": "Run", "status": "STARTING"}))]
    with pytest.raises(KeyboardInterrupt):
        build(platform)
    assert platform.asked.count("End") > 2
    told = capsys.readouterr().err
    assert "the run that registers, r, is STARTING still after 0.2 seconds, and may register and build" in told
    assert "withdrawn" not in told


def test_what_was_only_registered_is_not_said_to_be_withdrawn(platform, capsys):
    def registered() -> Answer:
        platform.status = "SUCCESS"
        return interrupt(data("runOrError", {"__typename": "Run", "status": "STARTED"}))()

    platform.answers["Look"] = [registered]
    with pytest.raises(KeyboardInterrupt):
        build(platform, register_only=True)
    assert "the run that registers, r, ended as SUCCESS; its specs are registered\n" in capsys.readouterr().err
    assert platform.questions == []


def test_many_runs_are_canceled_some_at_a_time(platform):
    server = Server(ServerNamed(url=platform.url, user="ada"), Connection(platform.url, {}))
    place = remote_runs.RemotePlace(server, [parse_spec(DatasetSpec, DATASET)], "1a" * 16)
    platform.builds = {f"b{number}": "QUEUED" for number in range(60)} | {"ended": "SUCCESS"}
    place.withdraw(place.keys)
    asked = [(each["ask"], len(each.get("run_ids", ()))) for each in platform.questions]
    assert asked == [("withdraw", 0), ("cancel", 25), ("cancel", 25), ("cancel", 10)]
