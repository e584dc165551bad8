"""Reports on experiments: one step makes a page, and its numbers, of the runs that are trained now."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from mimic_assets.builds import Build, begin, manifest
from mimic_assets.coefficients import coefficients_shown
from mimic_assets.experiments import individual_texts, trained_runs
from mimic_assets.failures import fails_clearly
from mimic_assets.partitions import experiments, lineage
from mimic_assets.pictures import markdown_table, picture
from mimic_assets.shown import data_version_tag, metadata
from mimic_core import report_page, reports
from mimic_core.errors import NotFoundError
from mimic_core.manifests import build_version
from mimic_core.plots import png
from mimic_core.report_text import best_two, conclusion, extreme_rows, leading_rows
from mimic_core.specs import ReportSpec, spec_digest
from resources.artefacts import ArtefactStore
from resources.compute import needs
from resources.specs import SpecStore, StoredSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, NUMBERS = "report.html", "report.json"


@dg.asset(
    partitions_def=experiments,
    deps=[lineage("model_run")],
    group_name="models",
    kinds={"html"},
    op_tags=needs(cpu="2", memory="4Gi", gpu=None),
)
@fails_clearly
def experiment_report(
    context: dg.AssetExecutionContext, specs: SpecStore, artefacts: ArtefactStore
) -> dg.MaterializeResult[Any]:
    """How the runs of an experiment compare: leaderboard, learning curves, calibration, and the two best side by side.

    - A partition is an experiment, `space/experiment`, such as `mimic-log-odds/test-experiment`.
    - It is made of the runs that are trained by then, when somebody asks: *Materialize*, or `mimic report EXPERIMENT`.
      Nothing rebuilds it; its check `up_to_date` says which runs were trained since.
    - The page is one HTML file that opens without anything else; `page` says where it is.
    """
    spec = ReportSpec.of(context.partition_key)
    stored = StoredSpec(spec=spec, layers="", digest=spec_digest(spec.document))
    build = begin(stored, artefacts, context.run.run_id)
    trained, not_trained = trained_runs(spec, specs, artefacts)
    report = reports.compose(spec.key, trained, not_trained, partial(individual_texts, artefacts))
    figures = report_page.draw_report(report)
    made_at = f"{datetime.fromtimestamp(build.began_at, UTC):%d %B %Y, %H:%M} UTC"
    page = report_page.render_page(report, figures, build.version, made_at)
    document = _publish(context, build, report, trained, page, artefacts)
    folder = artefacts.where(f"{spec.folder}/{document['version']}")
    shown = _shown(report, figures) | {"page": dg.MetadataValue.path(f"{folder}/{PAGE}")}
    return dg.MaterializeResult(metadata=shown | metadata(document, folder, {}), tags=data_version_tag(document))


def _shown(report: reports.Report, figures: Mapping[str, "Figure"]) -> dict[str, Any]:
    """Return what people look at: the tables and pictures of the page, and the coefficients of the best linear run."""
    document = report.document
    shown: dict[str, Any] = {
        "conclusion": conclusion(document),
        "leaderboard": dg.MetadataValue.md(markdown_table(leading_rows(document))),
    }
    shown |= {name: picture(name, png(figure)) for name, figure in figures.items()}
    if found := document["best_two"]:
        sides = zip(report.labels, (found["first_most"], found["second_most"]), strict=False)
        most = [f"{label} explains better by most:\n\n{markdown_table(extreme_rows(side))}" for label, side in sides]
        shown["best_two"] = dg.MetadataValue.md("\n\n".join([best_two(document), *most]))
    for run in [run for run in report.runs if run.coefficients is not None][:1]:
        shown |= coefficients_shown(dict(run.coefficients or {}))
    return shown


def read_report(spec: ReportSpec, name: str, artefacts: ArtefactStore) -> bytes:
    """Read a file of the published report on an experiment, verified against its manifest.

    Raises:
        NotFoundError: there is no report.
        CorruptFileError: the file is damaged.
    """
    found = artefacts.manifest(spec.folder)
    if found is None:
        raise NotFoundError(f"there is no report on experiment {spec.key}; make one by `mimic report {spec.key}`")
    (entry,) = [file for file in found["files"] if file["path"] == name]
    return artefacts.read(f"{spec.folder}/{found['version']}/{name}", entry)


def _publish(
    context: dg.AssetExecutionContext,
    build: Build[ReportSpec],
    report: reports.Report,
    trained: list[reports.ReportedRun],
    page: str,
    artefacts: ArtefactStore,
) -> dict[str, Any]:
    numbers = json.dumps(report.document, indent=1, ensure_ascii=False, allow_nan=False)
    contents = {PAGE: page.encode(), NUMBERS: f"{numbers}\n".encode()}
    inputs = {"model_run": [{"key": run.spec.key, "fingerprint": run.manifest["fingerprint"]} for run in trained]}
    # two people may ask at once, and get the same report
    fingerprint = build_version(build.stored.digest, inputs, reports.CODE_VERSION)
    with artefacts.publishing(build.stored.spec.folder, build.version, build.replaces, fingerprint) as publication:
        if publication.done:
            return publication.done
        document = manifest(
            build,
            context.run.run_id,
            reports.CODE_VERSION,
            inputs,
            counts={
                "ranked_runs": len(report.runs),
                "other_runs": len(report.document["apart"]),
                "not_trained_runs": len(report.document["not_trained"]),
            },
            files=[{"path": name, **artefacts.write(f"{build.folder}/{name}", [data])} for name, data in contents.items()],
        )
        publication.publish(document)
    return document
