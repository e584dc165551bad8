"""Readiness: what a build needs is looked for when somebody asks for it, not minutes later in its run."""

from collections.abc import Iterable, Mapping
from typing import Any

from mimic_assets import contrasts, datasets, inferences
from mimic_assets.experiments import require_trained
from mimic_assets.runs import dataset_manifest
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, PartitionSpec, ReportSpec, RunSpec
from resources.tables import RESULTS


def require_ready(specs: Iterable[PartitionSpec], resources: Mapping[str, Any]) -> None:
    """Check that what specs read is there and fits them, and that they may write where they want to.

    Args:
        resources: those of the environment; `tables`, `artefacts` and `specs` are used.

    Raises:
        MimicError: of the kind that a build would fail with.
    """
    tables, artefacts = resources["tables"], resources["artefacts"]
    known: set[str] = set()
    for spec in specs:
        match spec:
            case ContrastSpec():
                contrasts.pin_source(spec, tables)
            case DatasetSpec():
                datasets.pin_source(spec, tables, artefacts)
            case RunSpec():
                needs = repr((spec.dataset_folder, spec.features, spec.columns, spec.max_choices, spec.results))
                if needs not in known:  # the runs of an experiment need the same
                    dataset_manifest(spec, artefacts)
                    tables.require_kind(spec.results, RESULTS)
                    known.add(needs)
            case InferenceSpec():
                inferences.pin_source(spec, inferences.run_manifest(spec, artefacts), tables)
            case ReportSpec():
                require_trained(spec, resources["specs"], artefacts)
