"""What is out of date, what would be rebuilt, and the commands that do it, over one home that the tests share."""

import json
import re
import signal
from pathlib import Path

import dagster as dg
import pytest

from resources.artefacts import ArtefactStore
from resources.spec_folder import Noted, Record, write_record

DATA, OTHER = ("tfrecord_dataset", "s/d"), ("tfrecord_dataset", "s/o")
LINEAR = {"models": [{"layers": []}]}
LISTED = {"status": ("spec_files", "spec_folder"), "plan": ("not_built",), "rebuild": ("not_built",)}  # beside partitions


def states(mimic) -> dict[tuple[str, str], str]:
    return {(row["asset"], row["key"]): row["state"] for row in mimic.partitions("status")}


def status(mimic, key: str) -> dict[str, object]:
    (row,) = mimic.partitions("status", key)
    return row


def rebuilt(mimic, *arguments: object, exit_code: int = 0) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """Rebuild or build; returns what came of each, in order, and what was left out, and why."""
    result = mimic(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    document = json.loads(result.stdout)
    outcomes = [(row["asset"], row["key"], row["status"]) for row in document["partitions"]]
    return outcomes, [(row["key"], row["why"]) for row in document["not_built"]]


def register(mimic, config: Path) -> None:
    mimic.done("log-odds", "build-dataset", config, "--register-only")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, decision_table, entering):
    """A home in which everything is current."""
    folder = tmp_path_factory.mktemp("planning")
    with pytest.MonkeyPatch.context() as patch:
        mimic = entering(folder, patch)
        mimic.imported(decision_table())
        mimic.imported(decision_table(), "haven.other")
        mimic.done("log-odds", "build-dataset", mimic.dataset(table="other", dataset="o"))
        mimic.done("log-odds", "build-dataset", mimic.dataset())
        (run,) = mimic.partitions("log-odds", "run-experiment", mimic.experiment(**LINEAR))
        mimic.done("log-odds", "run-batch-infer", mimic.inference(run["run_id"]))
        (folder / "run").write_text(run["run_id"])
    return folder


@pytest.fixture
def home(folder, monkeypatch, entering):
    """The commands over that home, in which everything is current."""
    home = entering(folder, monkeypatch)
    if set(states(home).values()) != {"current"}:  # what a test left that failed
        register(home, home.dataset())
        home.done("rebuild", "--failed")
    return home


@pytest.fixture
def run(folder):
    """The key of its run."""
    return f"s/e/{(folder / 'run').read_text()[:12]}"


@pytest.fixture
def scored(folder):
    """The key of its inference."""
    return f"haven.scored/e/{(folder / 'run').read_text()[:12]}"


def test_a_plan_says_what_the_sensor_would_hold_for_approval(home, decision_table, monkeypatch):
    home.imported(decision_table(seed=9))
    assert "approve_rebuild" not in home.done("plan").stdout
    monkeypatch.setenv("MIMIC_MAX_RUNS_PER_CHANGE", "1")
    said = "more than MIMIC_MAX_RUNS_PER_CHANGE (1): where rebuild_sensor is on, 3 of these wait until somebody launches"
    assert said in home.done("plan").stdout
    home.imported(decision_table())


def test_a_changed_table_leads_to_what_hangs_on_it_in_order_and_then_to_nothing(home, scored, run, decision_table):
    chain = [DATA, ("model_run", run), ("inference_table", scored)]
    home.imported(decision_table(seed=1))
    found = states(home)
    assert [found[node] for node in (OTHER, *chain)] == ["current", "out_of_date", "waiting", "waiting"]
    assert status(home, "s/d")["reasons"][0].startswith("source_table haven.features changed from ")
    planned = home.done("plan", "--json").stdout
    document = json.loads(planned)
    assert [(row["asset"], row["key"]) for row in document["partitions"]] == chain
    assert all(row["seconds"] > 0 for row in document["partitions"])
    assert document["not_built"] == []
    people_read_it(home, run, "tfrecord_dataset s/d, which is out of date")
    assert home.done("rebuild", "--dry-run", "--json").stdout == planned
    assert states(home) == found
    lines = home.done("rebuild").stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [f"built: {asset} {key}" for asset, key in chain] + [
        "3 built"
    ]
    said = home.done("rebuild")
    assert (said.stdout, said.stderr) == ("nothing is to be built; everything is current\n", "")


def people_read_it(home, run, what):
    """What is to be built, why, and how long that takes."""
    lines = [re.sub("about [0-9]+ s", "about 1 s", line) for line in home.done("plan").stdout.splitlines()]
    assert lines[0] == "to be built, in this order:"
    assert lines[1].startswith("  tfrecord_dataset s/d, about 1 s: source_table haven.features changed from ")
    assert lines[2] == f"  model_run {run}, about 1 s: waits for {what}"
    assert lines[3].endswith(f"waits for model_run {run}, which waits itself")
    assert lines[4:] == ["3 builds, about 1 s one after another"]
    shown = home.done("status").stdout.splitlines()
    assert shown[-1] == "3 current, 1 out_of_date, 2 waiting; see `mimic plan`"
    assert shown[-4].startswith("tfrecord_dataset s/d: source_table haven.features changed from ")
    assert shown[-3] == f"model_run {run}: waits for {what}"


