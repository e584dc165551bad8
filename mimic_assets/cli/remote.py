"""Remote: a deployed platform, by the GraphQL of its webserver: questions are asked, specs posted, their builds followed."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from mimic_assets.cli.graphql import SAME, Connection, LostError, headers_of
from mimic_assets.cli.interruptions import noting
from mimic_assets.cli.planning import say_what_is_current
from mimic_assets.cli.progress import progress
from mimic_assets.cli.remote_runs import RUNS, RemotePlace
from mimic_assets.cli.servers import ServerNamed
from mimic_assets.cli.submission import CLUSTER_SECONDS, ENDED, WAITING, complain, follow
from mimic_assets.outcomes import Ended, Outcome, registered
from mimic_assets.posted import ANSWERS, PROTOCOL, REGISTERED, REGISTERS, STEP
from mimic_assets.run_tags import POSTED, USER
from mimic_core import errors
from mimic_core.errors import MimicError, ServerError
from mimic_core.specs import PartitionSpec

New = Sequence[tuple[PartitionSpec, str]]

POLL_SECONDS = 1
SAY_SECONDS = 5  # after which it is said that the run of a registration waits
LOADS_SECONDS = 60  # in which a code location is loaded
UNREACHABLE = "DagsterUserCodeUnreachableError"
GONE = {"SensorNotFoundError", "PipelineNotFoundError"}  # for a moment: it was there when the server was reached
UNAUTHORIZED = "UnauthorizedError"
LOG_THERE = "see the log of the code server there"
READ_ONLY = "a webserver that was started with --read-only lets nobody ask or launch anything, use the other one"
NO_DAEMON = (
    "no daemon of Dagster starts builds there; look at its log and at the sensor build_requested, then run the command again"
)
WORKSPACE = """query { workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries {
  name permissions { permission value } locationOrLoadError { __typename ... on PythonError { message }
  ... on RepositoryLocation { repositories { name jobs { name } sensors { name } } } } } } } }"""
ASK = """mutation Ask($selector: SensorSelector!, $cursor: String) { sensorDryRun(selectorData: $selector, cursor: $cursor) {
  __typename ... on Error { message } ... on DryRunInstigationTick { evaluationResult { skipReason
  error { className message causes { className message } } } } } }"""
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on RunConfigValidationInvalid { errors { message } }
  ... on Error { message } } }"""
LOOK = "query Look($run: ID!) { runOrError(runId: $run) { __typename ... on Run { status } ... on Error { message } } }"
LOG = """query Log($run: ID!, $cursor: String) { logsForRun(runId: $run, afterCursor: $cursor) { __typename
  ... on Error { message } ... on EventConnection { cursor hasMore events { __typename
  ... on ExecutionStepOutputEvent { metadataEntries { label ... on JsonMetadataEntry { jsonString } } }
  ... on ExecutionStepFailureEvent { failureMetadata { description metadataEntries { label
  ... on TextMetadataEntry { text } } } } } } } }"""
TERMINATE = "mutation End($run: String!) { terminateRun(runId: $run) { __typename ... on Error { message } } }"


