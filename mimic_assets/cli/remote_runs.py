"""Remote runs: those of a deployed platform as a `mimic_assets.cli.submission.Place`, by GraphQL and questions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mimic_assets.cli.progress import Told, told_in
from mimic_assets.cli.submission import (
    ANSWER_SECONDS,
    CANCEL_CLUSTER_SECONDS,
    CANCEL_SECONDS,
    CLUSTER_SECONDS,
    ENDED,
    Run,
)
from mimic_assets.posted import CANCELS
from mimic_assets.run_tags import LAUNCH, PARTITION, WILL_RETRY
from mimic_core.errors import ServerError
from mimic_core.specs import PartitionSpec

if TYPE_CHECKING:
    from mimic_assets.cli.remote import Server

POLL_SECONDS = 1
MOST_EVENTS = 1000  # of a run at once
RUNS = """query Runs($filter: RunsFilter!) { runsOrError(filter: $filter) { __typename ... on Error { message }
  ... on Runs { results { runId status tags { key value } } } } }"""
QUEUE = """query Queue($waiting: RunsFilter!, $running: RunsFilter!) {
  waiting: runsOrError(filter: $waiting) { __typename ... on Runs { results { runId } } }
  running: runsOrError(filter: $running) { __typename ... on Runs { count } } }"""
EVENTS = """fragment Found on EventConnection { cursor events { __typename
  ... on MessageEvent { stepKey eventType }
  ... on ObservationEvent { metadataEntries { ...Number } } ... on EngineEvent { metadataEntries { ...Number } } } }
fragment Number on MetadataEntry { label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
  ... on PoolMetadataEntry { pool } }
"""


class RemotePlace:
    """Where the builds of a command run: a platform, asked once a second.

    Attributes:
        launch: id of the command there.
    """

    poll_seconds: float = POLL_SECONDS
    then = "nothing more is built"

    def __init__(self, server: "Server", specs: Sequence[PartitionSpec], launch: str) -> None:
        self._server, self._query, self._ask = server, server.query, server.ask
        self.name, self.launch, self._user = server.url, launch, server.user
        self.asset, self.keys = specs[0].asset, tuple(spec.key for spec in specs)
        self._withdrawn: dict[str, None] = {}
        self._cursors: dict[str, str] = {}
        self.adapt(in_cluster=True, launches_anew=False)

    def adapt(self, *, in_cluster: bool, launches_anew: bool) -> None:
        """Be as patient as the platform needs it."""
        self.patience: float = CLUSTER_SECONDS if in_cluster else ANSWER_SECONDS
        self.grace: float = CANCEL_CLUSTER_SECONDS if in_cluster else CANCEL_SECONDS
        self.launches_anew, self.kills_blocked = launches_anew, not in_cluster

    @property
    def wait(self) -> Callable[[float], None]:
        """What waits, also before a server that does not answer is asked again."""
        return self._server.wait

    @wait.setter
    def wait(self, wait: Callable[[float], None]) -> None:
        self._server.wait = wait

    def ask(self) -> None:
        """Do nothing: the run that registered the specs has asked for their builds."""

    def runs(self) -> list[Run]:
        """Return the runs that belong to the command, oldest first."""
        found = self._query(RUNS, filter={"tags": [{"key": LAUNCH, "value": self.launch}]})["runsOrError"]
        if "results" not in found:
            raise ServerError(f"{self.name}: its runs cannot be read: {found.get('message')}")
        runs = []
        for run in reversed(found["results"]):
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            told = {"will_retry": tags.get(WILL_RETRY, ""), "status": run["status"]}
            runs.append(Run(run_id=run["runId"], key=tags[PARTITION], **told))
        return runs

    def events(self, run_ids: Sequence[str]) -> Mapping[str, list[Told]]:
        """Return what runs told since the last call, by one query."""
        names = {f"run_{number}": run_id for number, run_id in enumerate(run_ids)}
        asked = " ".join(
            f"{name}: logsForRun(runId: ${name}, afterCursor: $after_{name}, limit: {MOST_EVENTS}) {{ __typename ...Found }}"
            for name in names
        )
        given = ", ".join(f"${name}: ID!, $after_{name}: String" for name in names)
        variables: dict[str, Any] = dict(names)
        variables |= {f"after_{name}": self._cursors.get(run_id) for name, run_id in names.items()}
        found = self._query(f"{EVENTS}query Events({given}) {{ {asked} }}", **variables)
        told = {}
        for name, run_id in names.items():
            log = found[name]
            self._cursors[run_id] = log.get("cursor") or self._cursors.get(run_id, "")
            told[run_id] = [each for each in map(_told, log.get("events", ())) if each]
        return told

    def look_after(self) -> bool:
        """Take the daemon for alive: it is restarted where it ends, and marks dead runs as failed itself."""
        return True

    def ahead(self, run_ids: Collection[str]) -> int:
        """Count the runs that the first of some queued ones comes after; 0 where none is in progress."""
        waiting, running = {"statuses": ["QUEUED"]}, {"statuses": ["STARTING", "STARTED", "CANCELING"]}
        found = self._query(QUEUE, waiting=waiting, running=running)
        queue = [run["runId"] for run in reversed(found["waiting"].get("results", ()))]
        first = next((place for place, run_id in enumerate(queue) if run_id in run_ids), 0)
        progressing = int(found["running"].get("count", 0))
        return progressing and progressing + first

    def withdraw(self, keys: Collection[str]) -> None:
        """Say there that some partitions are not wanted any more, and cancel their runs."""
        self._withdrawn |= dict.fromkeys(keys)
        left = [key for key in self.keys if key not in self._withdrawn]
        asked = {"keys": left, "withdrawn": list(self._withdrawn), "user": self._user}
        self._ask("withdraw", launch=self.launch, asset=self.asset, **asked)  # first: nothing more is started after it
        self.cancel([run.run_id for run in self.runs() if run.key in self._withdrawn and run.status not in ENDED])

    def cancel(self, run_ids: Collection[str]) -> None:
        """Cancel runs that wait, and ask those to end that are executed."""
        self._ask_of_some("cancel", list(run_ids))

    def kill(self, run_ids: Collection[str]) -> None:
        """End runs whatever they do."""
        self._ask_of_some("kill", list(run_ids))

    def error(self, run: Run) -> str | None:
        """Say what went wrong with a run that ended; None when nothing did."""
        if run.status == "SUCCESS":
            return None
        found: str | None = self._ask("failure", run_id=run.run_id)["error"]
        return found

    def _ask_of_some(self, what: str, run_ids: list[str]) -> None:
        """Ask about some runs at once, as an answer has to be there in time."""
        for first in range(0, len(run_ids), CANCELS):
            self._ask(what, launch=self.launch, run_ids=run_ids[first : first + CANCELS])


def _told(event: Mapping[str, Any]) -> Told | None:
    numbers = {}
    for entry in event.get("metadataEntries", ()):
        value = next((entry[name] for name in ("intValue", "floatValue", "pool") if name in entry), None)
        if value is not None:
            numbers[entry["label"]] = value
    return told_in(event.get("eventType") or "", event.get("stepKey") or "", numbers)
