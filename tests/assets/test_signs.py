"""What the steps say while they work and when they are done."""

import re

import pytest

from mimic_assets.signs import Signs
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, PartitionSpec, RunSpec

TABLE = {"database": "haven", "table": "features", "train_partitions": 1, "test_partitions": 1}
FEATURES = {"features": ["size", "age"], "space": "s"}


class Step:
    """A step with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.said: list[str] = []
        self.signs = Signs(self.said.append, "part_00000", lambda: self.now)

    def after(self, seconds: float, stage: str, done: int, total: int | None) -> None:
        self.now += seconds
        self.signs.at(stage, done, total)


def test_a_long_stage_says_every_five_seconds_how_much_of_it_is_left():
    step = Step()
    for second in range(1, 21):
        step.after(1, "read", 100_000 * second, 2_000_000)
    assert step.said == [
        "part_00000: read 500,000 of 2,000,000 rows (25%), about 15 s left",
        "part_00000: read 1,000,000 of 2,000,000 rows (50%), about 10 s left",
        "part_00000: read 1,500,000 of 2,000,000 rows (75%), about 5.0 s left",
    ]


def test_a_step_of_a_few_seconds_says_nothing_on_the_way():
    step = Step()
    step.after(4.9, "read", 9, 10)
    assert step.said == []


def test_every_pass_over_the_same_rows_has_a_pace_of_its_own():
    step = Step()
    step.after(60, "read", 10, 10)
    step.after(6, "read", 5, 10)
    assert step.said == ["part_00000: read 5 of 10 rows (50%), about 6.0 s left"]


def test_what_is_left_of_a_stage_is_told_by_its_own_pace():
    step = Step()
    step.after(100, "read", 10, 10)
    assert step.said == []
    step.after(6, "done", 1, 4)
    step.after(6, "done", 2, None)
    assert step.said == ["part_00000: done 1 of 4 rows (25%), about 18 s left", "part_00000: done 2 rows so far"]


# ---- the logs of the steps


@pytest.fixture(scope="module")
def logs(shared_platform, decision_table):
    """The lines of the logs of each step, durations left out."""
    shared_platform.imported(decision_table())
    trained = parse_spec(
        RunSpec,
        FEATURES
        | {"experiment_name": "e", "dataset": "d", "max_choices": 3, "database": "haven", "table": "results"}
        | {"model": {"layers": ["D4"], "epochs": 2, "batch_size": 4, "seed": 1}},
    )
    specs: list[PartitionSpec] = [
        parse_spec(
            ContrastSpec,
            {"database": "haven", "source_table": "features", "destination_table": "pairs", "train_partitions": 1}
            | {"test_partitions": 1, "decisions_per_individual": 2, "alternatives_per_decision": 1},
        ),
        parse_spec(DatasetSpec, TABLE | FEATURES | {"dataset": "d", "max_choices": 3, "missing_values_map": {"size": 0}}),
        trained,
        parse_spec(
            InferenceSpec, TABLE | FEATURES | {"experiment_name": "e", "run_id": trained.run_id, "upload_table": "scored"}
        ),
    ]
    shared_platform.built(*specs)
    found: dict[str, list[str]] = {}
    for run in shared_platform.instance.get_runs():
        for entry in shared_platform.instance.all_logs(run.run_id):
            if entry.dagster_event is None and entry.level > 10:
                name = (entry.step_key or "").rpartition(".")[2].partition("[")[0]
                found.setdefault(name, []).append(_without_numbers(entry.user_message))
    return found


def _without_numbers(line: str) -> str:
    line = re.sub(r"^run [0-9a-f]{8}", "run RUN", line)
    line = re.sub(r"version \S+?(?=[:,]|$)", "version V", line)
    line = re.sub(r"\d+(\.\d+)? s\b", "N s", line)
    return re.sub(r"\d+(\.\d+)? (kB|bytes)", "N bytes", line)


READ = "part_00000: read 42 rows of table haven.features (N bytes in memory), in N s"
PLANNED = "table haven.features: 42 rows, version V, to be read by 1 step"
SAID = {
    "plan_contrasts": [PLANNED],
    "sample_part": [READ, "part_00000: wrote 24 rows (N bytes), pairs from 18 decisions"],
    "publish_contrasts": ["table haven.pairs: published version V: 24 rows, 12 decisions, N bytes; the build took N s"],
    "plan_dataset": [PLANNED],
    "build_dataset_part": [
        READ,
        "wrote train/00000-of-00001.tfrecord: 15 decisions, N bytes",
        "wrote test/00000-of-00001.tfrecord: 3 decisions, N bytes",
    ],
    "publish_dataset": ["published version V: 42 rows, 18 decisions, N bytes; the build took N s"],
    "model_run": [
        "dataset s/d, version V: 15 training and 3 test decisions, N bytes, opened in N s",
        "trains D4, at most 2 epochs of batches of 4",
        "published version V: 2 epochs, N bytes; the build took N s",
    ],
    "plan_inference": ["run RUN, version V", PLANNED],
    "score_part": [READ, "part_00000: wrote 42 scored rows (N bytes)"],
    "publish_inference": ["table haven.scored: published version V: 42 rows, 18 decisions, N bytes; the build took N s"],
}


def test_every_step_says_what_it_read_and_wrote_and_how_long_that_took(logs):
    assert {step: [line for line in lines if "%" not in line] for step, lines in logs.items()} == SAID
