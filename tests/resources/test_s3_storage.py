"""S3: what only an object storage can do to files, and what its refusals look like to a person."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mimic_core.errors import ConflictError, CorruptFileError, NotFoundError, SpecError, StorageError
from resources import aws as aws_clients
from resources import leases
from resources.artefacts import ArtefactStore
from resources.aws import client, forget_clients
from resources.file_cache import FileCache
from resources.s3_storage import PART_BYTES, S3Storage

ROOT = "s3://mimic-tests/objects"


@pytest.fixture
def storage(aws, monkeypatch) -> S3Storage:
    monkeypatch.setattr(aws_clients, "ATTEMPTS", 3)
    forget_clients()
    return S3Storage(ROOT)


def write(storage: S3Storage, name: str, data: bytes) -> None:
    with storage.writing(name) as file:
        file.write(data)


# ---- what it stores


def test_a_large_file_goes_up_in_parts_with_checksums_and_comes_down_whole(storage, aws):
    data = os.urandom(PART_BYTES + 1000)
    write(storage, "large", data)
    assert storage.read("large") == data
    asked = [request for request in aws.requests() if "uploads" in request or "uploadId" in request]
    assert [request.partition(" ")[0] for request in asked] == ["POST", "PUT", "PUT", "POST"]
    assert all("x_amz_checksum" in request for request in asked[1:3])


def test_listings_of_more_than_a_thousand_objects_are_whole(storage, aws):
    aws.ask("/test/objects", {"bucket": "mimic-tests", "names": [f"objects/many/{n:04d}/{n}" for n in range(1100)]})
    assert len(list(storage.files("many"))) == len(storage.folders("many")) == 1100
    look = storage.statuses(["many"])
    assert look("many/1099/1099").bytes == 1
    storage.discard("many")
    assert list(storage.files("many")) == []


def test_a_root_may_be_a_whole_bucket_and_must_be_one(aws):
    write(S3Storage("s3://mimic-tests"), "a/b", b"1")
    whole = S3Storage("s3://mimic-tests/")
    assert (whole.read("a/b"), whole.url("a/b"), whole.folders("")) == (b"1", "s3://mimic-tests/a/b", ["a"])
    with pytest.raises(SpecError, match="expected s3://BUCKET or s3://BUCKET/PREFIX"):
        S3Storage("s3://")


def test_a_writer_that_is_killed_leaves_no_object(storage, aws):
    code = f"""
