"""Profiles: what was found in the rows of each source table, stored once for each content, and how it is found."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pyarrow as pa

from mimic_core import contract, outcomes, profiles
from mimic_core.errors import CorruptFileError, TableError
from mimic_core.manifests import seal, unseal
from mimic_core.shards import plan_parts
from mimic_core.sources import FLAGS, SPLITS, columns_to_read, numeric_columns, why_unusable
from mimic_core.world import TableState
from resources.artefacts import ArtefactStore
from resources.tables import OnRows, Pin, TableStore

FOLDER = "source-profiles"


def state_of(pin: Pin, tables: TableStore) -> TableState:
    """Say what a pinned table holds, as the inventory does."""
    ids = tables.field_ids(pin)
    columns = {field.name: {"id": ids.get(field.name), "type": str(field.type)} for field in tables.schema_of(pin)}
    return TableState(token=pin.token, rows=pin.rows, columns=columns, changed_at=tables.changed_at(pin))


def has_profile(artefacts: ArtefactStore, name: str, version: str) -> bool:
    """Tell whether a version of a table was profiled."""
    return artefacts.status(profile_path(name, version)) is not None


def read_profile(artefacts: ArtefactStore, name: str, version: str) -> dict[str, Any] | None:
    """Return what was found in a version of a table; None where nothing is stored, or it is damaged."""
    path = profile_path(name, version)
    if artefacts.status(path) is None:
        return None
    try:
        return unseal(artefacts.read(path), path)
    except CorruptFileError:
        return None  # it is found once more


def write_profile(artefacts: ArtefactStore, name: str, version: str, document: dict[str, Any]) -> None:
    """Store what was found in a version of a table, in place of what was found in earlier ones.

    Raises:
        StorageError: it cannot be written.
    """
    artefacts.write(profile_path(name, version), [seal({"table": name, "version": version, **document})])
    for other in artefacts.names(f"{FOLDER}/{name}"):
        if other != f"{version}.json":
            artefacts.remove(f"{FOLDER}/{name}/{other}")


def forget_profiles(artefacts: ArtefactStore, kept: Collection[str]) -> None:
    """Remove the profiles of tables that are gone; those of `kept` stay."""
    for name in artefacts.storage.folders(FOLDER):
        if name not in kept:
            forget_profile(artefacts, name)


def forget_profile(artefacts: ArtefactStore, name: str) -> None:
    """Remove the profile of a table."""
    artefacts.discard(f"{FOLDER}/{name}")


def profile_table(pin: Pin, tables: TableStore, on_spill: Callable[[float], None], on_rows: OnRows) -> dict[str, Any]:
    """Read a table once and return what is in it, or the `problem` for which it can be no decision table.

    Args:
        on_spill, on_rows: told how the reading goes on, as by `TableStore.blocks`.

    Raises:
        ConflictError: its files were changed meanwhile.
        NotFoundError: they, or this version, are gone.
        StorageError: temporary files could not be written.
    """
    schema = tables.schema_of(pin)
    labelled = all(name in schema.names for name in FLAGS)
    if why := why_unusable(schema):
        return {"token": pin.token, "problem": f"table {pin.name} is {why}"}
    try:
        found, outcome = _read(pin, schema, contract.Rules(labelled=labelled), tables, on_spill, on_rows)
    except TableError as error:
        return {"token": pin.token, "problem": str(error)}
    if found is None:
        return {"token": pin.token, "problem": f"table {pin.name} holds no rows; expected a decision table"}
    return {
        "token": pin.token,
        "problem": "",
        "labelled": labelled,
        "contract": outcomes.document(outcome),
        "profile": profiles.document(found),
        "others": [name for name in schema.names if not name.startswith("_") and name not in numeric_columns(schema)],
    }


def profile_path(name: str, version: str) -> str:
    """Return where the profile of a version of a table is, in the object storage."""
    return f"{FOLDER}/{name}/{version}.json"


def _read(
    pin: Pin,
    schema: pa.Schema,
    rules: contract.Rules,
    tables: TableStore,
    on_spill: Callable[[float], None],
    on_rows: OnRows,
) -> tuple[profiles.Profile | None, outcomes.Outcome]:
    features = numeric_columns(schema)
    found: list[outcomes.Outcome] = []

    def parts() -> Iterator[profiles.Profile]:
        (whole,) = plan_parts(dict.fromkeys(SPLITS, 1), tables.row_groups(pin))
        for table in tables.blocks(pin, columns_to_read(schema, features), whole, on_spill, on_rows):
            block = contract.check_block(table, rules)
            found.append(block.outcome)
            yield profiles.profile_block(block, features)

    return profiles.add_profiles(parts()), outcomes.add_up(found)
