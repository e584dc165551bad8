"""What a training leaves beside the versions of its run: its history, a checkpoint of its version, and what is published."""

import pytest

from resources.artefacts import ArtefactStore
from resources.trainings import (
    append_epoch,
    begin_training,
    end_training,
    epochs_are_published,
    epochs_so_far,
    note_published,
    read_checkpoint,
    write_checkpoint,
)

RUN, VERSION, OTHER = "s-models/e/0123", "a" * 64, "b" * 64


@pytest.fixture(params=["files", "s3"])
def artefacts(request, tmp_path) -> ArtefactStore:
    if request.param == "s3":
        request.getfixturevalue("aws")
    return ArtefactStore(root=str(tmp_path) if request.param == "files" else "s3://mimic-tests/objects")


def test_the_history_grows_and_a_line_that_was_cut_off_does_not_count(artefacts):
    assert epochs_so_far(artefacts, RUN) == []
    begin_training(artefacts, RUN, VERSION, [])
    for epoch in (1, 2):
        append_epoch(artefacts, RUN, {"epoch": epoch})
    artefacts.append(f"{RUN}/training/history.jsonl", b'{"epo')
    assert epochs_so_far(artefacts, RUN) == [{"epoch": 1}, {"epoch": 2}]
    for epoch in (3, 4, 4):  # the first of them on the line that was cut off, the last by a second training
        append_epoch(artefacts, RUN, {"epoch": epoch})
    assert [epoch["epoch"] for epoch in epochs_so_far(artefacts, RUN)] == [1, 2, 4]


def test_a_training_that_goes_on_keeps_its_checkpoint_and_writes_its_history_again(artefacts):
    write_checkpoint(artefacts, RUN, VERSION, b"state")
    artefacts.append(f"{RUN}/training/history.jsonl", b'{"epo')
    begin_training(artefacts, RUN, VERSION, [{"epoch": 1}])
    assert read_checkpoint(artefacts, RUN, VERSION)[0] == b"state"
    append_epoch(artefacts, RUN, {"epoch": 2})
    assert [epoch["epoch"] for epoch in epochs_so_far(artefacts, RUN)] == [1, 2]


def test_a_checkpoint_of_another_version_is_none_and_goes_when_a_training_begins(artefacts):
    write_checkpoint(artefacts, RUN, VERSION, b"state")
    assert read_checkpoint(artefacts, RUN, OTHER)[0] is None
    begin_training(artefacts, RUN, OTHER, [])
    assert artefacts.names(f"{RUN}/training") == ["history.jsonl"]


def test_epochs_are_published_until_there_is_another_one(artefacts):
    begin_training(artefacts, RUN, VERSION, [{"epoch": 1}])
    assert not epochs_are_published(artefacts, RUN)
    note_published(artefacts, RUN)
    assert epochs_are_published(artefacts, RUN)
    append_epoch(artefacts, RUN, {"epoch": 2})
    assert not epochs_are_published(artefacts, RUN)
    end_training(artefacts, RUN)
    assert artefacts.names(f"{RUN}/training") == []
