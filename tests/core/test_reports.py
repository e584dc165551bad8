"""Reports: which runs are ranked and why others are not, the numbers, and a page that needs nothing but itself."""

import json
import re
from html.parser import HTMLParser
from statistics import stdev
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.comparison import SCHEMA
from mimic_core.errors import NotFoundError
from mimic_core.leaderboard import rank
from mimic_core.plots import png
from mimic_core.report_page import draw_report, render_page
from mimic_core.report_plots import learning_curves, svg
from mimic_core.report_text import best_two, conclusion, leaderboard_rows, leading_rows, seeds_rows, training_rows
from mimic_core.reports import ReportedRun, compose
from mimic_core.specs import RunSpec

SHARED = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["a"]}
SHARED |= {"database": "haven", "table": "results"}
BINS = [{"weight": 4.0, "probability": (place + 0.5) / 15, "selected": 0.5} for place in range(14)]
BINS.append({"weight": 0.0, "probability": None, "selected": None})
COEFFICIENTS = {
    "coefficients": [
        {"name": "<b>a</b>", "estimate": 0.5, "std_error": 0.1, "std_error_clustered": 0.2, "z": 2.5, "p_value": 0.012}
        | {"ci_low": 0.1, "ci_high": 0.9},
        {"name": "b", "estimate": 0.0}
        | dict.fromkeys(("std_error", "std_error_clustered", "z", "p_value", "ci_low", "ci_high")),
    ],
    "statistics": dict.fromkeys(
        ("log_likelihood", "null_log_likelihood", "rho_squared", "adjusted_rho_squared", "aic", "bic")
    )
    | {"parameters": 1, "estimated_decisions": 20, "estimated_individuals": 10},
    "withheld": ["rho-squared is withheld"],
    "not_identified": ["b"],
    "separated": [],
    "l2": None,
}


def sums(log_likelihood, individuals=None):
    """Return what a run says of individuals of one decision each."""
    count = len(log_likelihood)
    individuals = range(count) if individuals is None else individuals
    return pa.table([individuals, [1] * count, [1.0] * count, list(map(float, log_likelihood))], schema=SCHEMA)


def reported(log_likelihood, model=None, *, splits=None, fingerprint="f" * 64, dataset="s/d", built=1, notes=(), **facts):
    """Return a trained run that says this of its test decisions, or of those of the splits that are given."""
    spec = RunSpec.model_validate(SHARED | {"model": {"layers": ["D4"], **(model or {})}})
    splits = {"test": sums(log_likelihood)} if splits is None else splits
    tables = [table.add_column(0, "split", pa.array([split] * len(table))) for split, table in splits.items()]
    metrics = {f"{split}_accuracy": 0.5 + 0.1 * built for split in splits} | {"epochs": 2, "exported_epoch": 1}
    manifest = {
        "inputs": {"tfrecord_dataset": {"key": dataset, "fingerprint": fingerprint}},
        "metrics": metrics | {f"{split}_nll": 1.5 for split in splits},
        "built_at": f"2026-01-0{built}",
        "seconds": 3.25,
        "notes": list(notes),
        "calibration": {"test": BINS},
    }
    history = [
        {"epoch": epoch, "loss": 1 / epoch, "val_loss": None if spec.model.linear else 1.1 / epoch, "exported": epoch == 1}
        for epoch in (1, 2)
    ]
    rest = {"layers": "x", "history": history, "coefficients": COEFFICIENTS if spec.model.linear else None}
    individuals = pa.concat_tables(tables) if tables else None
    return ReportedRun(spec=spec, manifest=manifest, individuals=individuals, **rest | facts)


def found_runs(report, part):
    return [(run["label"], run.get("reason")) for run in report.document[part]]


# ---- numbers


