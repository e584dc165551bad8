"""Overview: how many partitions of each stage are what, which of them need attention, and the newest and best, as tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from mimic_core.planner import Partition, Plan
from mimic_core.report_ages import REPORT
from mimic_core.report_text import number, share
from mimic_core.world import CONTRAST, DATASET, INFERENCE, RUN, SOURCE, STAGES, Node, State, World

MOST_ROWS = 25  # of a stage in a table; with the longest keys and reasons these are about 12 KB
MOST_LETTERS = 160  # of a reason
WORDS = {
    State.CURRENT: "up to date",
    State.OUT_OF_DATE: "out of date",
    State.FAILED: "failed",
    State.MISSING: "not built",
    State.WAITING: "waits",
    State.QUEUED: "building",
    State.RUNNING: "building",
}
COLUMNS = tuple(dict.fromkeys(WORDS.values()))
# of what is up to date only a table whose rows break the contract needs somebody, as builds of it fail
URGENT = (State.FAILED, State.CURRENT, State.OUT_OF_DATE, State.MISSING, State.WAITING)
SHOWN = (*STAGES, REPORT)

Row = tuple[str, ...]
Cell = Callable[[Node, Mapping[str, Any]], str]


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What there is, at a glance.

    Attributes:
        numbers: of partitions, by `<asset>/<state in words>`.
        stages: a table of the same numbers; texts, headings first, as in the others.
        attention: the partitions that are not up to date, or whose rows break the contract, the most urgent first; none
            that are being built, and no reports that were never made.
        newest: title -> a table of what was built last of an asset; of runs the best one of each experiment, those on pairs
            apart.
        behind: by asset, how many of these there are, of which `attention` has `MOST_ROWS`.
        built: by title, how many there are of which `newest` has `MOST_ROWS`.
    """

    numbers: Mapping[str, int]
    stages: Sequence[Row]
    attention: Sequence[Row]
    newest: Mapping[str, Sequence[Row]]
    behind: Mapping[str, int]
    built: Mapping[str, int]


def compose(plan: Plan, world: World) -> Overview:
    """Compose the overview.

    Args:
        plan: with the reports.
        world: that it was made from.
    """
    by_asset: dict[str, list[Partition]] = defaultdict(list)
    for partition in plan.partitions.values():
        by_asset[partition.node.asset].append(partition)
    counted = {asset: Counter(WORDS[partition.state] for partition in by_asset[asset]) for asset in SHOWN}
    attention: list[Partition] = []
    newest, behind, built = {}, {}, {}
    for asset in SHOWN:
        urgent = [each for each in by_asset[asset] if _is_missed(each) or _broken(each, world)]
        attention += sorted(urgent, key=_urgency)[:MOST_ROWS]
        behind[asset] = len(urgent)
        for title, rows in _newest(asset, world).items():
            newest[title] = [HEADINGS[asset], *rows[:MOST_ROWS]]
            built[title] = len(rows)
    return Overview(
        numbers={f"{asset}/{words}": counted[asset][words] for asset in SHOWN for words in _states_of(asset)},
        stages=_stages(counted),
        attention=[
            ("partition", "state", "what to do"),
            *(_attention(partition, world) for partition in sorted(attention, key=_urgency)),
        ],
        newest={title: rows for title, rows in newest.items() if len(rows) > 1},
        behind=behind,
        built=built,
    )


def page_of(asset: str, key: str) -> str:
    """Return where the page of a partition is in Dagster."""
    return f"/assets/{asset}?{urlencode({'view': 'partitions', 'partition': key})}"


def _states_of(asset: str) -> Sequence[str]:
    return ("up to date", "failed") if asset == SOURCE else COLUMNS


def _is_missed(partition: Partition) -> bool:
    """Tell whether somebody may miss a partition as it should be; a report is made only when somebody asks for it."""
    never_made = partition.node.asset == REPORT and partition.state in (State.MISSING, State.WAITING)
    return partition.state not in (State.CURRENT, State.QUEUED, State.RUNNING) and not never_made


def _urgency(partition: Partition) -> tuple[bool, int]:
    return partition.node.asset == REPORT, URGENT.index(partition.state)


def _stages(counted: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """Return the table of the stages, without the states in which nothing is: the page is narrow."""
    columns = [words for words in COLUMNS if words == COLUMNS[0] or any(each.get(words) for each in counted.values())]
    rows = (
        (f"[{asset}](/assets/{asset})", *(f"{each[words]:,}" if each.get(words) else "" for words in columns))
        for asset, each in counted.items()
    )
    return [("stage", *columns), *rows]


def _broken(partition: Partition, world: World) -> str:
    return world.broken.get(partition.node.key, "") if partition.node.asset == SOURCE else ""


def _attention(partition: Partition, world: World) -> Row:
    if broken := _broken(partition, world):
        return (_link(partition.node), _cut(broken), f"see `mimic tables check {partition.node.key}`")
    flight = world.in_flight.get(partition.node) or world.failed.get(partition.node)
    why = _cut("; ".join(partition.reasons))
    run = f" ([run](/runs/{flight.run_id}))" if flight and flight.run_id else ""
    state = WORDS[partition.state]
    return (_link(partition.node), f"{'' if why.startswith(state) else f'{state}: '}{why}{run}", _advice(partition, world))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 3]}..."


