"""Files of trained runs: finds a run that a person names, and reads what it stored beside its model."""

import json
from typing import Any

from mimic_assets.retirement import run_key
from mimic_core.errors import NotFoundError
from mimic_core.specs import RunSpec
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore
from resources.trainings import HISTORY

COEFFICIENTS, INDIVIDUALS = "coefficients.json", "individuals.parquet"


def find_run(name: str, specs: SpecStore) -> RunSpec:
    """Return a registered run by its key, or by at least 8 digits that begin its id.

    Raises:
        SpecError: there is no such run, or there are several.
    """
    return specs.get(RunSpec, run_key(name, specs.registered(RunSpec.asset))).spec


def trained_manifest(run: RunSpec, artefacts: ArtefactStore) -> dict[str, Any]:
    """Return the manifest of a run.

    Raises:
        NotFoundError: it is not trained.
    """
    found = artefacts.manifest(run.folder)
    if found is None:
        raise NotFoundError(
            f"run {run.key} is not trained; run `mimic log-odds run-experiment CONFIG` for it first "
            "(`mimic status` lists the runs)"
        )
    return found


def read_run_file(run: RunSpec, manifest: dict[str, Any], name: str, artefacts: ArtefactStore) -> bytes | None:
    """Read a file of a run, verified against its manifest; None where the run stored none of this name.

    Raises:
        CorruptFileError: it is damaged.
    """
    entry = next((file for file in manifest["files"] if file["path"] == name), None)
    return None if entry is None else artefacts.read(f"{run.folder}/{manifest['version']}/{name}", entry)


def read_history(run: RunSpec, manifest: dict[str, Any], artefacts: ArtefactStore) -> list[dict[str, Any]]:
    """Read the epochs of a published run, a dict of `mimic_core.history.Epoch` each.

    Raises:
        CorruptFileError: they are damaged.
    """
    data = read_run_file(run, manifest, HISTORY, artefacts) or b""
    return [json.loads(line) for line in data.splitlines()]
