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
from mimic_assets.cli.remote_runs import RemotePlace
from mimic_assets.cli.servers import HEADER, TOKEN, ServerNamed, setting
from mimic_assets.cli.submission import CLUSTER_SECONDS, ENDED, WAITING, complain, submit
from mimic_assets.outcomes import Ended, Outcome, registered
from mimic_assets.posted import ANSWERS, PROTOCOL, REGISTERED, REGISTERS, STEP
from mimic_assets.run_tags import USER
from mimic_core import errors
from mimic_core.errors import MimicError, ServerError
from mimic_core.specs import PartitionSpec

New = Sequence[tuple[PartitionSpec, str]]

POLL_SECONDS = 1
SAY_SECONDS = 5  # after which it is said that the run of a registration waits
LOADS_SECONDS = 60  # in which a code location is loaded
UNREACHABLE = "DagsterUserCodeUnreachableError"
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
            tick = found.get("evaluationResult") or {}
            error = tick.get("error")
            if not error:
                break
            chain = [error, *error["causes"]]
            if not any(each["className"] == UNREACHABLE for each in chain) or time.monotonic() > until:
                raise ServerError(f"{self.url} cannot answer: {chain[-1]['message'].strip()}")
            self.wait(POLL_SECONDS)  # the code server is restarted
        if "skipReason" not in tick:
            raise ServerError(f"{self.url} does not answer: {found.get('message')}; {READ_ONLY}")
        said = json.loads(tick["skipReason"])
        if refused := said.get("refused"):
            raise _error(refused["error"], refused["message"])
        answer: dict[str, Any] = said["answer"]
        return answer

    def launch(self, config: dict[str, Any]) -> str:
        """Launch the run that registers what is posted; returns its id.

        Raises:
            ServerError: it is not launched.
        """
        params = {
            "selector": {**self._where, "jobName": REGISTERS},
            "runConfigData": {"ops": {STEP: {"config": config}}},
            "executionMetadata": {"tags": [{"key": USER, "value": self.user}]},
        }
        found = self.query(LAUNCH, params=params)["launchRun"]
        if "run" not in found:
            said = "; ".join(each["message"] for each in found.get("errors", ())) or found.get("message")
            raise ServerError(f"{self.url} does not take what is posted: {said}; {SAME}")
        return str(found["run"]["runId"])

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
        """Ask a run to end."""
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
    return Server(named, Connection(named.url, headers_of(setting(TOKEN), setting(HEADER))))


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
    with _goes_on(server, LostError):
        said = _register(server, place, _posted(server, place, new, build, where), build)
    if not build:
        return registered(specs)
    say_what_is_current(said["current"])
    place.adapt(in_cluster=said["in_cluster"], launches_anew=said["launches_anew"])
    with _goes_on(server, ServerError):  # also where a token expired
        return _follow(server, place, specs)


@contextmanager
def _goes_on(server: Server, kind: type[ServerError]) -> Iterator[None]:
    """Say with an error of some kind that what was asked for goes on."""
    try:
        yield
    except kind as error:
        raise ServerError(
            f"{error}. What was asked for goes on there: `mimic --server {server.url} status --follow` follows it"
        ) from error


def _follow(server: Server, place: RemotePlace, specs: Sequence[PartitionSpec]) -> list[Outcome]:
    """Follow the builds of a command to their end; returns what came of each."""
    with progress(specs) as shown:
        done = submit(place, shown)
    ended = {key: done.get(key, Ended(run_id=None, error=NO_DAEMON)) for key in place.keys}
    for key, each in ended.items():
        complain(place.asset, key, each.error)
    asked = {key: asdict(each) for key, each in ended.items()}
    return [Outcome(**each) for each in server.ask("outcomes", asset=place.asset, ended=asked)["partitions"]]


