"""Experiments: finds one that a person names, and reads what its trained runs stored, for a report on it."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mimic_assets.coefficients import read_table
from mimic_assets.run_files import INDIVIDUALS, read_history, read_run_file
from mimic_core.errors import NotFoundError, SpecError, did_you_mean
from mimic_core.reports import ReportedRun
from mimic_core.sources import INDIVIDUAL
from mimic_core.specs import ReportSpec, RunSpec
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore, StoredSpec


def find_experiment(name: str, specs: SpecStore) -> ReportSpec:
    """Return the report of the experiment that a name means, `space/experiment` or the experiment's name alone.

    Raises:
        SpecError: no run of such an experiment is registered, or there are several experiments of this name.
    """
    known = list(dict.fromkeys(key.rpartition("/")[0] for key in specs.registered(RunSpec.asset)))
    found = [key for key in known if name in (key, key.rpartition("/")[2])]
    if len(found) > 1:
        raise SpecError(f"{name!r} is the name of several experiments; give one of {', '.join(found)}")
    if not found:
        near = did_you_mean(name, [*known, *(key.rpartition("/")[2] for key in known)])
        raise SpecError(
            f"no run of an experiment {name!r} is registered{near}; expected SPACE/EXPERIMENT or the experiment's name "
            "(`mimic status` lists the runs)"
        )
    return ReportSpec.of(found[0])


def trained_runs(
    report: ReportSpec, specs: SpecStore, artefacts: ArtefactStore
) -> tuple[list[ReportedRun], list[tuple[RunSpec, str]]]:
    """Return what is stored of the trained runs of an experiment, and its other runs, each with its layers file.

    Raises:
        NotFoundError: none is trained.
        CorruptFileError: a file of a run is damaged.
    """
    trained, others = [], []
    for stored, manifest in _published(report, specs, artefacts):
        if manifest is None:
            others.append((stored.spec, stored.layers))
        else:
            trained.append(_read(stored, manifest, artefacts))
    if not trained:
        raise _nothing_trained(report)
    return trained, others


def require_trained(report: ReportSpec, specs: SpecStore, artefacts: ArtefactStore) -> None:
    """Check that some run of an experiment is trained.

    Raises:
        NotFoundError: none is.
    """
    if all(manifest is None for _, manifest in _published(report, specs, artefacts)):
        raise _nothing_trained(report)


def individual_texts(artefacts: ArtefactStore, run: RunSpec, individuals: Sequence[int]) -> dict[int, str]:
    """Return the ids of individuals that are text in the source of a run's dataset, by what the dataset has in their place.

    The present version of the dataset is looked at: a text always has the same number.
    """
    folder = run.dataset_folder
    manifest = artefacts.manifest(folder) or {}
    wanted = (pc.field("column") == INDIVIDUAL) & pc.field("surrogate").isin(list(individuals))
    found: dict[int, str] = {}
    for entry in manifest.get("id_tables", ()):
        data = artefacts.read(f"{folder}/{manifest['version']}/{entry['path']}", entry)
        part = pq.read_table(pa.BufferReader(data), filters=wanted)
        found |= dict(zip(part["surrogate"].to_pylist(), part["id"].to_pylist(), strict=True))
    return found


def _published(
    report: ReportSpec, specs: SpecStore, artefacts: ArtefactStore
) -> list[tuple[StoredSpec[RunSpec], dict[str, Any] | None]]:
    keys = [key for key in specs.registered(RunSpec.asset) if key.rpartition("/")[0] == report.key]
    stored = [specs.get(RunSpec, key) for key in keys]
    return [(each, artefacts.manifest(each.spec.folder)) for each in stored]


def _read(stored: StoredSpec[RunSpec], manifest: dict[str, Any], artefacts: ArtefactStore) -> ReportedRun:
    run = stored.spec
    individuals = read_run_file(run, manifest, INDIVIDUALS, artefacts)
    return ReportedRun(
        spec=run,
        layers=stored.layers,
        manifest=manifest,
        history=read_history(run, manifest, artefacts),
        individuals=None if individuals is None else pq.read_table(pa.BufferReader(individuals)),
        coefficients=read_table(run, manifest, artefacts),
        changed=manifest["spec_digest"] != stored.digest,
    )


def _nothing_trained(report: ReportSpec) -> NotFoundError:
    return NotFoundError(
        f"no run of experiment {report.key} is trained; run `mimic log-odds run-experiment CONFIG` for it first "
        "(`mimic status` lists the runs)"
    )