def test_the_leaderboard_worked_out_by_hand():
    runs = [reported([-2, -2, -3, -3], {"seed": 1}), reported([-1, -1, -3, -1], {"seed": 2}, notes=["too good"])]
    report = compose("s/e", runs, [], resamples=300, seed=5)
    document = report.document
    assert (document["split"], document["decisions"], document["individuals"]) == ("test", 4, 4)
    first, second = document["leaderboard"]
    assert (first["label"], first["settings"], first["notes"]) == ("D4, seed 2", {"seed": "2"}, ["too good"])
    assert (first["nll"]["value"], second["nll"]["value"]) == (1.5, 2.5)
    assert (second["difference"]["value"], first["difference"]) == (1.0, None)
    expected = rank([sums([-2, -2, -3, -3]), sums([-1, -1, -3, -1])], resamples=300, seed=5).standings[1]
    assert second["difference"] == vars(expected.difference)
    assert (first["epochs"], first["exported_epoch"], first["seconds"], first["accuracy"]) == (2, 1, 3.25, 0.6)
    assert first["rho_squared"] is None  # withheld
    two = document["best_two"]
    assert (two["first_better"], two["second_better"], two["equal"], two["share"]["value"]) == (3, 0, 1, 0.875)
    json.dumps(document, allow_nan=False)


def test_runs_that_differ_by_their_seed_only_have_a_mean_and_a_standard_deviation():
    runs = [reported([-level, -level], {"seed": seed}) for seed, level in enumerate((1, 2, 4))]
    report = compose("s/e", [*runs, reported([-9, -9], {"layers": []})], [], resamples=100)
    (row,) = report.document["over_seeds"]
    assert (row["label"], len(row["run_ids"])) == ("D4", 3)
    assert (row["nll_mean"], row["nll_sd"]) == pytest.approx((7 / 3, stdev([1, 2, 4])))
    assert seeds_rows(report.document)[1] == ("D4", "3", "2.3333 ± 1.5275", "-2.3333 ± 1.5275", "60.0% ± 0.0%")


def test_ids_that_are_text_are_shown_as_text():
    report = compose("s/e", [reported([-1, -2]), reported([-2, -1], {"seed": 1})], [], lambda *_: {0: "anna"}, resamples=100)
    two = report.document["best_two"]
    assert [each["individual"] for side in ("first_most", "second_most") for each in two[side]] == ["anna", 1]


# ---- which runs are ranked


def test_runs_on_other_decisions_are_listed_apart_with_why():
    ranked = [reported([-2, -2], {"seed": 1}), reported([-1, -1], {"seed": 2})]
    others = [
        reported([-1, -1], {"seed": 3}, fingerprint="a" * 64),
        reported([-1, -1], {"seed": 4}, fingerprint="b" * 64, dataset="s/other"),
        reported([], {"seed": 5}, splits={"test": sums([-1, -1], [0, 7])}),
        reported([], {"seed": 6}, splits={"train": sums([-1])}),
        reported([], {"seed": 7}, splits={}),
    ]
    report = compose("s/e", [*others, *ranked], [(RunSpec.model_validate(SHARED | {"model": {"layers": []}}), "")])
    assert [row["label"] for row in report.document["leaderboard"]] == ["D4, seed 2", "D4, seed 1"]
    assert dict(found_runs(report, "apart")) == {
        "D4, seed 3": "it was trained on another version of the dataset, aaaaaaaaaaaa",
        "D4, seed 4": "it was trained on another dataset, s/other",
        "D4, seed 5": "its test decisions are others: it has another validation share or seed",
        "D4, seed 6": "it has no test decisions of a weight above 0",
        "D4, seed 7": "it was trained before runs stored what a comparison needs; train it again",
    }
    assert found_runs(report, "not_trained") == [("linear", None)]


def test_of_as_many_runs_on_two_versions_the_newest_are_ranked():
    old, new = reported([-1, -1], {"seed": 1}), reported([-2, -2], {"seed": 2}, fingerprint="a" * 64, built=2)
    assert compose("s/e", [new, old], [], resamples=100).document["dataset"]["fingerprint"] == "a" * 64


