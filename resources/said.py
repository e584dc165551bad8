"""Said: the answers about partitions that Dagster has stored, so that only those are given that changed."""

from collections.abc import Mapping

from mimic_core.errors import CorruptFileError
from mimic_core.manifests import seal, unseal
from resources.artefacts import ArtefactStore

NAME = "up-to-date.json"


def read_said(artefacts: ArtefactStore) -> tuple[str, dict[str, str]]:
    """Return the id of the run that answered last, and short name of a partition -> digest of its answer."""
    if artefacts.status(NAME) is None:
        return "", {}
    try:
        document = unseal(artefacts.read(NAME), NAME)
    except CorruptFileError:
        return "", {}  # everything is said once more
    return document["run"], document["said"]


def write_said(artefacts: ArtefactStore, run_id: str, said: Mapping[str, str]) -> None:
    """Keep what was said, the last of it by a run."""
    artefacts.write(NAME, [seal({"run": run_id, "said": dict(said)})])


def forget(artefacts: ArtefactStore, name: str) -> None:
    """Have the answer about a partition given again, because somebody else gave another one."""
    run_id, said = read_said(artefacts)
    if name in said:
        write_said(artefacts, run_id, {other: digest for other, digest in said.items() if other != name})
