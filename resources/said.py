"""Said: the answers about partitions that a sensor reported, kept beside its cursor, which Dagster stores at every tick."""

from collections.abc import Mapping

from mimic_core.errors import CorruptFileError
from mimic_core.manifests import seal, unseal
from resources.artefacts import ArtefactStore

NAME = "up-to-date.json"


def read_said(artefacts: ArtefactStore, cursor: str | None) -> dict[str, str]:
    """Return short name -> digest of what was said; what the tick before may not have reported is left out.

    Args:
        cursor: of the sensor, as `write_said` returned it; None forgets everything.
    """
    try:
        document = unseal(artefacts.read(NAME), NAME) if cursor and artefacts.path(NAME).is_file() else {}
    except CorruptFileError:
        return {}  # everything is said once more
    if not document:
        return {}
    said: dict[str, str] = document["said"]
    new: dict[str, str] = document["new"]
    # Dagster keeps a cursor after it has stored what the tick reported
    return said | new if document["cursor"] == cursor else {name: said[name] for name in said if name not in new}


def write_said(artefacts: ArtefactStore, cursor: str | None, said: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Keep what was said before, and what is said now; returns the cursor of this tick."""
    following = str(int(cursor or 0) + 1)
    artefacts.write(NAME, [seal({"cursor": following, "said": dict(said), "new": dict(new)})])
    return following