@pytest.mark.parametrize(("splits", "chosen"), [(["train", "validation"], "validation"), (["train"], "train")])
def test_without_test_decisions_runs_are_ranked_on_others(splits, chosen):
    run = reported([], splits={split: sums([-1, -2]) for split in splits})
    report = compose("s/e", [run], [], resamples=100)
    assert report.document["split"] == chosen
    page = render_page(report, draw_report(report), "v", "now")
    assert f"No run has test decisions of a weight above 0, so the runs are ranked on {chosen} decisions" in page


def test_runs_without_anything_to_compare_are_refused():
    with pytest.raises(NotFoundError, match="no trained run of experiment s/e stored what a comparison needs; train them"):
        compose("s/e", [reported([], splits={})], [])


def test_where_no_test_decision_has_a_weight_runs_are_ranked_on_others():
    nothing = pa.table([[0, 1], [0, 0], [0.0, 0.0], [0.0, 0.0]], schema=SCHEMA)
    run = reported([], splits={"test": nothing, "validation": sums([-1, -2])})
    report = compose("s/e", [run], [], resamples=100)
    assert (report.document["split"], report.document["individuals"]) == ("validation", 2)
    assert "ranked on validation decisions" in render_page(report, draw_report(report), "v", "now")
    with pytest.raises(NotFoundError, match="no trained run of experiment s/e was judged on a decision of a weight above 0"):
        compose("s/e", [reported([], splits={"test": nothing, "train": nothing})], [])


def test_a_run_whose_spec_changed_since_says_so():
    report = compose("s/e", [reported([-1, -2], changed=True)], [], resamples=100)
    assert report.document["leaderboard"][0]["notes"] == [
        "its spec or layers file changed since it was trained; train it again"
    ]


# ---- words


def test_the_conclusion_says_how_clear_it_is():
    runs = [reported([-1] * 30), reported([-2] * 30, {"seed": 1}), reported([-1, -1.01] * 15, {"seed": 2})]
    three = compose("s/e", runs, [], resamples=100).document
    assert conclusion(three).endswith("The interval of the difference to it excludes 0 for 2 of the 2 other runs.")
    two = compose("s/e", [reported([-1, -2]), reported([-2, -1.5], {"seed": 1})], [], resamples=100).document
    assert conclusion(two).endswith(
        "includes 0, so these decisions do not tell which is better. Intervals from 2 individuals say little."
    )
    assert best_two(two).startswith(
        "D4 explains 1 of 2 individuals better, and D4, seed 1 1 of them: a share of 50.0%, 95% interval 0.0% "
    )
    one = compose("s/e", [reported([-1])], [], resamples=100).document
    assert conclusion(one).endswith(
        "has the lowest test NLL, 1.0000 nats per decision; there is no other run to compare it with."
    )
    assert best_two(one) == ""


def test_the_tables_have_a_row_for_each_run():
    report = compose("s/e", [reported([-1, -2], {"seed": 1}), reported([-2, -1.5], {"seed": 2})], [], resamples=100)
    rows = leaderboard_rows(report.document)
    assert len({len(row) for row in rows}) == 1
    ids = [row["run_id"][:8] for row in report.document["leaderboard"]]
    assert [row[:3] for row in rows[1:]] == [("D4, seed 1", ids[0], "1.5000"), ("D4, seed 2", ids[1], "1.7500")]
    narrow = leading_rows(report.document)
    assert narrow[0] == (
        "model",
        "run",
        "NLL",
        "to\N{NO-BREAK SPACE}the\N{NO-BREAK SPACE}best",
        "95%\N{NO-BREAK SPACE}interval",
        "accuracy",
    )
    assert [row[:3] for row in narrow[1:]] == [row[:3] for row in rows[1:]]
    assert training_rows(report.document)[0] == ("model", "run", "exported epoch", "seconds", "seed")
    assert [row[2:] for row in training_rows(report.document)[1:]] == [("1 of 2", "3.2", "1"), ("1 of 2", "3.2", "2")]


