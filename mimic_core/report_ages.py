"""Report ages: whether the report on each experiment is of the runs that are trained now; nothing is planned for it.

Reports are made when a person asks (decision 0027), so one that is older than its runs is a hint and no fault.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_core.planner import Partition, Plan
from mimic_core.specs import ReportSpec, present_key
from mimic_core.wording import listed
from mimic_core.world import RUN, Node, State, World

REPORT = ReportSpec.asset
MOST_NAMED = 5  # runs


def with_reports(plan: Plan, world: World, made: Mapping[Node, Mapping[str, Any]]) -> Plan:
    """Return a plan with the reports below the other partitions.

    Args:
        made: the manifests of the reports that were made.
    """
    trained: dict[str, dict[str, str]] = defaultdict(dict)
    for node in world.registered:
        if node.asset == RUN:
            runs = trained[_experiment(node.key)]
            if fingerprint := world.manifests.get(node, {}).get("fingerprint"):
                runs[node.key] = fingerprint
    reports = (_report(Node(REPORT, key), runs, made.get(Node(REPORT, key))) for key, runs in sorted(trained.items()))
    return Plan(partitions={**plan.partitions, **{report.node: report for report in reports}})


def experiments(world: World) -> list[str]:
    """Return the keys of the experiments of which some run is registered."""
    return sorted({_experiment(node.key) for node in world.registered if node.asset == RUN})


def _report(node: Node, trained: Mapping[str, str], manifest: Mapping[str, Any] | None) -> Partition:
    if manifest is None:
        state = State.MISSING if trained else State.WAITING
        runs = f"{len(trained):,} run{'s are' if len(trained) > 1 else ' is'} trained"
        reasons = [f"not made yet; {runs}" if trained else "not made yet; no run is trained"]
    else:
        reasons = [manifest["error"]] if "error" in manifest else _changes(trained, manifest)
        state = State.OUT_OF_DATE if reasons else State.CURRENT
    return Partition(node=node, state=state, reasons=tuple(reasons), manual=True)


def _changes(trained: Mapping[str, str], manifest: Mapping[str, Any]) -> list[str]:
    now = {present_key(RUN, key): fingerprint for key, fingerprint in trained.items()}
    read = {present_key(RUN, run["key"]): run["fingerprint"] for run in manifest["inputs"][RUN]}
    new = [key for key, fingerprint in now.items() if read.get(key) != fingerprint]
    gone = [key for key in read if key not in now]
    reasons = [f"{_number(new)} trained since: {_named(new)}"] if new else []
    reasons += [f"{_number(gone)} in it, but not trained any more: {_named(gone)}"] if gone else []
    return [*reasons, *manifest.get("gone", ())]


def _number(runs: Sequence[str]) -> str:
    return f"{len(runs):,} runs were" if len(runs) > 1 else "1 run was"


def _named(runs: Sequence[str]) -> str:
    return listed([key.rpartition("/")[2][:8] for key in runs], MOST_NAMED)


def _experiment(run: str) -> str:
    return run.rpartition("/")[0]
