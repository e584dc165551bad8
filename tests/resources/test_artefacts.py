"""Artefacts: a reader sees old bytes or new ones, and bytes that were changed are noticed."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mimic_core.errors import ConflictError, CorruptFileError, NotFoundError, StorageError
from resources.artefacts import ArtefactStore
from resources.storage import open_storage


@pytest.fixture(params=["files", "s3"])
def store(request, tmp_path) -> ArtefactStore:
    if request.param == "files":
        return ArtefactStore(root=str(tmp_path / "objects"))
    request.getfixturevalue("aws")
    open_storage.cache_clear()
    return ArtefactStore(root="s3://mimic-tests/objects", cache=str(tmp_path / "cache"))


only_files = pytest.mark.parametrize("store", ["files"], indirect=True)


def files(store: ArtefactStore, folder: str) -> list[str]:
    return sorted(file.name.removeprefix(f"{folder}/") for file in store.storage.files(folder))


def overwrite(store: ArtefactStore, name: str, data: bytes) -> None:
    """Damage a file."""
    with store.storage.writing(name) as file:
        file.write(data)


def publish(store: ArtefactStore, replaces: str | None = None, **document: object) -> str:
    with store.publishing("space/dataset", str(document["version"]), replaces) as publication:
        publication.publish(document)
    return store.published("space/dataset")


def test_what_was_written_is_read_and_fits_its_entry(store):
    entry = store.write("space/a.bin", [b"one", b"two"])
    assert store.read("space/a.bin", entry) == b"onetwo"
    assert entry["bytes"] == 6


def test_a_flipped_byte_is_refused_with_the_name_of_the_file(store):
    entry = store.write("space/a.bin", [b"one"])
    overwrite(store, "space/a.bin", b"ofe")
    with pytest.raises(CorruptFileError, match=r"space/a\.bin: damaged"):
        store.read("space/a.bin", entry)


def test_a_file_that_is_gone_is_named(store):
    with pytest.raises(NotFoundError, match=r"space/a\.bin: this file is gone"):
        store.read("space/a.bin")


def test_a_writer_that_fails_half_way_leaves_the_old_bytes_and_no_temporary_file(store):
    def chunks():
        yield b"new"
        raise RuntimeError("half-way")

    store.write("space/a.bin", [b"old"])
    with pytest.raises(RuntimeError, match="half-way"):
        store.write("space/a.bin", chunks())
    assert store.read("space/a.bin") == b"old"
    assert files(store, "space") == ["a.bin"]


@only_files
def test_a_full_disk_is_an_error_that_says_so_and_leaves_the_old_bytes(store, monkeypatch):
    store.write("space/a.bin", [b"old"])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"a\.bin: could not be written: No space left on device"):
        store.write("space/a.bin", [b"new"])
    assert store.read("space/a.bin") == b"old"
    assert files(store, "space") == ["a.bin"]


def test_a_file_is_created_once(store):
    store.create("specs/1.json", b"first")
    with pytest.raises(ConflictError, match=r"1\.json: another writer was first"):
        store.create("specs/1.json", b"second")
    assert store.read("specs/1.json") == b"first"
    assert files(store, "specs") == ["1.json"]


def test_unfinished_files_are_not_listed(store):
    store.write("space/b", [b""])
    store.write("space/a", [b""])
    overwrite(store, "space/.writing-abc", b"")
    assert store.names("space") == ["a", "b"]
    assert store.names("nothing") == []


def test_nothing_is_published_before_the_manifest(store):
    store.write("space/dataset/v1/data", [b"1"])
    assert store.manifest("space/dataset") is None
    assert store.published("space/dataset") is None


def test_a_published_manifest_is_read_back(store):
    publish(store, version="v1")
    assert store.manifest("space/dataset")["version"] == "v1"


def test_publishing_again_replaces_what_it_began_with(store):
    token = publish(store, version="v1")
    publish(store, token, version="v2")
    assert store.manifest("space/dataset")["version"] == "v2"


@pytest.mark.parametrize("began_with", [None, "another"])
def test_a_build_that_was_overtaken_is_discarded(store, began_with):
    publish(store, version="v1")
    store.write("space/dataset/v2/data", [b"1"])
    with pytest.raises(ConflictError, match="another build published a newer version while this one ran"):
        publish(store, began_with, version="v2")
    assert store.manifest("space/dataset")["version"] == "v1"
    assert files(store, "space/dataset/v2") == []


def test_a_build_that_gives_way_to_its_equal_finds_what_the_other_published(store):
    publish(store, version="v1", fingerprint="f")
    store.write("space/dataset/v2/data", [b"1"])
    with store.publishing("space/dataset", "v2", None, "f") as publication:
        assert publication.done["version"] == "v1"
    assert files(store, "space/dataset/v2") == []
    with pytest.raises(ConflictError), store.publishing("space/dataset", "v3", None, "g"):
        pass


def test_a_step_that_runs_again_after_it_published_keeps_what_it_published(store):
    """A worker can die between the manifest and Dagster's record of the step; the step is then executed again."""
    store.write("space/dataset/v1/data", [b"1"])
    publish(store, version="v1")
    with store.publishing("space/dataset", "v1", None) as publication:
        assert publication.done["version"] == "v1"
    assert store.read("space/dataset/v1/data") == b"1"