def _posted(server: Server, place: RemotePlace, new: New, build: bool, where: str) -> dict[str, Any]:
    """Return the config of the job that registers: `mimic_assets.remote_jobs.Posted`."""
    files = {text: f"layers_{number}" for number, text in enumerate(dict.fromkeys(text for _, text in new if text))}
    return {
        "asset": place.asset,
        "specs": [{"document": json.dumps(spec.document), "layers": files.get(text, "")} for spec, text in new],
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
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run that registers is ended, or what it asked for withdrawn.
    """
    run_id, status = "", ""
    try:
        with noting() as place.wait:  # a signal while the run is launched must find out which one that is
            run_id = server.launch(config)
            of = f"{len(place.keys)} specs" if len(place.keys) > 1 else f"{place.asset} {place.keys[0]}"
            click.echo(f"mimic: posting {of} to {server.url} as {server.user}", err=True)
            status = _wait_for(server, place, run_id)
        return _said(server, run_id, status)
    except KeyboardInterrupt:
        if run_id:
            with noting() as place.wait:
                _take_back(server, place, run_id, build)
        raise


def _wait_for(server: Server, place: RemotePlace, run_id: str) -> str:
    """Wait for the end of the run that registers; returns its status."""
    began, told = time.monotonic(), False
    while (status := server.status(run_id)) not in ENDED:
        late = time.monotonic() - began
        if status in WAITING and late > CLUSTER_SECONDS:
            server.terminate(run_id)
            raise ServerError(f"{server.url}: the run that registers waited for {late:.0f} seconds; {NO_DAEMON}")
        if late > SAY_SECONDS and not told:
            told = True
            click.echo("mimic: waiting for the run that registers; in a cluster its pod takes 10 to 20 seconds", err=True)
        place.wait(POLL_SECONDS)
    return status


def _take_back(server: Server, place: RemotePlace, run_id: str, build: bool) -> None:
    """End the run that registers, and withdraw what it may have asked for by then, however it ended."""
    server.terminate(run_id)
    until = time.monotonic() + place.grace
    while (status := server.status(run_id)) not in ENDED and time.monotonic() < until:
        place.wait(POLL_SECONDS)
    if build:
        place.withdraw(place.keys)
    click.echo(f"mimic: the run that registers, {run_id}, ended as {status}; what it asked for is withdrawn", err=True)


def _said(server: Server, run_id: str, status: str) -> dict[str, Any]:
    events = server.log(run_id)
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
    until = time.monotonic() + LOADS_SECONDS
    while True:
        found = connection.query(WORKSPACE)["workspaceOrError"]
        if "locationEntries" not in found:
            raise ServerError(f"{connection.url} has no code locations: {found.get('message')}")
        entries = found["locationEntries"]
        if all(entry["locationOrLoadError"] for entry in entries) or time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)  # one is being loaded
    broken, other = [], False
    for entry in entries:
        loaded = entry["locationOrLoadError"] or {"message": "it is being loaded"}
        if "repositories" not in loaded:
            broken.append(f"{entry['name']} cannot be loaded: {loaded['message'].strip()}")
        for repository in loaded.get("repositories", ()):
            names = {each["name"] for each in (*repository["jobs"], *repository["sensors"])}
            if {REGISTERS, ANSWERS} <= names:
                _require_writable(connection, entry)
                return {"repositoryLocationName": entry["name"], "repositoryName": repository["name"]}
            other = other or {"build_dataset", "train_run"} <= names
    if other:
        raise ServerError(f"{connection.url} has a mimic that does not answer commands yet; {SAME}")
    said = "; ".join(broken) or f"its code locations are {', '.join(entry['name'] for entry in entries) or 'none'}"
    raise ServerError(f"{connection.url} is a Dagster webserver without mimic: {said}")


def _require_writable(connection: Connection, entry: dict[str, Any]) -> None:
    allowed = {each["permission"]: each["value"] for each in entry["permissions"]}
    if not (allowed.get("launch_pipeline_execution", True) and allowed.get("sensor_dry_run", True)):
        raise ServerError(f"{connection.url} is for viewers: {READ_ONLY}")


def _error(name: str, message: str) -> MimicError:
    """Make the error that was raised there."""
    kind = getattr(errors, name, None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, MimicError) else MimicError(message)