# ---- the page


class Page(HTMLParser):
    """What a browser would look at: open tags, what is fetched, links, and where they may lead."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.links, self.ids, self.tags, self.text = [], [], [], set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.fetched += [found[name] for name in ("src", "srcset", "data", "poster", "action") if found.get(name)]
        (self.links if tag == "a" else self.fetched).extend([found["href"]] if "href" in found else [])
        self.ids |= {found["id"]} if "id" in found else set()
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def made():
    """A report on three runs, one of them linear and one of a hostile name, and its page."""
    random = np.random.default_rng(0).uniform(-3, -1, (3, 12))
    models = [{"layers": ["<script>alert(1)</script>"]}, {"layers": []}, {"layers": ["$x^"], "seed": 2}]
    runs = [reported(values, model, notes=["a <i>note</i>"]) for values, model in zip(random, models, strict=True)]
    other = [(RunSpec.model_validate(SHARED | {"model": {"layers": ["D9"]}}), "")]
    report = compose("s/e", runs, other, lambda _, ids: dict.fromkeys(ids, '"><img src=x>'), resamples=100)
    figures = draw_report(report)
    text = render_page(report, figures, "20260101T000000Z-aaaaaaaa", "1 January 2026")
    return SimpleNamespace(report=report, figures=figures, text=text, page=Page(text))


def test_the_page_closes_what_it_opens_and_fetches_nothing(made):
    assert made.page.open == []
    assert made.page.fetched
    assert all(address.startswith("data:image/svg+xml;base64,") for address in made.page.fetched)
    assert not re.search(r"(@import|url\(|https?://)", re.sub(r"data:[^\"]*", "", made.text))


def test_the_contents_lead_to_every_section(made):
    assert [link.removeprefix("#") for link in made.page.links] == [
        "compared",
        "leaderboard",
        "learning",
        "calibration",
        "best-two",
        "coefficients",
        "notes",
        "others",
    ]
    assert set(made.page.ids) == {link.removeprefix("#") for link in made.page.links}


def test_names_cannot_become_markup(made):
    assert not {"script", "b", "i"} & made.page.tags
    said = "".join(made.page.text)
    assert "<script>alert(1)</script>" in said
    assert "<b>a</b>" in said
    assert "a <i>note</i>" in said
    assert '"><img src=x>' in said


def test_the_page_shows_coefficients_and_what_is_not_identified(made):
    said = "".join(made.page.text)
    assert "0.1000 to 0.9000" in said
    assert "Not identified, and without effect: b" in said
    assert "rho-squared is withheld" in said


def test_pictures_are_small_and_the_same_each_time(made):
    assert set(made.figures) == {"forest", "learning_curves", "reliability", "individual_differences"}
    for figure in made.figures.values():
        assert len(png(figure)) < 60_000
    first, again = (svg(draw_report(made.report)["forest"]) for _ in range(2))
    assert first == again
    assert ElementTree.fromstring(first).tag.endswith("svg")  # noqa: S314  our own


def test_the_first_epochs_do_not_set_the_scale_and_the_last_ones_are_always_seen():
    losses = [50.0] + [1.0] * 60 + [3.0]
    history = [{"epoch": at, "loss": loss, "val_loss": None, "exported": at == 9} for at, loss in enumerate(losses, 1)]
    low, high = learning_curves(["a"], [history]).axes[0].get_ylim()
    assert (low, high) == pytest.approx((0.9, 3.1))


def test_runs_that_stored_no_calibration_have_no_such_section():
    run = reported([-1, -2])
    del run.manifest["calibration"]
    report = compose("s/e", [run], [], resamples=100)
    figures = draw_report(report)
    assert set(figures) == {"forest", "learning_curves"}
    assert 'id="calibration"' not in render_page(report, figures, "v", "now")