def _advice(partition: Partition, world: World) -> str:
    node, state = partition.node, partition.state
    if node.asset == SOURCE:
        return "import it again, or mend its files"
    if node.asset == REPORT:
        return "materialize it if you want it"
    if state == State.FAILED and not (node in world.failed and world.failed[node].canceled):
        return "mend that, then materialize it"
    if state in (State.FAILED, State.OUT_OF_DATE, State.MISSING):
        return "materialize it"
    return "first what it waits for"


def _newest(asset: str, world: World) -> dict[str, list[Row]]:
    """Return the rows of what was built last of an asset, by the title of their table."""
    if asset == SOURCE:
        tables = sorted(world.sources.items(), key=lambda item: -item[1].changed_at)
        return {
            f"newest {asset}": [
                (_link(Node(SOURCE, name)), f"{table.rows:,}", f"{len(table.columns):,}")
                for name, table in tables
                if not table.error
            ]
        }
    if asset not in CELLS:
        return {}
    built = [(node, facts) for node, facts in world.manifests.items() if node.asset == asset and "error" not in facts]
    built.sort(key=lambda item: item[1].get("built_at", ""), reverse=True)
    found = {f"newest {asset}": built}
    if asset == RUN:
        # the likelihood of a pair is no likelihood of a choice set, so the two never stand below each other
        whole, pairs = ([item for item in built if _is_on_pairs(item[1], world) is on_pairs] for on_pairs in (False, True))
        found = {f"best {asset}": list(_best(whole)), f"best {asset} on pairs": list(_best(pairs))}
    return {
        title: [tuple(cell(node, facts) for _, cell in CELLS[asset]) for node, facts in items]
        for title, items in found.items()
    }


def _is_on_pairs(facts: Mapping[str, Any], world: World) -> bool:
    """Tell whether a run was trained on contrasts, as its dataset is now."""
    dataset = world.manifests.get(Node(DATASET, facts.get("inputs", {}).get(DATASET, {}).get("key", "")), {})
    return CONTRAST in dataset.get("inputs", {})


def _best(built: Sequence[tuple[Node, Mapping[str, Any]]]) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """Yield the run of the lowest negative log-likelihood of each experiment, in the order of their newest runs."""
    experiments: dict[str, list[tuple[Node, Mapping[str, Any]]]] = defaultdict(list)
    for node, facts in built:
        experiments[node.key.rpartition("/")[0]].append((node, facts))
    for runs in experiments.values():
        yield min(runs, key=lambda item: _loss(item[1]))


def _loss(facts: Mapping[str, Any]) -> float:
    loss = facts.get("metrics", {}).get("test_nll")
    return float("inf") if loss is None else float(loss)


def _link(node: Node, text: str = "") -> str:
    return f"[{text or node.key}]({page_of(*node)})"


def _link_of_run(node: Node, _: Mapping[str, Any]) -> str:
    # without its space and with the digits that tables show, so that more runs are seen at once
    _space, experiment, run = node.key.split("/")
    return _link(node, f"{experiment}/{run[:8]}")


def _count(name: str) -> Cell:
    return lambda _, facts: f"{facts['counts'][name]:,}" if name in facts.get("counts", {}) else ""


def _metric(name: str, text: Callable[[float | None], str] = number) -> Cell:
    return lambda _, facts: text(facts.get("metrics", {}).get(name))


def _built_at(_: Node, facts: Mapping[str, Any]) -> str:
    # the page is narrow, and would break the line at a space or hyphen
    return str(facts.get("built_at", ""))[:16].replace("T", "\u00a0").replace("-", "\u2011")


PARTITION = ("partition", lambda node, _: _link(node))
BUILT = ("built (UTC)", _built_at)
CELLS: Mapping[str, Sequence[tuple[str, Cell]]] = {
    CONTRAST: [
        PARTITION,
        ("rows", _count("rows")),
        ("pairs", _count("decisions")),
        ("individuals", _count("individuals")),
        BUILT,
    ],
    DATASET: [
        PARTITION,
        ("rows", _count("rows")),
        ("training", _count("train_decisions")),
        ("test", _count("test_decisions")),
        BUILT,
    ],
    RUN: [
        ("run", _link_of_run),
        ("test NLL", _metric("test_nll")),
        ("rho-squared", _metric("test_rho_squared")),
        ("accuracy", _metric("test_accuracy", share)),
        ("calibration", _metric("test_calibration_error")),
        BUILT,
    ],
    INFERENCE: [
        PARTITION,
        ("rows", _count("rows")),
        ("decisions", _count("decisions")),
        ("test NLL", _metric("test_nll")),
        ("calibration", _metric("test_calibration_error")),
        ("drift", _metric("feature_drift")),
        BUILT,
    ],
}
HEADINGS: Mapping[str, Row] = {
    SOURCE: ("partition", "rows", "columns"),
    **{asset: tuple(heading for heading, _ in cells) for asset, cells in CELLS.items()},
}