def test_a_key_is_rebuilt_with_what_it_hangs_on_and_nothing_below_it(home, scored, run, decision_table):
    home.imported(decision_table(seed=3))
    home.imported(decision_table(seed=3), "haven.other")
    assert rebuilt(home, "rebuild", run[4:12]) == ([(*DATA, "built"), ("model_run", run, "built")], [])
    found = states(home)
    assert (found[OTHER], found["inference_table", scored]) == ("out_of_date", "out_of_date")
    # and --downstream what hangs on a table, nothing above or beside it
    rebuilt(home, "build", "haven.other", "--downstream")
    assert states(home)[OTHER] == "current"
    assert rebuilt(home, "build", "--downstream", "haven.features")[0] == [("inference_table", scored, "built")]


def test_a_failure_stops_only_what_hangs_on_it_and_is_tried_again_when_asked_for(home, scored, run, decision_table):
    home.imported(decision_table(seed=4), "haven.other")
    register(home, home.dataset(missing_values_map={}, max_choices=4))
    outcomes, left_out = rebuilt(home, "rebuild", exit_code=1)
    assert outcomes == [(*DATA, "failed"), (*OTHER, "built")]
    assert left_out == [(run, "waiting for an input"), (scored, "waiting for an input")]
    row = status(home, "s/d")
    assert row["state"] == "failed"
    assert "without an entry in missing_values_map: 1" in row["error"]
    assert row["reasons"][-1].endswith(row["error"])
    result = home("rebuild")  # what failed stays unbuilt, which a script must notice
    assert result.exit_code == 1
    said = result.stdout
    assert said.splitlines()[:2] == [
        "nothing is to be built",
        "not built, failed at this version: 1; `mimic rebuild KEY` tries again, --failed all but those refreshed by hand",
    ]
    assert "not built, waiting for an input: 2\n  model_run " in said
    assert home.partitions("plan") == []
    assert [row["key"] for row in home.partitions("plan", "--failed")] == ["s/d", run, scored]
    assert rebuilt(home, "rebuild", "s/d", exit_code=1) == ([(*DATA, "failed")], [])
    register(home, home.dataset())
    assert home.done("plan").stdout == "nothing is to be built; everything is current\n"


def test_what_is_refreshed_by_hand_is_built_when_it_is_named(home, decision_table):
    register(home, home.dataset(table="other", dataset="o", refresh="manual"))
    assert set(states(home).values()) == {"current"}
    home.imported(decision_table(seed=5), "haven.other")
    said = home.done("plan").stdout
    assert "nothing is to be built\nnot built, refreshed by hand: 1; `mimic rebuild KEY` builds it\n" in said
    assert "\n  tfrecord_dataset s/o: source_table haven.other changed from " in said
    assert rebuilt(home, "rebuild") == ([], [("s/o", "refreshed by hand")])
    assert rebuilt(home, "rebuild", "s/o") == ([(*OTHER, "built")], [])
    register(home, home.dataset(table="other", dataset="o"))
    assert home.done("rebuild").stdout == "nothing is to be built; everything is current\n"


def test_a_build_is_made_also_of_what_is_current_and_says_when_it_reads_what_is_old(home, scored, run, decision_table):
    before = status(home, "s/o")["version"]
    said = "mimic: up to date already: tfrecord_dataset s/o; built again, as this command builds always (`mimic rebuild` "
    assert home.done("build", "tfrecord_dataset:s/o").stderr.startswith(said)
    assert home.done("log-odds", "build-dataset", home.dataset(table="other", dataset="o")).stderr.startswith(said)
    assert status(home, "s/o")["version"] != before
    home.imported(decision_table(seed=6))
    result = home.done("build", run[4:12])
    reads = "reads tfrecord_dataset s/d, which is out of date, as it is published; `mimic rebuild` builds that first"
    assert result.stderr.startswith(f"mimic: model_run {run} {reads}\n")
    assert states(home)["model_run", run] == "waiting"
    assert rebuilt(home, "build", "s/d", "--downstream")[0] == [
        (*DATA, "built"),
        ("model_run", run, "built"),
        ("inference_table", scored, "built"),
    ]


def test_keys_that_mean_nothing_or_a_table_are_refused_before_anything_is_built(home):
    before = home.published()
    for command in ("status", "plan", "rebuild", "build"):
        assert "there is no partition 's/dd' (did you mean 's/d'?)" in home.refused(command, "s/dd")
    for command in ("plan", "rebuild", "build"):
        assert (
            "mimic: haven.other: source tables are imported, not built; `mimic build --downstream haven.other` builds what "
            "hangs on it\n"
        ) in home.refused(command, "s/d", "haven.other")
    assert home.published() == before


