"""Report page: a report on an experiment as one HTML file that needs nothing else, neither scripts nor a network."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mimic_core import plots, report_plots, report_text
from mimic_core.coefficient_text import estimated, rows_of_text, statistics_of_text
from mimic_core.reports import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_RELIABILITY = 3  # runs whose calibration is drawn
MOST_TABLES = 12  # linear runs whose coefficients are shown


def draw_report(report: Report) -> dict[str, "Figure"]:
    """Draw the pictures of a report, by name; those that there is nothing to draw for are left out."""
    drawn = report.runs[: report_plots.MOST_PANELS]
    standings = report.board.standings
    figures = {
        "forest": report_plots.forest(
            report.labels, [each.nll for each in standings], [each.difference for each in standings]
        ),
        "learning_curves": report_plots.learning_curves(report.labels[: len(drawn)], [run.history for run in drawn]),
    }
    split = report.document["split"]
    bins = [run.manifest.get("calibration", {}).get(split) for run in report.runs]
    known = [(label, found) for label, found in zip(report.labels, bins, strict=True) if found][:MOST_RELIABILITY]
    if known:
        figures["reliability"] = report_plots.reliability(*zip(*known, strict=True))
    if report.best_two is not None:
        first, second = report.labels[:2]
        figures["individual_differences"] = report_plots.individual_differences(first, second, report.best_two.differences)
    return figures


def render_page(report: Report, figures: Mapping[str, "Figure"], version: str, made_at: str) -> str:
    """Render a report as HTML.

    Args:
        figures: as `draw_report` returns them.
        version: of the report.
        made_at: when it was made, for people.
    """
    from jinja2 import Environment, StrictUndefined

    document = report.document
    linear = [
        (label, run.spec.run_id, run.coefficients)
        for label, run in zip(report.labels, report.runs, strict=True)
        if run.coefficients is not None
    ]
    notes = _notes(document)
    best_two = document["best_two"]
    sections = {
        "compared": "What was compared",
        "leaderboard": "Leaderboard",
        "learning": "Learning curves",
        "calibration": "Calibration" if "reliability" in figures else "",
        "best-two": "The two best runs" if best_two else "",
        "coefficients": "Coefficients" if linear else "",
        "notes": "Notes" if notes else "",
        "others": "Other runs" if document["apart"] or document["not_trained"] else "",
    }
    template = files("mimic_core").joinpath("report.html").read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
        .from_string(template)
        .render(
            document=document,
            version=version,
            made_at=made_at,
            sections=[(name, title) for name, title in sections.items() if title],
            pictures={"reliability": None} | {name: _data_url(figure) for name, figure in figures.items()},
            conclusion=report_text.conclusion(document),
            leaderboard=report_text.leaderboard_rows(document),
            training=report_text.training_rows(document),
            over_seeds=report_text.seeds_rows(document),
            labels=report.labels,
            lines=min(len(report.runs), report_plots.MOST_LINES),
            drawn=min(len(report.runs), report_plots.MOST_PANELS),
            best_two=report_text.best_two(document),
            first_most=report_text.extreme_rows(best_two["first_most"]) if best_two else (),
            second_most=report_text.extreme_rows(best_two["second_most"]) if best_two else (),
            linear=[_coefficients(*run) for run in linear[:MOST_TABLES]],
            more_linear=max(0, len(linear) - MOST_TABLES),
            notes=notes,
        )
    )


def _coefficients(label: str, run_id: str, table: Mapping[str, Any]) -> dict[str, Any]:
    rows = estimated(table)
    shown = [row for row in table["coefficients"] if row["name"] not in table["not_identified"]]
    return {
        "label": label,
        "run_id": run_id,
        "picture": _data_url(plots.coefficient_figure(rows)) if rows else "",
        "rows": rows_of_text({**table, "coefficients": shown}),
        "not_identified": table["not_identified"],
        "statistics": statistics_of_text(table),
        "withheld": table["withheld"],
    }


def _notes(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each note once, with the runs that have it."""
    runs: Sequence[Mapping[str, Any]] = [*document["leaderboard"], *document["apart"]]
    found: dict[str, list[str]] = {}
    for run in runs:
        for note in run["notes"]:
            found.setdefault(note, []).append(f"{run['label']} {run['run_id'][:8]}")
    return [(note, "all runs" if len(of) == len(runs) > 1 else ", ".join(of)) for note, of in found.items()]


def _data_url(figure: "Figure") -> str:
    return f"data:image/svg+xml;base64,{b64encode(report_plots.svg(figure).encode()).decode()}"