class Server:
    """A platform that is reached, and where mimic is in it.

    Attributes:
        url: of its webserver.
        user: who asks.
    """

    def __init__(self, named: ServerNamed, connection: Connection) -> None:
        self.url, self.user, self._connection = named.url, named.user, connection
        self._where = _find(connection)

    @property
    def location(self) -> str:
        """The name of the code location that mimic is in."""
        return self._where["repositoryLocationName"]

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Ask something by GraphQL.

        Raises:
            ServerError: it does not answer, or not as a Dagster webserver does.
        """
        return self._connection.query(text, variables)

    @property
    def wait(self) -> Callable[[float], None]:
        """What waits before the server is asked again."""
        return self._connection.wait

    @wait.setter
    def wait(self, wait: Callable[[float], None]) -> None:
        self._connection.wait = wait

    def ask(self, what: str, **question: Any) -> dict[str, Any]:
        """Ask a question of `mimic_assets.asked`.

        Raises:
            MimicError: the same that a command on the same machine raises.
            ServerError: it does not answer.
        """
        cursor = json.dumps({"protocol": PROTOCOL, "ask": what, **question})
        until = time.monotonic() + LOADS_SECONDS
        while True:
            found = self.query(ASK, selector={**self._where, "sensorName": ANSWERS}, cursor=cursor)["sensorDryRun"]
            why, restarts = _unanswered(found)
            if not why:
                break
            if not restarts or time.monotonic() > until:
                raise ServerError(f"{self.url} cannot answer: {why}")
            self.wait(POLL_SECONDS)
        said = json.loads(found["evaluationResult"]["skipReason"])
        if refused := said.get("refused"):
            raise _error(refused["error"], refused["message"])
        answer: dict[str, Any] = said["answer"]
        return answer

    def launch(self, config: dict[str, Any]) -> str:
        """Launch the run that registers what is posted, once even where an answer is lost; returns its id.

        Raises:
            ServerError: it is not launched.
        """
        tags = {USER: self.user, POSTED: config["launch"]}
        params = {
            "selector": {**self._where, "jobName": REGISTERS},
            "runConfigData": {"ops": {STEP: {"config": config}}},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }

        def done() -> dict[str, Any] | None:
            return next(({"launchRun": {"run": {"runId": run_id}}} for run_id in self.posted(config["launch"])), None)

        until = time.monotonic() + LOADS_SECONDS
        while "run" not in (found := self._connection.query(LAUNCH, {"params": params}, done)["launchRun"]):
            if found["__typename"] not in GONE or time.monotonic() > until:
                said = "; ".join(each["message"] for each in found.get("errors", ())) or found.get("message")
                do = READ_ONLY if found["__typename"] == UNAUTHORIZED else SAME
                raise ServerError(f"{self.url} does not take what is posted: {said}; {do}")
            self.wait(POLL_SECONDS)
        return str(found["run"]["runId"])

    def posted(self, launch: str) -> dict[str, str]:
        """Return the runs that register what a command posted, each with its status.

        Raises:
            ServerError: they cannot be read.
        """
        found = self.query(RUNS, filter={"tags": [{"key": POSTED, "value": launch}]})["runsOrError"]
        if "results" not in found:
            raise ServerError(f"{self.url}: its runs cannot be read: {found.get('message')}")
        return {run["runId"]: run["status"] for run in found["results"]}

    def status(self, run_id: str) -> str:
        """Return the status of a run, as Dagster names it.

        Raises:
            ServerError: there is no such run.
        """
        found = self.query(LOOK, run=run_id)["runOrError"]
        if "status" not in found:
            raise ServerError(f"{self.url}: {found['message']}; run the command again")
        return str(found["status"])

    def terminate(self, run_id: str) -> None:
        """Ask a run to end, which Dagster refuses while it starts."""
        self.query(TERMINATE, run=run_id)

    def log(self, run_id: str) -> list[dict[str, Any]]:
        """Return the events of a run, as far as `LOG` reads them."""
        events: list[dict[str, Any]] = []
        more, cursor = True, None
        while more:
            found = self.query(LOG, run=run_id, cursor=cursor)["logsForRun"]
            if "events" not in found:
                raise ServerError(f"{self.url}: {found['message']}; run the command again")
            events += found["events"]
            more, cursor = found["hasMore"], found["cursor"]
        return events


def connect(named: ServerNamed) -> Server:
    """Reach a platform.

    Raises:
        ServerError: it is not reached, is none, or mimic is not in it.
        SpecError: a header that the settings ask for cannot be one.
    """
    return Server(named, Connection(named.url, headers_of(named.token, named.header)))


def post(server: Server, new: New, *, build: bool, where: str) -> list[Outcome]:
    """Register specs of one asset on a platform, have them built there, and follow that to the end.

    Args:
        new: the specs, each with its layers file.
        where: what the config is called in messages.

    Returns:
        What came of each, in the order of `new`.

    Raises:
        MimicError: the same that a command on the same machine raises.
        KeyboardInterrupt: Ctrl-C or SIGTERM; runs that waited are withdrawn, and those that were executed are ended.
    """
    specs = [spec for spec, _ in new]
    place = RemotePlace(server, specs, uuid.uuid4().hex)
    with noting() as place.wait:  # of all, so that no signal comes between two things that can be taken back
        said = _register(server, place, _posted(server, place, new, build, where), build)
        if not build:
            return registered(specs)
        say_what_is_current(said["current"])
        place.adapt(in_cluster=said["in_cluster"], launches_anew=said["launches_anew"])
        return _follow(server, place, specs)


@contextmanager
def _goes_on(server: Server, kind: type[ServerError] = ServerError) -> Iterator[None]:
    """Say with an error of some kind, such as of a token that expired, that what was asked for goes on."""
    try:
        yield
    except kind as error:
        raise ServerError(
            f"{error}. What was asked for goes on there: `mimic --server {server.url} status --follow` follows it"
        ) from error


def _follow(server: Server, place: RemotePlace, specs: Sequence[PartitionSpec]) -> list[Outcome]:
    """Follow the builds of a command to their end; returns what came of each."""
    with _goes_on(server), progress(specs) as shown:
        done = follow(place, shown)
    ended = {key: done.get(key, Ended(run_id=None, error=NO_DAEMON)) for key in place.keys}
    for key, each in ended.items():
        complain(place.asset, key, each.error)
    asked = {key: asdict(each) for key, each in ended.items()}
    return [Outcome(**each) for each in server.ask("outcomes", asset=place.asset, ended=asked)["partitions"]]


def _posted(server: Server, place: RemotePlace, new: New, build: bool, where: str) -> dict[str, Any]:
    """Return the config of the job that registers: `mimic_assets.remote_jobs.Posted`."""
    files = {text: f"layers_{number}" for number, text in enumerate(dict.fromkeys(text for _, text in new if text))}
    return {
        "protocol": PROTOCOL,
        "asset": place.asset,
        "specs": [
            {"document": json.dumps(spec.document), "key": spec.key, "layers": files.get(text, "")} for spec, text in new
        ],
        "layers_files": {name: text for text, name in files.items()},
        "build": build,
        "launch": place.launch,
        "user": server.user,
        "where": where,
    }


def _register(server: Server, place: RemotePlace, config: dict[str, Any], build: bool) -> dict[str, Any]:
    """Post specs, wait until they are registered, and return what the job says then.

    Raises:
        MimicError: they are refused.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run that registers is ended, and what it asked for withdrawn.
    """
    try:
        with _goes_on(server, LostError):
            run_id = server.launch(config)
        of = f"{len(place.keys)} specs" if len(place.keys) > 1 else f"{place.asset} {place.keys[0]}"
        click.echo(f"mimic: posting {of} to {server.url} as {server.user}", err=True)
        with _goes_on(server):
            status = _wait_for(server, place, run_id)
            events = server.log(run_id) if status in ENDED else []
    except KeyboardInterrupt:
        _take_back(server, place, build)
        raise
    if status not in ENDED:
        _take_back(server, place, build)
        raise ServerError(f"{server.url}: the run that registers waited for {CLUSTER_SECONDS} seconds; {NO_DAEMON}")
    return _said(server, run_id, status, events)


def _wait_for(server: Server, place: RemotePlace, run_id: str) -> str:
    """Wait for the end of the run that registers, or until it waited for long; returns its status."""
    began, told = time.monotonic(), False
    while (status := server.status(run_id)) not in ENDED:
        late = time.monotonic() - began
        if status in WAITING and late > CLUSTER_SECONDS:
            break
        if late > SAY_SECONDS and not told:
            told = True
            click.echo("mimic: waiting for the run that registers; in a cluster its pod takes 10 to 20 seconds", err=True)
        place.wait(POLL_SECONDS)
    return status


def _take_back(server: Server, place: RemotePlace, build: bool) -> None:
    """End what registers, also where nobody knows yet whether it was launched, and withdraw what it asks for."""
    withdrawn = place.keys if build else ()
    until = time.monotonic() + place.grace
    with _goes_on(server):
        if withdrawn:
            place.withdraw(withdrawn)  # what registers after that asks for nothing
        while not ENDED.issuperset((runs := server.posted(place.launch)).values()) and time.monotonic() < until:
            for run_id in [each for each, status in runs.items() if status not in ENDED]:
                server.terminate(run_id)
            place.wait(POLL_SECONDS)
        if withdrawn:
            place.withdraw(withdrawn)  # anew, as the first is forgotten after a minute
    for run_id, status in runs.items():
        if status not in ENDED:
            said = f"is {status} still after {place.grace:g} seconds, and may register and build: end it on its page there"
        elif build:
            said = f"ended as {status}; what it asked for is withdrawn"
        else:
            said = f"ended as {status}{'; its specs are registered' if status == 'SUCCESS' else ''}"
        click.echo(f"mimic: the run that registers, {run_id}, {said}", err=True)


def _said(server: Server, run_id: str, status: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the run that registers said at its end.

    Raises:
        MimicError: it refused, or failed.
    """
    for failure in [event["failureMetadata"] for event in events if event.get("failureMetadata")]:
        for name in [entry["text"] for entry in failure["metadataEntries"] if entry["label"] == "error"]:
            raise _error(name, failure["description"])
    if status != "SUCCESS":
        error = server.ask("failure", run_id=run_id)["error"]
        raise ServerError(f"{server.url}: nothing is built, as run {run_id} that registers ended as {status}: {error}")
    entries = [entry for event in events for entry in event.get("metadataEntries", ())]
    (said,) = [json.loads(entry["jsonString"]) for entry in entries if entry["label"] == REGISTERED]
    found: dict[str, Any] = said
    return found


