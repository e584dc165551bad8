"""A full disk: the old version stays readable, the error says what to do, and the same call succeeds when there is space."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# a file system of 8 MB that nobody else sees and that goes with the process
MOUNT_AND_RUN = 'mount -t tmpfs -o size=8m tmpfs "$1" && exec "$2" "$3" "$1" "$4"'
NAMESPACES = (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"])


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    disk, elsewhere = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("elsewhere")
    script = Path(__file__).with_name("full_disk.py")
    words = ["sh", "-c", MOUNT_AND_RUN, "sh", str(disk), sys.executable, str(script), str(elsewhere)]
    for namespace in NAMESPACES:
        probe = [*namespace, "mount", "-t", "tmpfs", "tmpfs", str(disk)]
        try:
            if subprocess.run(probe, capture_output=True).returncode:
                continue
        except FileNotFoundError:
            continue
        run = subprocess.run([*namespace, *words], capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        return dict(json.loads(run.stdout))
    pytest.skip("a small file system can be mounted neither in a user namespace nor as root")


def test_a_replace_that_does_not_fit_leaves_the_old_rows_and_succeeds_when_there_is_space(found):
    for outcome in found["replace"]:
        assert (outcome["before"], outcome["after"], outcome["left"]) == (3, 5, [])
        assert outcome["full"] == (3 if outcome["error"] else 5)
    assert found["replace"][0]["error"].startswith("StorageError: table haven.results: could not be written: ")
    assert found["replace"][0]["error"].endswith(
        "No space left on device; it holds what it held before or all that is new. "
        "Check free space and rights, then run this again"
    )


def test_a_full_disk_below_the_catalog_alone_leaves_the_old_rows(found):
    outcome = found["replace with the catalog alone on it"]
    assert (outcome["before"], outcome["full"], outcome["after"], outcome["left"]) == (3, 3, 5, [])
    assert "StorageError: table haven.results: could not be written: database or disk is full;" in outcome["error"]


def test_a_table_that_cannot_be_made_is_named_and_leaves_nothing(found):
    outcome = found["make a table"]
    assert (outcome["before"], outcome["full"], outcome["left"]) == (["haven.results"], ["haven.results"], [])
    assert "StorageError: table haven.new: could not be written: database or disk is full;" in outcome["error"]


def test_rows_that_cannot_be_staged_leave_no_file(found):
    for outcome in found["stage"]:
        assert (outcome["full"], outcome["left"]) == (outcome["before"], [])
        assert "StorageError: table haven.results: rows could not be written: " in outcome["error"]


def test_an_artefact_that_does_not_fit_leaves_the_old_one(found):
    outcome = found["write an artefact"]
    assert (outcome["before"], outcome["full"], outcome["after"], outcome["left"]) == ("old", "old", "new", [])
    assert "a.bin: could not be written: No space left on device; what was there before" in outcome["error"]


def test_an_import_that_does_not_fit_ends_with_exit_code_1_and_leaves_the_table(found):
    commands = found["commands"]
    code, output, raised = commands["import"]
    assert (code, raised) == (1, "SystemExit(1)")
    assert output.startswith("mimic: table haven.features: rows could not be written: ")
    assert "3 rows" in commands["shown"][1]
    assert "200,000 rows" in commands["import again"][1]


def test_an_export_that_does_not_fit_ends_with_exit_code_1_and_leaves_the_old_file(found):
    code, output, raised = found["commands"]["export"]
    assert (code, raised) == (1, "SystemExit(1)")
    assert "out.parquet: could not be written: " in output
    assert found["commands"]["exported"] == ["old", []]
    assert "200,000 rows" in found["commands"]["export again"][1]


def test_a_run_whose_export_does_not_fit_leaves_the_version_that_is_applied_and_is_trained_again_when_there_is_space(found):
    trainings = found["trainings"]
    assert [code for code, _ in trainings["first"]] == [0, 0, 0]
    assert trainings["before"][0] == 0
    for (code, output), same_scores in trainings["full"]:
        assert code == 1
        assert "could not be written: No space left on device; what was there before is unchanged" in output
        assert same_scores
    (code, output), same_scores = trainings["after"]
    assert (code, same_scores) == (0, True), output
