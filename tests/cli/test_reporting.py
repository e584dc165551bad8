"""`mimic report`: the page and the table that it makes, what it refuses, and when a report goes."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from mimic_assets.builds import begin
from mimic_assets.cli.environment import local_resources, open_instance
from mimic_assets.experiments import individual_texts
from mimic_core.identifiers import id_table, parquet_bytes, surrogates
from mimic_core.specs import RunSpec


def experiments():
    """The partitions of the reports."""
    with open_instance() as instance:
        return instance.get_dynamic_partitions("experiments")


@pytest.fixture
def registered(mimic):
    """The commands over a home with two runs that are registered, and their ids."""
    config = mimic.experiment(models=[{"layers": []}, {"layers": [], "seed": 1}])
    return mimic, [run["run_id"] for run in mimic.partitions("log-odds", "run-experiment", config, "--register-only")]


def test_a_report_is_one_file_and_a_table(with_run, monkeypatch):
    mimic, run_id = with_run
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)  # which tells of no browser
    models = [{"layers": []}, {"layers": [], "l2": 0.1}]
    (trained, other) = mimic.partitions("log-odds", "run-experiment", mimic.experiment(models=models), "--register-only")
    said = mimic.done("report", "e", "--output", "out.html", "--open")
    assert opened == [(mimic.home / "out.html").as_uri()]
    assert "no browser is known here" in said.stderr
    lines = said.stdout.splitlines()
    nll = json.loads(next(mimic.home.glob(f"mimic/objects/s-models/e/{run_id}/manifest.json")).read_text())["metrics"][
        "test_nll"
    ]
    assert lines[1].split()[:3] == ["linear", run_id[:8], f"{nll:.4f}"]
    assert (
        f"linear ({run_id[:8]}) has the lowest test NLL, {nll:.4f} nats per decision; there is no other run" in said.stdout
    )
    assert f"not trained: linear, l2 0.1 ({other['run_id'][:8]})" in said.stdout
    assert lines[-1] == f"report: {mimic.home / 'out.html'}"
    (folder,) = [path for path in (mimic.home / "mimic/objects/s-reports/e").iterdir() if path.is_dir()]
    assert Path("out.html").read_bytes() == (folder / "report.html").read_bytes()
    assert "out.html: this file is there already; give another name, or --force" in mimic.refused(
        "report", "s/e", "--output", "out.html"
    )
    found = json.loads(mimic.done("report", "s/e", "--output", "out.html", "--force", "--json").stdout)
    numbers = json.loads((folder / "report.json").read_text())
    assert found == {"page": str(mimic.home / "out.html"), **numbers}
    assert found["leaderboard"][0]["nll"]["value"] == nll
    assert found["leaderboard"][0]["run_id"] == trained["run_id"] == run_id


def test_dagster_shows_the_leaderboard_and_the_pictures(with_run):
    mimic, _ = with_run
    mimic.done("report", "e")
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey("experiment_report"), asset_partitions=["s/e"])
    with open_instance() as instance:
        (record,) = instance.fetch_materializations(wanted, limit=5).records
    shown = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    assert shown["leaderboard"].startswith("| model | run | NLL |")
    assert Path(shown["page"]).is_file()
    assert (shown["ranked_runs"], shown["not_trained_runs"]) == (1, 0)
    assert "[s/e/" in shown["upstream"]
    for name in ("forest", "learning_curves", "reliability"):
        assert shown[name].startswith(f"![{name.replace('_', ' ')}](data:image/png;base64,")
        assert len(shown[name]) < 80_000


def test_a_report_that_another_build_published_meanwhile_is_shown(with_run, monkeypatch):
    mimic, _ = with_run
    first = json.loads(mimic.done("report", "e", "--json").stdout)
    monkeypatch.setattr("mimic_assets.reports.begin", lambda *given: replace(begin(*given), replaces=None))
    assert json.loads(mimic.done("report", "e", "--json").stdout) == first


def test_what_cannot_be_reported_on_is_refused(registered):
    mimic, _ = registered
    mimic.done("log-odds", "run-experiment", mimic.experiment(space="other"), "--register-only")
    mimic.done("log-odds", "run-experiment", mimic.experiment(experiment_name="sizes"), "--register-only")
    expected = "no run of an experiment 'size' is registered (did you mean 'sizes'?); expected SPACE/EXPERIMENT or"
    assert expected in mimic.refused("report", "size")
    assert "'e' is the name of several experiments; give one of other/e, s/e" in mimic.refused("report", "e")
    assert "no run of experiment s/e is trained; run `mimic log-odds run-experiment" in mimic.refused("report", "s/e")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("none/a.html", "there is no folder"),
        (".", "this is a folder, expected the name of a file to write; add one, such as out.html"),
        ("a.pdf", "expected a name that ends in .html, the format of a page"),
    ],
)
def test_a_copy_goes_into_a_file_of_a_folder_that_is_there(with_run, file, expected):
    mimic, _ = with_run
    assert f"{file}: {expected}" in mimic.refused("report", "e", "--output", file)
    assert not list(mimic.home.glob("mimic/objects/s-reports"))


def test_a_report_goes_with_the_last_run_of_its_experiment(registered):
    mimic, (first, second) = registered
    assert experiments() == ["s/e"]
    artefacts = local_resources()["artefacts"]
    with artefacts.publishing("s-reports/e", "v", None) as publication:
        publication.publish({"version": "v"})
    mimic.done("runs", "retire", first)
    assert experiments() == ["s/e"]
    assert artefacts.manifest("s-reports/e")
    mimic.done("runs", "retire", second)
    assert experiments() == []
    assert artefacts.manifest("s-reports/e") is None


def test_individuals_are_found_by_what_a_dataset_has_in_their_place(mimic):
    artefacts = local_resources()["artefacts"]
    shared = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["a"]}
    shared |= {"database": "haven", "table": "results"}
    run = RunSpec.model_validate(shared | {"model": {"layers": []}})
    assert individual_texts(artefacts, run, [1]) == {}
    parts = [pa.table({"_individual": names, "_decision": names}) for names in (["anna", "bela"], ["cleo"])]
    entries = [
        {
            "path": f"ids/{at}",
            **artefacts.write(f"s-tfrecords/d/v/ids/{at}", [parquet_bytes(id_table(part, part.column_names))]),
        }
        for at, part in enumerate(parts)
    ]
    with artefacts.publishing("s-tfrecords/d", "v", None) as publication:
        publication.publish({"version": "v", "id_tables": entries})
    bela, cleo = (int(number) for number in surrogates(pa.array(["bela", "cleo"])))
    assert individual_texts(artefacts, run, [bela, 7, cleo]) == {bela: "bela", cleo: "cleo"}