def test_what_is_removed_or_cannot_be_read_is_a_row_and_no_crash(home, scored):
    manifest = home.home / "mimic/objects/s-tfrecords/o/manifest.json"
    manifest.unlink()
    with dg.DagsterInstance.get() as instance:
        instance.delete_dynamic_partition("tfrecord_datasets", "s/o")
    (spec,) = home.home.glob("mimic/objects/specs/inference_table/**/000001.json")
    text = spec.read_text()
    spec.write_text(text[:-9])
    found = states(home)
    assert (found[OTHER], found["inference_table", scored]) == ("missing", "failed")
    assert f"{spec}: damaged" in status(home, scored)["error"]
    outcomes, left_out = rebuilt(home, "rebuild", exit_code=1)
    assert (outcomes, left_out) == ([(*OTHER, "built")], [(scored, "cannot be read")])
    spec.write_text(text)


def test_a_terminal_that_is_narrow_gets_whole_keys_in_fewer_columns(home, run, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "60")
    lines = re.sub("\x1b\\[[0-9;]*m", "", home.done("status").stdout).splitlines()
    assert max(map(len, lines)) <= 60
    assert [name in lines[1] for name in ("asset", "key", "state", "version", "counts", "since")] == [True] * 3 + [False] * 3
    cells = "".join(line.split("│")[2].strip() for line in lines[3:-1])
    assert run in cells


# ---- homes of their own


def test_where_there_is_no_home_looking_makes_none_and_says_where_it_looked(mimic):
    said = f"no home at {mimic.home / 'mimic'} yet; import a table with "
    for command in ("status", "plan", "rebuild"):
        assert mimic.done(command).stdout.startswith(said)
        result = mimic.done(command, "--json")
        assert set(json.loads(result.stdout)) == {"partitions", *LISTED[command]}
        assert result.stderr.startswith(said)
        assert f"there is no partition 's/d': {said}" in mimic.refused(command, "s/d")
    assert mimic.done("tables", "list").stdout.startswith(said)
    (mimic.home / "decisions.csv").touch()
    refused = ["tables show haven.t", "runs compare 01234567 11234567", "predict 01234567 decisions.csv", "report e"]
    refused += [
        "tables remove haven.t --yes",
        "tables maintain --dry-run",
        "gc --dry-run",
        "runs retire 01234567",
        "build s/d",
    ]
    for command in refused:
        assert mimic.refused(*command.split()).startswith(f"mimic: {said}"), command
    assert [path.name for path in mimic.home.iterdir()] == ["decisions.csv"]


def test_an_empty_home_says_how_to_begin(mimic):
    (mimic.home / "mimic").mkdir()
    for command in ("status", "plan", "rebuild"):
        assert mimic.done(command).stdout.startswith("nothing yet; import a table with ")
        assert set(json.loads(mimic.done(command, "--json").stdout)) == {"partitions", *LISTED[command]}


def test_a_file_of_the_spec_folder_that_is_not_registered_is_named(mimic):
    noted = Noted(stamp="1", keys=(), problem="2 problems\n  table: this key is missing\n  space: this key is missing")
    write_record(ArtefactStore(root=str(mimic.home / "mimic/objects")), Record(files={"a.json": noted}))
    assert mimic.done("status").stdout.splitlines()[1:-1] == [
        "spec file a.json is not registered: 2 problems",
        "    table: this key is missing",
        "    space: this key is missing",
    ]
    assert json.loads(mimic.done("status", "--json").stdout)["spec_files"] == {"a.json": noted.problem}


def test_a_catalog_that_is_gone_is_an_error_and_never_an_empty_home(mimic, decision_table):
    mimic.imported(decision_table())
    (mimic.home / "mimic/catalog.db").unlink()
    for command in ("status", "plan", "rebuild", "build"):
        keys = ["haven.features"] if command == "build" else []
        assert "catalog.db: is gone, while" in mimic.refused(command, *keys, exit_code=1)


def test_an_interrupted_rebuild_keeps_what_it_published(mimic, decision_table):
    mimic.imported(decision_table())
    register(mimic, mimic.dataset())
    register(mimic, mimic.dataset(dataset="slow", train_partitions=40))
    rebuild = mimic.start("rebuild")
    assert rebuild.stderr is not None
    assert any("part 2/40" in line for line in rebuild.stderr)
    rebuild.send_signal(signal.SIGINT)
    _, errors = rebuild.communicate(timeout=60)
    assert rebuild.returncode == 130
    assert errors.endswith("mimic: interrupted; what was published before is unchanged\n")
    assert [row["state"] for row in mimic.partitions("status")] == ["current", "current", "missing"]
