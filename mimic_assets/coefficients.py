"""Coefficients of trained runs: how Dagster shows their table; reads what a linear run stored, and makes ratios of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from mimic_assets.pictures import markdown_table, picture
from mimic_assets.run_files import COEFFICIENTS, find_run, read_run_file, trained_manifest
from mimic_core import plots
from mimic_core.coefficient_text import estimated, rows_of_text, statistics_of_text
from mimic_core.coefficients import ratio
from mimic_core.errors import NotFoundError, SpecError
from mimic_core.manifests import unseal
from mimic_core.specs import RunSpec
from resources.artefacts import ArtefactStore
from resources.specs import SpecStore


def coefficients_shown(table: dict[str, Any]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the metadata for a table: its rows, what is said of the whole, and what is withheld and why."""
    said = [markdown_table(rows_of_text(table)), statistics_of_text(table), *table["withheld"]]
    rows = estimated(table)
    pictures = {"coefficient_plot": picture("coefficients", plots.coefficients(rows))} if rows else {}
    return {"coefficients": dg.MetadataValue.md("\n\n".join(said))} | pictures


@dataclass(frozen=True, kw_only=True)
class RunCoefficients:
    """The table of a run, as `mimic_core.coefficients.coefficient_table` returns it, and ratios of its coefficients."""

    run: str
    table: dict[str, Any]
    ratios: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"run": self.run, **self.table, "ratios": self.ratios}


def read_table(run: RunSpec, manifest: dict[str, Any], artefacts: ArtefactStore) -> dict[str, Any] | None:
    """Read the table of a run; None where it stored none, as a network does not.

    Raises:
        CorruptFileError: it is damaged.
    """
    data = read_run_file(run, manifest, COEFFICIENTS, artefacts)
    if data is None:
        return None
    table = unseal(data, f"{run.folder}/{COEFFICIENTS}")
    return {name: value for name, value in table.items() if name != "format_version"}


def run_coefficients(
    name: str, ratios: Sequence[tuple[str, str]], specs: SpecStore, artefacts: ArtefactStore
) -> RunCoefficients:
    """Return the table of a trained linear run.

    Args:
        name: its key, or at least 8 digits that begin its id.
        ratios: names of coefficients, numerator and denominator.

    Raises:
        NotFoundError: the run is not trained, or has no table.
        SpecError: there is no such run, the run is a network, or a ratio cannot be made.
        CorruptFileError: the table is damaged.
    """
    run = find_run(name, specs)
    manifest = trained_manifest(run, artefacts)
    if not run.model.linear:
        raise SpecError(
            f"run {run.key} is a network, which has no coefficients; effects of its features are computed by "
            'run-batch-infer with "explain"'
        )
    table = read_table(run, manifest, artefacts)
    if table is None:
        raise NotFoundError(
            f"run {run.key} was trained before runs stored their coefficients; train it again by "
            "`mimic log-odds run-experiment CONFIG`"
        )
    made = [asdict(ratio(table, numerator, denominator)) for numerator, denominator in ratios]
    return RunCoefficients(run=run.key, table=table, ratios=made)
