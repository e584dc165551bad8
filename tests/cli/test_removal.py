"""`mimic tables remove`: what is gone afterwards and what remains, what is refused, and how it asks."""

from types import SimpleNamespace

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mimic_assets.cli import removal
from mimic_assets.cli.main import main
from mimic_core.errors import NotFoundError
from resources.environments import local_resources
from resources.profiles import has_profile, write_profile
from resources.tables import CONTRAST, INFERENCE, RESULTS

NAME = "haven.features"


@pytest.fixture
def resources(mimic):
    return local_resources(mimic.home / "mimic")


def source_partitions():
    with dg.DagsterInstance.get() as instance:
        return instance.get_dynamic_partitions("source_tables")


def listing(folder):
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_removed_table_is_nowhere_any_more_and_a_new_one_of_its_name_begins_anew(mimic, resources, decision_table):
    tables, artefacts = resources["tables"], resources["artefacts"]
    for name in ("haven.other", NAME):
        mimic.imported(decision_table(), name)
    old = tables.pin(NAME)
    for name in (NAME, "haven.other"):
        write_profile(artefacts, name, "a", {"problem": ""})
    result = mimic.done("tables", "remove", NAME, "--yes")
    assert result.stdout == f"removed: {NAME}\n"
    assert result.stderr == "its files stay until `mimic tables maintain` is run, a day from now or later\n"
    assert [row["key"] for row in mimic.partitions("status")] == source_partitions() == tables.names() == ["haven.other"]
    assert [has_profile(artefacts, name, "a") for name in (NAME, "haven.other")] == [False, True]
    said = mimic.refused("tables", "remove", NAME, "--yes")
    assert f"there is no table {NAME}" in said
    assert "the tables are haven.other; import one with" in said

    mimic.imported(decision_table())
    assert (tables.pin(NAME).token, tables.pin(NAME).rows, len(source_partitions())) == (old.token, 42, 2)
    with pytest.raises(NotFoundError, match=f"version {old.snapshot} is gone"):
        tables.pin(NAME, old.snapshot)


def test_a_registered_table_is_forgotten_and_its_files_are_untouched_even_if_they_moved(mimic, decision_table):
    for name in ("stays", "moves"):
        (mimic.home / name).mkdir()
        pq.write_table(decision_table(), mimic.home / name / "a.parquet")
        mimic.done("tables", "register", f"haven.{name}", mimic.home / name)
    before = listing(mimic.home / "stays")
    (mimic.home / "moves").rename(mimic.home / "moved")
    said = mimic.done("tables", "remove", "haven.stays", "--yes").stdout
    assert said == f"forgotten: haven.stays; its files at {mimic.home}/stays are as they were\n"
    assert "forgotten: haven.moves" in mimic.done("tables", "remove", "haven.moves", "--yes").stdout
    mimic.done("tables", "maintain", "--grace", 0)
    assert listing(mimic.home / "stays") == before
    assert source_partitions() == []
    mimic.done("tables", "register", "haven.stays", mimic.home / "stays")


def test_a_table_that_something_registered_reads_is_refused(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast(), "--register-only")
    mimic.done("log-odds", "build-dataset", mimic.dataset(), "--register-only")
    for digit in "01":
        mimic.done("log-odds", "run-batch-infer", mimic.inference(digit * 64), "--register-only")
    said = mimic.refused("tables", "remove", NAME, "--yes")
    readers = ", ".join(
        ["contrast_set haven.contrasts", *(f"inference_table haven.scored/e/{digit * 12}" for digit in "01")]
    )
    assert (
        f"table {NAME} is read by {readers} and 1 more, and was not removed; register these again with another table" in said
    )
    mimic.done("tables", "show", NAME)


def test_a_table_that_mimic_writes_is_refused_with_what_to_do_instead(mimic, resources):
    expected = {
        CONTRAST: "a contrast set that came from the spec folder is retired by deleting its file there",
        RESULTS: "`mimic runs retire RUN` takes the rows of a run out of it",
        INFERENCE: "an inference that came from the spec folder is retired",
    }
    for kind, instead in expected.items():
        resources["tables"].ensure(f"haven.{kind}", pa.schema([("_individual", pa.int64())]), kind=kind)
        said = mimic.refused("tables", "remove", f"haven.{kind}", "--yes")
        assert f"table haven.{kind} holds {kind} rows, which mimic writes, and was not removed; {instead}" in said
    assert "expected a table as DATABASE.TABLE" in mimic.refused("tables", "remove", "features", "--yes")


def test_it_asks_on_a_terminal_and_without_one_wants_to_be_told(mimic, decision_table, monkeypatch):
    mimic.imported(decision_table())
    said = mimic.refused("tables", "remove", NAME)
    assert f"there is no terminal to ask on whether to remove {NAME}; nothing was removed: give --yes" in said
    monkeypatch.setattr(removal, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    refused, agreed = (CliRunner().invoke(main, ["tables", "remove", NAME], input=answer) for answer in ("\n", "y\n"))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"remove {NAME}? [y/N]" in refused.stderr
    assert f"{NAME} was not removed" in refused.stderr
    assert (agreed.exit_code, agreed.stdout) == (0, f"removed: {NAME}\n")
