"""The doctor's looks: none keeps the others waiting or ends them, and versions that do not fit are found."""

import time

import pytest

from mimic_core.errors import StorageError
from resources.doctor import machine
from resources.doctor.findings import MACHINE_SLOW, Check, State, ok, take


def test_a_look_that_hangs_is_given_up_and_what_it_said_until_then_stays():
    def hang():
        yield ok("slow", "begun")
        time.sleep(5)

    began = time.monotonic()
    looks = [Check("slow", hang, seconds=0.2), Check("next", lambda: [ok("next", "fine")])]
    found = list(take(looks))
    assert time.monotonic() - began < 2
    assert [(each.about, each.state) for each in found] == [
        ("slow", State.OK),
        ("slow", State.WRONG),
        ("next", State.OK),
    ]
    assert found[1].found == "no answer within 0 seconds"
    assert found[1].do.startswith("see that its server runs")
    assert list(take([Check("disk", hang, seconds=0.1, slow=MACHINE_SLOW)]))[1].do == MACHINE_SLOW


def test_a_look_that_raises_is_a_finding_and_the_next_is_taken():
    def refuse():
        raise StorageError("bucket b: cannot be read: access is denied; ask for rights")

    def break_down():
        raise ZeroDivisionError("one\ntwo")

    found = list(take([Check("a", refuse), Check("b", break_down), Check("c", lambda: [ok("c", "fine")])]))
    assert [(each.about, each.state, each.found, each.do) for each in found[:1]] == [
        ("a", State.WRONG, "bucket b: cannot be read: access is denied", "ask for rights")
    ]
    assert found[1].found == "ZeroDivisionError: one two"
    assert found[2].state == State.OK


@pytest.mark.parametrize(
    ("free", "state"), [(2 * machine.GIB, State.OK), (machine.GIB // 2, State.WARNING), (10**6, State.WRONG)]
)
def test_a_disk_without_room_is_told(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    (found,) = machine.free_space("disk", tmp_path)
    assert found.state == state
    assert bool(found.do) == (state != State.OK)


def test_a_part_of_dagster_of_another_version_is_found():
    installed = {"dagster": "1.13.27", "dagster-aws": "0.29.27"}.get
    wanted = ["dagster<1.14,>=1.13", "dagster-aws<0.30,>=0.29", "dagster-k8s==0.29.27", "pytest>=8; extra == 'dev'"]
    assert list(machine.misfits(wanted, installed)) == [("dagster-k8s", "==0.29.27", None)]
    assert list(machine.misfits(["dagster==1.13.26"], installed)) == [("dagster", "==1.13.26", "1.13.27")]


def test_what_does_not_fit_is_wrong_with_what_to_install(monkeypatch):
    monkeypatch.setattr(machine, "_version", {"dagster": "1.12.0"}.get)
    found = {each.found.partition(" ")[0]: each for each in machine.versions()}
    assert found["dagster"].found.startswith("dagster 1.12.0, expected ")
    assert found["pyiceberg"].found == "pyiceberg is not installed, expected ==0.12.0"
    assert all("requirements.lock" in each.do for each in found.values())