def _find(connection: Connection) -> dict[str, str]:
    """Return the code location that has mimic's jobs, as a selector names it.

    Raises:
        ServerError: there is none, it cannot be loaded, has another mimic, or the webserver is read-only.
    """
    until = time.monotonic() + (LOADS_SECONDS if connection.patient else 0)
    while True:
        found = connection.query(WORKSPACE)["workspaceOrError"]
        if "locationEntries" not in found:
            raise ServerError(f"{connection.url} cannot tell its code locations: {found.get('message')}; {LOG_THERE}")
        entries = found["locationEntries"]
        if all(entry["locationOrLoadError"] for entry in entries) or time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)  # one is being loaded
    broken, other = [], False
    for entry in entries:
        loaded = entry["locationOrLoadError"] or {"message": "it is being loaded"}
        if "repositories" not in loaded:
            broken.append(f"{entry['name']} cannot be loaded: {loaded['message'].strip()}; {LOG_THERE}")
        for repository in loaded.get("repositories", ()):
            names = {each["name"] for each in (*repository["jobs"], *repository["sensors"])}
            if {REGISTERS, ANSWERS} <= names:
                _require_writable(connection, entry)
                return {"repositoryLocationName": entry["name"], "repositoryName": repository["name"]}
            other = other or {"build_dataset", "train_run"} <= names
    if other:
        raise ServerError(f"{connection.url} has a mimic that does not answer commands yet; {SAME}")
    there = ", ".join(entry["name"] for entry in entries) or "none"
    said = "; ".join(broken) or f"its code locations are {there}; name mimic's code server among them"
    raise ServerError(f"{connection.url} is a Dagster webserver without mimic: {said}")


def _unanswered(found: dict[str, Any]) -> tuple[str, bool]:
    """Say why a dry run gave no answer, if it gave none, and whether it may soon, as a code server is restarted."""
    kind = found["__typename"]
    if kind == UNAUTHORIZED:
        return f"{found.get('message')}; {READ_ONLY}", False
    if not (tick := found.get("evaluationResult")):
        return found.get("message") or kind, kind in GONE
    if not (said := tick["error"]):
        return "", False
    chain = [said, *said["causes"]]
    return chain[-1]["message"].strip(), any(each["className"] == UNREACHABLE for each in chain)


def _require_writable(connection: Connection, entry: dict[str, Any]) -> None:
    allowed = {each["permission"]: each["value"] for each in entry["permissions"]}
    if not (allowed.get("launch_pipeline_execution", True) and allowed.get("sensor_dry_run", True)):
        raise ServerError(f"{connection.url} is for viewers: {READ_ONLY}")


def _error(name: str, message: str) -> MimicError:
    """Make the error that was raised there."""
    kind = getattr(errors, name, None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, MimicError) else MimicError(message)
