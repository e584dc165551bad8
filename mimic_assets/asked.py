"""What commands elsewhere ask of this code location, and the answers: one JSON document each, see decision 0035."""

import json
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import dagster as dg

from mimic_assets import plans, standing
from mimic_assets.experiments import find_experiment
from mimic_assets.failures import answer_or_refusal
from mimic_assets.outcomes import Ended, outcome_of
from mimic_assets.posted import SPECS, require_protocol
from mimic_assets.reports import NUMBERS, PAGE, read_report
from mimic_assets.run_tags import LAUNCH
from mimic_assets.withdrawal import cancel, error_of, kill
from mimic_core.errors import NotFoundError, SpecError
from mimic_core.specs import PartitionSpec, ReportSpec
from mimic_core.world import Node
from resources.requests import BuildRequest, store_request
from resources.specs import SpecStore

Question = Mapping[str, Any]
Resources = Mapping[str, Any]


def answer(question: str, instance: dg.DagsterInstance, resources: Resources) -> str:
    """Answer a question, or say why it is refused; both are JSON.

    Args:
        question: JSON, an object with `protocol`, `ask`, the name of the question, and what that needs.
    """
    return json.dumps(answer_or_refusal(_answer, json.loads(question), instance, resources))


def _answer(question: Question, instance: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    require_protocol(question.get("protocol"))
    if question.get("ask") not in ANSWERS:
        raise SpecError(f"expected one of {', '.join(ANSWERS)}, found the question {question.get('ask')!r}")
    return ANSWERS[question["ask"]](question, instance, resources)


def _versions(_: Question, __: dg.DagsterInstance, ___: Resources) -> dict[str, Any]:
    return {"mimic": version("mimic")}


def _status(question: Question, instance: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    return standing.status_document(instance, resources, question["keys"])


def _in_flight(question: Question, instance: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    seen = {Node(*each) for each in question["seen"]}
    return {"partitions": standing.in_flight(instance, resources, question["keys"], seen)}


def _plan(question: Question, instance: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    return plans.plan_document(instance, resources, question["keys"], question["failed"])


def _experiment(question: Question, _: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    return find_experiment(question["name"], resources["specs"]).document


def _report(question: Question, _: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    """Return the numbers of a published report, the name of its page, and that itself if it is asked for."""
    spec, artefacts = ReportSpec.of(question["key"]), resources["artefacts"]
    numbers = json.loads(read_report(spec, NUMBERS, artefacts))
    page = read_report(spec, PAGE, artefacts).decode() if question["page"] else None
    return {"document": numbers, "name": PAGE, "page": page}


def _outcomes(question: Question, _: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    """Return what came of partitions: how the run of each ended is told with the question."""
    specs, artefacts = resources["specs"], resources["artefacts"]
    found = [
        outcome_of(_spec(specs, question["asset"], key), Ended(**ended), artefacts)
        for key, ended in question["ended"].items()
    ]
    return {"partitions": [outcome.document() for outcome in found]}


def _failure(question: Question, instance: dg.DagsterInstance, _: Resources) -> dict[str, Any]:
    run = instance.get_run_by_id(question["run_id"])
    if run is None:
        raise NotFoundError(f"there is no run {question['run_id']}; somebody deleted it")
    return {"error": error_of(instance, run)}


def _withdraw(question: Question, _: dg.DagsterInstance, resources: Resources) -> dict[str, Any]:
    """Note in the request of a command which partitions it does not want any more; after that it cancels their runs."""
    if question["asset"] not in SPECS:
        raise SpecError(f"asset: expected one of {', '.join(SPECS)}, found {question['asset']!r}")
    request = BuildRequest(
        launch=question["launch"],
        asset=question["asset"],
        keys=tuple(question["keys"]),
        withdrawn=tuple(question["withdrawn"]),
        time=time.time(),
        user=question["user"],
    )
    store_request(resources["artefacts"], request)
    return {}


def _cancel(question: Question, instance: dg.DagsterInstance, _: Resources) -> dict[str, Any]:
    cancel(instance, _own(question, instance))
    return {}


def _kill(question: Question, instance: dg.DagsterInstance, _: Resources) -> dict[str, Any]:
    for run in _own(question, instance):
        kill(instance, run)
    return {}


def _own(question: Question, instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that are named, of those that belong to the command that asks."""
    own = dg.RunsFilter(run_ids=question["run_ids"], tags={LAUNCH: question["launch"]})
    return list(instance.get_runs(own)) if question["run_ids"] else []


def _spec(specs: SpecStore, asset: str, key: str) -> PartitionSpec:
    return ReportSpec.of(key) if asset == ReportSpec.asset else specs.get(SPECS[asset], key).spec


ANSWERS: Mapping[str, Callable[[Question, dg.DagsterInstance, Resources], dict[str, Any]]] = {
    "versions": _versions,
    "status": _status,
    "in_flight": _in_flight,
    "plan": _plan,
    "experiment": _experiment,
    "report": _report,
    "outcomes": _outcomes,
    "failure": _failure,
    "withdraw": _withdraw,
    "cancel": _cancel,
    "kill": _kill,
}