import os, signal
from resources.s3_storage import S3Storage
with S3Storage({ROOT!r}).writing("a") as file:
    file.write(b"1" * 20_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert storage.status("a") is None


# ---- what fails


def test_a_put_whose_answer_was_lost_is_not_taken_for_that_of_another_writer(storage, aws):
    storage.create("once", b"mine")
    assert storage.create("once", b"mine") == storage.status("once").tag
    with pytest.raises(ConflictError, match=r"objects/once: another writer was first"):
        storage.create("once", b"theirs")


def test_a_condition_that_was_not_looked_at_is_asked_again(storage, aws):
    aws.fail({"path": "/a$", "method": "PUT", "status": 409, "code": "ConditionalRequestConflict", "times": 2})
    tag = storage.create("a", b"1")
    assert storage.read_tagged("a") == (b"1", tag)
    aws.fail({"path": "/b$", "method": "PUT", "status": 409, "code": "ConditionalRequestConflict"})
    with pytest.raises(ConflictError, match="another writer was first"):
        storage.create("b", b"1")


def test_a_store_that_does_not_know_the_checksum_of_a_removal_is_asked_for_each_object(storage, aws):
    for name in ("d/a", "d/b", "e"):
        storage.create(name, b"1")
    aws.fail({"path": "^/mimic-tests/?$", "method": "POST", "query": "delete", "status": 400, "code": "MissingContentMD5"})
    storage.discard("d")
    assert [file.name for file in storage.files("")] == ["e"]


def test_what_is_removed_takes_no_appends_of_another_object_with_it(storage):
    storage.append("history", b"1")
    storage.append("history-of-another", b"2")
    storage.remove("history")
    assert storage.read("history-of-another") == b"2"


def test_requests_that_are_to_slow_down_are_made_again(storage, aws):
    write(storage, "a", b"1")
    aws.fail({"path": "/objects/a", "status": 503, "times": 2})
    assert storage.read("a") == b"1"
    aws.fail({"path": "/objects/a", "status": 503})
    with pytest.raises(StorageError, match=r"objects/a: cannot be read: too many requests; it was asked"):
        storage.read("a")


def test_denied_access_says_what_was_denied_and_is_not_tried_again(storage, aws):
    aws.fail({"path": "/objects/a", "status": 403})
    before = len(aws.requests())
    for failed, call in (
        ("cannot be read", lambda: storage.read("a")),
        ("could not be written", lambda: write(storage, "a", b"1")),
        ("could not be written", lambda: storage.create("a", b"1")),
    ):
        with pytest.raises(
            StorageError, match=rf"s3://mimic-tests/objects/a: {failed}: access is denied; .*role `mimic doctor`"
        ):
            call()
    assert len(aws.requests()) == before + 3


def test_a_bucket_that_is_not_there_is_no_missing_file(aws):
    elsewhere = S3Storage("s3://mimic-elsewhere/objects")
    for call in (lambda: elsewhere.read("a"), lambda: write(elsewhere, "a", b""), lambda: list(elsewhere.files(""))):
        with pytest.raises(StorageError, match=r"there is no such bucket; .*make it, or mend its name in MIMIC_ARTEFACTS"):
            call()


def test_an_answer_that_breaks_off_is_read_again_and_a_slow_one_is_waited_for(storage, aws):
    write(storage, "a", b"1" * 300_000)
    aws.fail({"path": "/objects/a", "method": "GET", "cut": 1000, "times": 1})
    assert len(storage.read("a")) == 300_000
    aws.fail({"path": "/objects/a", "method": "GET", "rate": 1_000_000})
    assert len(storage.read("a")) == 300_000


def test_nobody_at_the_address_is_named_with_the_setting(storage, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_clients()
    with pytest.raises(StorageError, match=r"Could not connect to the endpoint URL.*check the network and AWS_ENDPOINT_URL"):
        storage.read("a")


def test_a_store_without_checksums_of_requests_is_told_by_a_setting(storage, aws, monkeypatch):
    aws.fail({"method": "PUT", "header": "x-amz-sdk-checksum-algorithm", "status": 501})
    with pytest.raises(StorageError, match="set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"):
        write(storage, "a", b"1")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    forget_clients()
    before = len(aws.requests())
    write(storage, "a", b"1")
    assert "x_amz" not in aws.requests()[before]
    assert storage.read("a") == b"1"


def test_no_credentials_and_no_region_say_how_to_give_them(storage, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_clients()
    with pytest.raises(StorageError, match=r"Unable to locate credentials; log in again, such as by `aws sso login"):
        storage.read("a")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    forget_clients()
    with pytest.raises(StorageError, match="glue: cannot be reached: no region is set; set AWS_DEFAULT_REGION"):
        client("glue")


def test_an_endpoint_that_is_no_url_is_refused(storage, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    forget_clients()
    with pytest.raises(StorageError, match=r"s3: Invalid endpoint: 127\.0\.0\.1:9000; let AWS_ENDPOINT_URL be"):
        storage.read("a")


# ---- leases


def test_a_lease_of_a_process_that_died_is_taken_over_and_one_that_lives_is_not(storage, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    dead = leases._Held(storage, ".locks/x", "x")
    dead.take()
    began = time.monotonic()
    living = leases._Held(storage, ".locks/x", "x")
    living.take()
    assert time.monotonic() - began >= 1.0
    thread = threading.Thread(target=living.renew_until_done)
    thread.start()
    waiting = leases._Held(storage, ".locks/x", "x")
    taken = threading.Thread(target=waiting.take, daemon=True)
    taken.start()
    taken.join(2.5)
    assert taken.is_alive()  # it waits longer than a lease lasts, as this one is renewed
    living.done.set()
    thread.join()
    living.free()
    taken.join(5)
    assert not taken.is_alive()


def test_a_process_that_lost_its_lease_does_not_free_that_of_another(storage):
    first = leases._Held(storage, ".locks/x", "x")
    first.take()
    second = leases._Held(storage, ".locks/x", "x")
    second._tag = second._write(first._tag, free=False)  # as after a pause of the first
    first.free()
    assert second._look() == (second._tag, False)


def test_a_renewal_whose_answers_were_lost_keeps_the_lease(storage):
    held = leases._Held(storage, ".locks/x", "x")
    held.take()
    known = held._tag
    renewed = held._write(known, free=False)  # of which nobody hears
    held.require()
    assert held._tag == renewed != known


def test_a_build_that_lost_its_lease_is_told_before_it_changes_a_table_and_so_is_who_retires(storage, monkeypatch):
    store = ArtefactStore(root=ROOT)
    lock = f".locks/{hashlib.sha256(b's/d').hexdigest()[:24]}"
    message = "s/d: this process was stopped for long, and another one took its turn; start again"

    def take_over(*_):
        return storage.swap(lock, b'{"free": true}', storage.read_tagged(lock)[1])

    with store.publishing("s/d", "v1", None) as publication:
        publication.prepare({"version": "v1"})
        publication.publish({"version": "v1"})
    with store.publishing("s/d", "v2", store.published("s/d")) as publication:
        mine = take_over()
        with pytest.raises(ConflictError, match=message):
            publication.prepare({"version": "v2"})
    assert storage.read_tagged(lock)[1] == mine
    monkeypatch.setattr(S3Storage, "status", take_over)
    with pytest.raises(ConflictError, match=message):
        store.unpublish("s/d")
    assert store.manifest("s/d")["version"] == "v1"


# ---- the cache


def entry(storage: S3Storage, name: str, data: bytes) -> dict[str, object]:
    with storage.writing(f"v/{name}") as file:
        file.write(data)
    return {"path": name, **file.entry}


def test_a_file_is_fetched_once_whatever_its_name(storage, aws, tmp_path):
    cache = FileCache(tmp_path)
    one, same = entry(storage, "a", b"1" * 1000), entry(storage, "b/c", b"1" * 1000)
    for entries in ([one], [one, same]):
        with cache.view(storage, "v", entries) as view:
            assert [(view / str(each["path"])).read_bytes() for each in entries] == [b"1" * 1000] * len(entries)
    assert len([request for request in aws.requests() if request.startswith("GET /mimic-tests/objects/v/")]) == 1
    assert not view.exists()


def test_the_cache_keeps_so_many_bytes_of_files_that_nobody_uses(storage, tmp_path):
    cache = FileCache(tmp_path, most_bytes=2500)
    entries = [entry(storage, str(number), bytes([number]) * 1000) for number in range(4)]
    with cache.view(storage, "v", entries[:3]) as view, cache.view(storage, "v", entries[3:]):
        assert (view / "0").read_bytes() == b"\0" * 1000  # it is in use, though there are too many
        assert len(list((tmp_path / "files").iterdir())) == 4
    assert len(list((tmp_path / "files").iterdir())) == 2
    with cache.view(storage, "v", entries[:1]) as view:
        assert (view / "0").read_bytes() == b"\0" * 1000


def test_a_file_that_is_another_one_than_its_entry_says_is_refused(storage, tmp_path):
    wrong = entry(storage, "a", b"1") | {"sha256": "0" * 64}
    with (
        pytest.raises(CorruptFileError, match=r"s3://mimic-tests/objects/v/a: damaged"),
        FileCache(tmp_path).view(storage, "v", [wrong]),
    ):
        pass
    gone = wrong | {"path": "b"}
    with (
        pytest.raises(NotFoundError, match=r"objects/v/b: this file is gone"),
        FileCache(tmp_path).view(storage, "v", [gone]),
    ):
        pass
    assert list((tmp_path / "files").iterdir()) == list((tmp_path / "coming").iterdir()) == []


def test_a_copy_that_was_damaged_here_is_fetched_anew(storage, tmp_path):
    one = entry(storage, "a", b"1" * 1000)
    with FileCache(tmp_path).view(storage, "v", [one]):
        pass
    (kept,) = (tmp_path / "files").iterdir()
    kept.write_bytes(b"1")
    with FileCache(tmp_path).view(storage, "v", [one]) as view:
        assert (view / "a").stat().st_size == 1000


def test_what_a_killed_process_had_in_use_is_forgotten(storage, aws, tmp_path):
    one = entry(storage, "a", b"1")
    code = f"""
import os, signal
from pathlib import Path
from resources.file_cache import FileCache
from resources.s3_storage import S3Storage
with FileCache(Path({str(tmp_path)!r})).view(S3Storage({ROOT!r}), "v", [{one!r}]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert len(list((tmp_path / "views").glob("*/a"))) == 1
    with FileCache(tmp_path).view(storage, "v", [one]):
        pass
    assert list((tmp_path / "views").iterdir()) == []


def test_files_are_used_while_others_are_still_coming_and_what_is_not_waited_for_is_not_fetched(storage, aws, tmp_path):
    entries = [entry(storage, f"{number:02d}", bytes([number]) * 1000) for number in range(40)]
    aws.fail({"path": "/v/", "method": "GET", "seconds": 0.2})
    with FileCache(tmp_path).coming(storage, "v", entries) as coming:
        coming.wait(coming.folder / "00")
        assert (coming.folder / "00").read_bytes() == b"\0" * 1000
        assert not (coming.folder / "39").exists()
    assert len([request for request in aws.requests() if request.startswith("GET /mimic-tests/objects/v/")]) < 40


def test_a_full_disk_under_the_cache_says_where_to_have_another(storage, tmp_path, monkeypatch):
    one = entry(storage, "a", b"1" * 1000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(S3Storage, "download", full)
    with (
        pytest.raises(StorageError, match=r"No space left on device; .* let MIMIC_CACHE name a folder with more"),
        FileCache(tmp_path).view(storage, "v", [one]),
    ):
        pass


def test_a_local_root_is_read_where_it_is(tmp_path):
    store = ArtefactStore(root=str(tmp_path))
    with store.local_folder("a", []) as folder:
        assert folder == Path(tmp_path) / "a"
    with suppress(FileNotFoundError):
        assert not (tmp_path / "files").exists()
