"""The overview as Dagster shows it: what is seen at once."""

from mimic_assets.overview import AT_ONCE, overview_shown
from mimic_core.overview import Overview, compose
from mimic_core.planner import Partition, Plan
from mimic_core.world import Node, State, World


def shown(number: int) -> dict:
    """What is shown where so many runs are out of date."""
    nodes = [Node("model_run", f"space/experiment/{run:012x}") for run in range(number)]
    partitions = {node: Partition(node=node, state=State.OUT_OF_DATE, reasons=("its dataset changed",)) for node in nodes}
    manifests = {node: {"built_at": f"2026-01-01T{place:05}"} for place, node in enumerate(nodes)}
    found: Overview = compose(Plan(partitions=partitions), World(sources={}, registered={}, manifests=manifests))
    return {name: getattr(value, "value", value) for name, value in overview_shown(found).items()}


def test_nothing_is_shown_of_what_there_is_not():
    assert [name for name, value in shown(0).items() if isinstance(value, str)] == ["stages"]


def test_tables_are_cut_to_what_the_page_shows_at_once_and_the_rest_is_counted():
    found = shown(300)
    assert found["model_run/out of date"] == 300
    at_once = found["attention"].split("\n\n")
    assert len("\n\n".join(at_once[:-1])) < AT_ONCE
    rows = len(at_once) - 1  # without what is said of the others
    assert at_once[-1] == f"and {300 - rows} more; the pages of the assets have all of them"
    assert found["all attention"].count("/assets/model_run?") == 25
    assert found["all attention"].endswith("and 275 more; the pages of the assets have all of them")
    assert found["best model_run"].count("/assets/model_run?") == 1  # of one experiment


def test_one_partition_is_shown_once():
    assert "all attention" not in shown(1)
