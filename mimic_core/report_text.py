"""Report text: the tables and sentences of a report on an experiment, cell by cell, for a page, a terminal and Dagster."""

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

INTERVAL = "95% interval"
HEADINGS = ("model", "run", "NLL", INTERVAL, "to the best", INTERVAL, "D-NLP", "accuracy")
FEW = 30  # individuals, of whom resamples are too much alike
MORE_HEADINGS = ("rho-squared", "calibration error")


def leaderboard_rows(document: Document, *, short: bool = False) -> list[tuple[str, ...]]:
    """Return the leaderboard as texts, headings first.

    Args:
        document: of a `mimic_core.reports.Report`.
        short: only what fits a terminal.
    """
    found = [(*HEADINGS, *(() if short else MORE_HEADINGS))]
    for row in document["leaderboard"]:
        difference = row["difference"]
        cells = [row["label"], row["run_id"][:8], number(row["nll"]["value"]), interval(row["nll"])]
        cells += [number(difference["value"], sign=True), interval(difference, sign=True)] if difference else ["", ""]
        cells += [number(row["d_nlp"]["value"]), share(row["accuracy"])]
        if not short:
            cells += [number(row["rho_squared"]), number(row["calibration_error"])]
        found.append(tuple(cells))
    return found


def leading_rows(document: Document) -> list[tuple[str, ...]]:
    """Return of the leaderboard what fits a page of Dagster, each cell in one line; the intervals are of differences."""
    shown = [HEADINGS.index(name) for name in ("model", "run", "NLL", "to the best")]
    shown += [shown[-1] + 1, HEADINGS.index("accuracy")]
    rows = [tuple(row[place] for place in shown) for row in leaderboard_rows(document, short=True)]
    return [(row[0], *(cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in row[1:])) for row in rows]


def training_rows(document: Document) -> list[tuple[str, ...]]:
    """Return how the runs were trained, and in what they differ, as texts, headings first."""
    rows = document["leaderboard"]
    found = [("model", "run", "exported epoch", "seconds", *rows[0]["settings"])]
    for row in rows:
        epochs = f"{row['exported_epoch']:,} of {row['epochs']:,}"
        found.append((row["model"], row["run_id"][:8], epochs, f"{row['seconds']:,.1f}", *row["settings"].values()))
    return found


def seeds_rows(document: Document) -> list[tuple[str, ...]]:
    """Return the means over seeds as texts, headings first; the headings alone where no runs differ by seed only."""
    found: list[tuple[str, ...]] = [("model", "runs", "NLL", "D-NLP", "accuracy")]
    for row in document["over_seeds"]:
        spread = [f"{number(row[f'{name}_mean'])} ± {number(row[f'{name}_sd'])}" for name in ("nll", "d_nlp")]
        accuracy = f"{share(row['accuracy_mean'])} ± {share(row['accuracy_sd'])}"
        found.append((row["label"], str(len(row["run_ids"])), *spread, accuracy))
    return found


def extreme_rows(extremes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return individuals that one run explains much better as texts, headings first."""
    rows = ((str(one["individual"]), f"{one['decisions']:,}", number(one["difference"], sign=True)) for one in extremes)
    return [("individual", "decisions", "difference"), *rows]


def conclusion(document: Document) -> str:
    """Say which run is best and how clearly, and where there are too few individuals to say so."""
    few = f" Intervals from {document['individuals']} individuals say little." if 1 < document["individuals"] < FEW else ""
    return f"{_verdict(document)}{few}"


def _verdict(document: Document) -> str:
    best, *others = document["leaderboard"]
    split, nll = document["split"], best["nll"]
    said = f"{best['label']} ({best['run_id'][:8]}) has the lowest {split} NLL, {number(nll['value'])} nats per decision"
    said += f" (95% interval {interval(nll)})" if nll["low"] is not None else ""
    if not others:
        return f"{said}; there is no other run to compare it with."
    clear = sum((row["difference"]["low"] or 0) > 0 for row in others)
    if len(others) == 1:
        verb = "excludes 0" if clear else "includes 0, so these decisions do not tell which is better"
        return f"{said}. The interval of its difference to the other run {verb}."
    return f"{said}. The interval of the difference to it excludes 0 for {clear} of the {len(others)} other runs."


def best_two(document: Document) -> str:
    """Say which share of the individuals the best run explains better than the second; empty where there is one run."""
    found = document["best_two"]
    if found is None:
        return ""
    first, second = (row["label"] for row in document["leaderboard"][:2])
    of = found["first_better"] + found["second_better"] + found["equal"]
    said = f"{first} explains {found['first_better']:,} of {of:,} individuals better, and {second} "
    said += f"{found['second_better']:,} of them"
    said += f", both explain {found['equal']:,} equally" if found["equal"] else ""
    whole = found["share"]
    if whole["low"] is None:
        return f"{said}."
    half = " (ties count half)" if found["equal"] else ""
    return f"{said}: a share of {share(whole['value'])}{half}, 95% interval {share(whole['low'])} to {share(whole['high'])}."


def number(value: float | None, *, sign: bool = False) -> str:
    """Return a number with four decimals; empty for None."""
    return "" if value is None else f"{value:+.4f}" if sign else f"{value:.4f}"


def share(value: float | None) -> str:
    """Return a share as per cent; empty for None."""
    return "" if value is None else f"{value:.1%}"


def interval(found: Mapping[str, Any], *, sign: bool = False) -> str:
    """Return the ends of an interval; empty where it has none."""
    if found["low"] is None:
        return ""
    return f"{number(found['low'], sign=sign)} to {number(found['high'], sign=sign)}"
