"""Garbage collection: every category goes once it is old enough, and everything else stays."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mimic_core.configs import parse_spec
from mimic_core.errors import NotFoundError, StorageError
from mimic_core.specs import DatasetSpec
from resources.environments import local_resources
from resources.garbage import (
    ABANDONED,
    ABANDONED_TRAINING,
    CUT_OFF,
    HANDED_OVER,
    OLD_SPEC,
    SUPERSEDED,
    Collected,
    collect_garbage,
)
from resources.maintenance import Terms
from resources.usage import InUse

OLD, NEW, LOST = "20260101T000000Z-aaaaaaaa", "20260102T000000Z-bbbbbbbb", "20260103T000000Z-cccccccc"
DAY = 24 * 3600.0


class Store:
    """An object storage with the verbs of garbage collection; what is written is older with every day given."""

    def __init__(self, home: Path) -> None:
        resources = local_resources(home)
        self.artefacts, self.specs = resources["artefacts"], resources["specs"]
        self.root = Path(self.artefacts.root)

    def write(self, *names: str) -> None:
        for name in names:
            self.artefacts.write(name, [b"12345"])

    def publish(self, folder: str, version: str, **facts: object) -> None:
        with self.artefacts.publishing(folder, version, self.artefacts.published(folder)) as publication:
            publication.publish({"version": version, **facts})

    def register(self, **changes: object) -> str:
        document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s"}
        spec = parse_spec(DatasetSpec, document | {"dataset": "d"} | changes)
        return self.specs.register(spec).digest

    def collect(self, days: float = 2, *, dry_run: bool = False, **in_use: object) -> Collected:
        used = InUse(asked=time.time() + days * DAY, **in_use)
        return collect_garbage(self.artefacts, self.specs, Terms(in_use=used, dry_run=dry_run))

    def names(self) -> set[str]:
        """All files and folders, except those of locks."""
        found = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
        return {name for name in found if not name.startswith(".locks")}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "mimic")


def found(collected: Collected) -> set[tuple[str, str, int]]:
    return {(item.reason, item.path, item.bytes) for item in collected.garbage}


@pytest.mark.parametrize("folder", ["s-tfrecords/d", "s-models/e/0123", "s-inferences/haven.scored/e/0123", "s-reports/e"])
def test_versions_that_the_manifest_does_not_name_go(store, folder):
    store.write(f"{folder}/{OLD}/train/a", f"{folder}/{OLD}/b", f"{folder}/{NEW}/a", f"{folder}/{LOST}/a")
    store.publish(folder, NEW)
    assert found(store.collect()) == {(SUPERSEDED, f"{folder}/{OLD}", 10), (ABANDONED, f"{folder}/{LOST}", 5)}
    parents = {str(parent) for parent in Path(folder).parents} - {"."}
    assert store.names() == parents | {folder, f"{folder}/manifest.json", f"{folder}/{NEW}", f"{folder}/{NEW}/a"}
    assert found(store.collect()) == set()


def test_a_version_that_another_took_the_place_of_within_one_second_is_a_superseded_one(store):
    store.write("s-tfrecords/d/20260102T000000Z-cccccccc/a")
    store.publish("s-tfrecords/d", NEW)
    assert {item.reason for item in store.collect().garbage} == {SUPERSEDED}


def test_a_version_stays_for_the_grace_period_after_another_took_its_place(store):
    store.write(f"s-tfrecords/d/{OLD}/a")
    long_ago = time.time() - 30 * DAY
    os.utime(store.root / f"s-tfrecords/d/{OLD}/a", (long_ago, long_ago))
    store.publish("s-tfrecords/d", NEW)
    assert found(store.collect(0.9)) == set()
    assert len(found(store.collect(1.1))) == 1


def test_versions_that_unfinished_runs_write_or_may_read_stay(store):
    store.write(f"s-tfrecords/d/{OLD}/a", f"s-tfrecords/d/{LOST}/a")
    store.publish("s-tfrecords/d", NEW)
    assert found(store.collect(since=time.time() - 60)) == set()
    long_ago, run = time.time() + DAY, "cccccccc-1111-2222-3333-444444444444"
    assert found(store.collect(since=long_ago, runs=frozenset({run}))) == {(SUPERSEDED, f"s-tfrecords/d/{OLD}", 5)}


def test_the_files_of_a_partition_that_is_not_published_go_with_its_empty_folders(store):
    store.write(f"s-models/e/0123/{OLD}/model.keras", "s-models/f/mine.txt")
    assert found(store.collect()) == {(ABANDONED, f"s-models/e/0123/{OLD}", 5)}
    assert store.names() == {"s-models", "s-models/f", "s-models/f/mine.txt"}


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(store):
    store.write("s-tfrecords/d/.writing-abc", "specs/tfrecord_dataset/s/d/.writing-def", "s-tfrecords/d/manifest.txt")
    assert found(store.collect(since=time.time() - 60)) == set()
    names = {"s-tfrecords/d/.writing-abc", "specs/tfrecord_dataset/s/d/.writing-def"}
    assert found(store.collect()) == {(CUT_OFF, name, 5) for name in names}
    assert store.names() == {"s-tfrecords", "s-tfrecords/d", "s-tfrecords/d/manifest.txt"}


def test_the_object_storage_may_be_a_link_to_another_disk(store, tmp_path):
    (tmp_path / "disk").mkdir()
    store.root.parent.mkdir()
    store.root.symlink_to(tmp_path / "disk")
    store.write(f"s-tfrecords/d/{OLD}/a", "s-tfrecords/d/.writing-a")
    store.publish("s-tfrecords/d", NEW)
    assert {item.reason for item in store.collect().garbage} == {SUPERSEDED, CUT_OFF}
    assert {path.name for path in (tmp_path / "disk/s-tfrecords/d").iterdir()} == {"manifest.json"}


def test_what_lies_in_folders_that_mimic_does_not_name_stays(store):
    store.write("mine/.writing-a")
    (store.root / "own/empty").mkdir(parents=True)
    before = store.names()
    assert found(store.collect(30)) == set()
    assert store.names() == before


def test_a_collection_waits_for_a_publication_in_progress(store):
    with ThreadPoolExecutor(1) as pool, store.artefacts.publishing("s-tfrecords/d", NEW, None) as publication:
        store.write(f"s-tfrecords/d/{NEW}/a")
        collecting = pool.submit(store.collect)
        with pytest.raises(TimeoutError):
            collecting.result(0.3)
        publication.publish({"version": NEW, "files": [{"path": "a"}]})
    assert found(collecting.result()) == set()
    assert f"s-tfrecords/d/{NEW}/a" in store.names()


def test_old_specs_go_except_the_one_that_is_built_and_the_newest(store):
    digests = [store.register(max_choices=number) for number in range(2, 6)]
    store.publish("s-tfrecords/d", NEW, spec_digest=digests[1])
    assert found(store.collect(0.9)) == set()
    removed = {(reason, path) for reason, path, _ in found(store.collect())}
    assert removed == {(OLD_SPEC, f"specs/tfrecord_dataset/s/d/00000{number}.json") for number in (1, 3)}
    assert store.specs.get(DatasetSpec, "s/d").digest == digests[3]
    assert store.register(max_choices=9) != digests[3]
    assert "specs/tfrecord_dataset/s/d/000005.json" in store.names()


def test_a_spec_that_was_never_built_stays(store):
    store.register()
    assert found(store.collect()) == set()
    assert store.specs.registered("tfrecord_dataset") == ["s/d"]


def test_a_partition_whose_manifest_is_damaged_is_left_alone_and_named(store):
    store.register(max_choices=2)
    store.register(max_choices=3)
    for folder in ("s-tfrecords/d", "s-tfrecords/other"):
        store.write(f"{folder}/{OLD}/a", f"{folder}/.writing-a")
        store.publish(folder, NEW)
    (store.root / "s-tfrecords/d/manifest.json").write_bytes(b"{}")
    before = {name for name in store.names() if name.startswith(("s-tfrecords/d", "specs/"))}
    collected = store.collect()
    assert {item.path for item in collected.garbage} == {f"s-tfrecords/other/{OLD}", "s-tfrecords/other/.writing-a"}
    (message,) = collected.left
    assert "s-tfrecords/d/manifest.json: damaged" in message
    assert before <= store.names()


def test_a_damaged_spec_is_left_alone_and_named(store):
    for number in (2, 3, 4):
        store.register(max_choices=number)
    (store.root / "specs/tfrecord_dataset/s/d/000001.json").write_bytes(b"{}")
    before = store.names()
    (message,) = store.collect().left
    assert "000001.json: damaged" in message
    assert store.names() == before


def test_a_dataset_whose_name_looks_like_a_version_is_none(store):
    store.write(f"s-tfrecords/{OLD}/{NEW}/a")
    store.publish(f"s-tfrecords/{OLD}", NEW)
    before = store.names()
    assert found(store.collect()) == set()
    assert store.names() == before


def test_nothing_behind_a_link_and_nothing_of_a_users_own_goes(store, tmp_path):
    own = tmp_path / "own"
    (own / OLD).mkdir(parents=True)
    for name in (f"{OLD}/a", ".writing-a"):
        (own / name).write_text("mine")
    store.write("s-tfrecords/d/notes.txt", f"notes/{OLD}/a", f"s-tfrecords/d/{OLD}-copy/a")
    for link in ("s-tfrecords/d/link", "s-tfrecords/link", f"s-tfrecords/d/{NEW}"):
        (store.root / link).symlink_to(own)
    before = store.names()
    assert found(store.collect()) == set()
    assert store.names() == before
    assert (own / OLD / "a").read_text() == "mine"


def test_folders_that_were_empty_for_long_go_and_new_ones_stay(store):
    (store.root / "s-tfrecords/d").mkdir(parents=True)
    store.collect(0.5)
    assert store.names() == {"s-tfrecords", "s-tfrecords/d"}
    store.collect(2)
    assert "s-tfrecords/d" not in store.names()
    assert store.root.is_dir()


def test_a_dry_run_lists_the_same_and_changes_nothing(store):
    store.register(max_choices=2)
    store.register(max_choices=3)
    store.write(f"s-tfrecords/d/{OLD}/a", "s-tfrecords/d/.writing-a")
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    said = store.collect(dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    assert {item.reason for item in said.garbage} == {ABANDONED, OLD_SPEC, CUT_OFF}
    assert (store.collect(), store.collect()) == (said, Collected(garbage=(), left=()))


def test_without_anything_stored_there_is_nothing_to_collect(store):
    assert store.collect() == Collected(garbage=(), left=())


def test_a_build_whose_files_were_collected_before_it_was_executed_again_publishes_nothing(store):
    entry = {"path": "train/a", "bytes": 5}
    with (
        pytest.raises(NotFoundError, match=r"1 files of this build are gone, such as train/a; start it again"),
        store.artefacts.publishing("s-tfrecords/d", NEW, None) as publication,
    ):
        publication.publish({"version": NEW, "files": [entry]})
    assert store.artefacts.manifest("s-tfrecords/d") is None


def test_two_collections_at_once_remove_everything_once_between_them(store):
    for number in range(20):
        store.write(f"s-models/e/{number:04d}/{OLD}/a", f"s-models/e/{number:04d}/.writing-a")
    for number in range(2, 12):
        store.register(max_choices=number)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: store.collect(), range(2))
    assert (first.left, second.left) == ((), ())
    assert len(first.garbage) + len(second.garbage) == len(found(first) | found(second)) == 49
    assert store.names() == {"specs", "specs/tfrecord_dataset", "specs/tfrecord_dataset/s", "specs/tfrecord_dataset/s/d"} | {
        "specs/tfrecord_dataset/s/d/000010.json"
    }


def test_folders_that_may_not_be_changed_are_said_so(store, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    store.write(f"s-tfrecords/d/{OLD}/a")
    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(StorageError, match="Permission denied; what is left can be removed later"):
        store.collect()


def test_what_a_training_left_that_never_went_on_goes_and_a_training_that_is_in_progress_stays(store):
    store.write("s-models/e/0123/training/history.jsonl", "s-models/e/0123/training/checkpoint-01", "s-tfrecords/training/a")
    assert found(store.collect(days=0.5)) == set()
    began = {"since": time.time() - DAY, "runs": frozenset({"0" * 36})}
    assert found(store.collect(**began)) == set()
    assert found(store.collect()) == {(ABANDONED_TRAINING, "s-models/e/0123/training", 10)}
    assert store.names() == {"s-tfrecords", "s-tfrecords/training", "s-tfrecords/training/a"}


def test_what_steps_handed_to_each_other_goes_once_its_run_and_those_that_go_on_from_it_have_ended(store):
    ended, unfinished = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab")
    store.write(f"steps/{ended}/plan/result", f"steps/{ended}/part/result", f"steps/{unfinished}/plan/result")
    store.write(f"steps/storage/{ended}/plan/result", "steps/recipe/1")  # as S3 has them; and something else of a person
    assert found(store.collect(days=0.5)) == set()
    expected = {(HANDED_OVER, f"steps/{ended}", 10), (HANDED_OVER, f"steps/storage/{ended}", 5)}
    assert found(store.collect(runs=frozenset({unfinished}))) == expected
    assert store.names() >= {f"steps/{unfinished}/plan/result", "steps/recipe/1"}
    assert not store.names() & {f"steps/{ended}", f"steps/storage/{ended}"}


def test_a_folder_called_training_that_holds_other_files_is_left_alone(store):
    store.write("ranking-models/churn/v2/training/notes.txt", "ranking-models/churn/v2/training/history.jsonl")
    assert found(store.collect()) == set()