def test_a_damaged_manifest_can_be_replaced(store):
    publish(store, version="v1")
    overwrite(store, "space/dataset/manifest.json", store.read("space/dataset/manifest.json")[:-5])
    publish(store, store.published("space/dataset"), version="v2")
    assert store.manifest("space/dataset")["version"] == "v2"


def test_a_publication_that_fails_leaves_the_previous_manifest(store):
    token = publish(store, version="v1")
    with pytest.raises(RuntimeError), store.publishing("space/dataset", "v2", token):
        raise RuntimeError
    assert store.manifest("space/dataset")["version"] == "v1"
    publish(store, token, version="v2")


@pytest.mark.parametrize("position", [0, 40, -3])
def test_a_flipped_byte_in_a_manifest_is_refused_with_its_name(store, position):
    publish(store, version="v1", counts={"rows": 3})
    data = bytearray(store.read("space/dataset/manifest.json"))
    data[position] ^= 1
    overwrite(store, "space/dataset/manifest.json", bytes(data))
    with pytest.raises(CorruptFileError, match=r"space/dataset/manifest\.json: damaged"):
        store.manifest("space/dataset")


def test_a_folder_is_discarded_with_all_below_it(store):
    store.write("space/dataset/v1/train/a", [b"1"])
    store.discard("space/dataset/v1")
    store.discard("space/dataset/v1")
    assert store.names("space/dataset") == []


def test_what_is_listed_has_its_size_and_changes_its_tag_with_its_bytes(store):
    store.write("space/a/1", [b"12"])
    store.write("space/b", [b"1"])
    look = store.storage.statuses(["space"])
    assert (look("space/a/1").bytes, look("space/b").bytes, look("space/c"), look("elsewhere")) == (2, 1, None, None)
    assert abs(look("space/b").changed - time.time()) < 60
    assert (store.storage.folders("space"), store.storage.folders(""), store.storage.folders("none")) == (
        ["a"],
        ["space"],
        [],
    )
    before = store.status("space/b").tag
    store.write("space/b", [b"2"])
    assert store.status("space/b").tag != before


def test_a_swap_takes_the_place_of_the_very_file_that_was_read(store):
    first = store.storage.swap("a", b"1", None)
    second = store.storage.swap("a", b"2", first)
    for tag in (None, first):
        with pytest.raises(ConflictError, match="another writer was first"):
            store.storage.swap("a", b"3", tag)
    assert store.storage.status("a").tag == second
    store.remove("a")
    with pytest.raises(ConflictError):
        store.storage.swap("a", b"4", second)


def test_a_folder_is_renamed_with_all_that_is_in_it(store):
    store.write("specs/old/000001.json", [b"1"])
    store.write("specs/old/000002.json", [b"2"])
    store.storage.rename("specs/old", "specs/new")
    assert (files(store, "specs/old"), files(store, "specs/new")) == ([], ["000001.json", "000002.json"])
    assert store.read("specs/new/000002.json") == b"2"


def test_appended_bytes_follow_those_before_and_a_file_that_is_written_anew_has_none_of_them(store):
    for number in range(3):
        store.append("history", b"%d" % number)
    assert store.read("history") == b"012"
    store.append("history", b"3")
    store.write("history", [b"new"])
    store.append("history", b"4")
    assert store.read("history") == b"new4"


def test_one_after_the_other_holds_a_lock_and_gives_it_on(store):
    order: list[str] = []

    def hold(name: str) -> None:
        with store.locked("folder"):
            order.append(f"{name} in")
            time.sleep(0.2)
            order.append(f"{name} out")

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(hold, "abc"))
    assert sorted(order) == [f"{name} {way}" for name in "abc" for way in ("in", "out")]
    assert all(came[0] == went[0] for came, went in zip(order[::2], order[1::2], strict=True))


def test_files_are_here_with_the_bytes_of_their_entries(store):
    entries = [{"path": name, **store.write(f"space/v/{name}", [data])} for name, data in (("a", b"1"), ("train/b", b"23"))]
    with store.local_folder("space/v", entries) as folder:
        assert ((folder / "a").read_bytes(), (folder / "train/b").read_bytes()) == (b"1", b"23")
    told: list[tuple[int, int]] = []
    with store.coming_folder("space/v", entries, lambda done, total: told.append((done, total))) as coming:
        for entry in entries:
            coming.wait(coming.folder / entry["path"])
            assert (coming.folder / entry["path"]).is_file()
    assert told in ([], [(0, 3), (1, 3), (3, 3)])  # of files that are here already nothing is told


def test_bytes_that_cannot_be_appended_leave_the_file_as_it_was(tmp_path):
    code = """
import resource, signal, sys
from mimic_core.errors import StorageError
from resources.artefacts import ArtefactStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = ArtefactStore(root=sys.argv[1])
store.append("a", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))
try:
    store.append("a", b"longer")
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "a: could not be written: " in done.stdout
    assert (tmp_path / "a").read_bytes() == b"old"
