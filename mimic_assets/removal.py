"""Removal: takes source tables that nothing registered reads out of the catalog and off Dagster's pages."""

import dagster as dg

from mimic_assets.partitions import source_tables
from mimic_core.errors import SpecError
from mimic_core.wording import listed
from resources.inventory import Inventory, gather_registered
from resources.profiles import forget_profile
from resources.tables import CONTRAST, INFERENCE, RESULTS

MOST_NAMED = 3
INSTEAD = {
    CONTRAST: "a contrast set that came from the spec folder is retired by deleting its file there",
    RESULTS: "`mimic runs retire RUN` takes the rows of a run out of it",
    INFERENCE: "an inference that came from the spec folder is retired, and its rows are, by deleting its file there",
}


def require_removable(inventory: Inventory, name: str) -> None:
    """Check that a table was imported or registered, and that nothing reads it; one that is not there passes.

    Raises:
        SpecError: it is a table that mimic writes, or registered specs read it.
    """
    if (kind := inventory.tables.kind(name)) in INSTEAD:
        raise SpecError(f"table {name} holds {kind} rows, which mimic writes, and was not removed; {INSTEAD[kind]}")
    wanted = gather_registered(inventory.specs, inventory.index)
    if readers := sorted(str(node) for node, said in wanted.items() if said.table == name):
        raise SpecError(
            f"table {name} is read by {listed(readers, MOST_NAMED)}, and was not removed; register these again with "
            "another table in their configs, or delete the files of those that came from the spec folder, which retires them"
        )


def remove_table(instance: dg.DagsterInstance, inventory: Inventory, name: str) -> None:
    """Remove a source table, and forget what was found in it.

    Out of the catalog first: what a kill leaves of the rest, the sensor of source tables removes.

    Raises:
        NotFoundError: there is no table of this name.
        SpecError: it is a table that mimic writes, or registered specs read it.
    """
    require_removable(inventory, name)
    inventory.tables.remove(name)
    instance.delete_dynamic_partition(str(source_tables.name), name)
    forget_profile(inventory.artefacts, name)
