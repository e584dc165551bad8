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


def test_the_best_runs_of_several_experiments_are_seen_at_once_with_fewer_columns_and_all_of_them_on_demand():
    def best(number: int) -> tuple[list[str], list[str]]:
        """The lines that are seen at once, and those behind a link, where there are so many experiments."""
        metrics = {"test_nll": 0.8123, "test_rho_squared": 0.1234, "test_accuracy": 0.65, "test_calibration_error": 0.01}
        manifests = {
            Node("model_run", f"swissmetro/swissmetro-networks-{run}/{run:012x}"): {
                "metrics": metrics,
                "built_at": "2026-01-02T10:00:00",
            }
            for run in range(number)
        }
        found = overview_shown(compose(Plan(partitions={}), World(sources={}, registered={}, manifests=manifests)))
        tables = [found.get(name) for name in ("best model_run", "all best model_run")]
        return tuple(table.value.splitlines() if table else [] for table in tables)

    at_once, everything = best(3)
    assert (len(at_once), at_once[0]) == (2 + 3, "| run | test NLL | rho-squared | accuracy | calibration |")
    assert (len(everything), everything[0].count("|")) == (2 + 3, 7)
    assert sum(map(len, everything)) > 900  # Dagster's page shows at once what is shorter than 1,000 characters
    at_once, everything = best(5)
    assert (len(at_once), at_once[0]) == (2 + 5, "| run | test NLL | rho-squared | accuracy |")
    assert (len(everything), everything[0].count("|")) == (2 + 5, 7)
    at_once, everything = best(30)
    assert at_once[-1] == f"and {30 - (len(at_once) - 4)} more; the pages of the assets have all of them"
    assert everything[-1].startswith("and 5 more")
