"""Sensors: which runs the daemon would start by itself, and which it would not."""

import dagster as dg
import pytest

from mimic_assets.forms import example
from mimic_assets.jobs import REGISTRATION
from mimic_assets.sensors.registered import build_registered
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec

NAMES = {ContrastSpec: "contrast_set", DatasetSpec: "dataset", ExperimentSpec: "experiment", InferenceSpec: "inference"}
KINDS = [pytest.param(kind, id=name) for kind, name in NAMES.items()]
BUILDS = {
    ContrastSpec: "build_contrast",
    DatasetSpec: "build_dataset",
    ExperimentSpec: "train_run",
    InferenceSpec: "infer_batch",
}


def dataset(**changes):
    document = {"database": "haven", "table": "features", "max_choices": 3, "features": ["age"], "space": "s"}
    return document | {"dataset": "d"} | changes


def execute(platform, kind, **changes):
    """Launch the example form of a kind, with changes."""
    job = platform.definitions().resolve_job_def(f"register_{NAMES[kind]}")
    config = {"ops": {f"{NAMES[kind]}_form": {"config": example(kind) | changes}}}
    return job.execute_in_process(run_config=config, instance=platform.instance, raise_on_error=False)


class Daemon:
    """The sensor daemon over a platform: each tick goes on where the last one ended."""

    def __init__(self, platform):
        self.platform, self.cursor = platform, None

    def tick(self):
        """Evaluate the sensor once; returns its requests, resolved against the jobs and the partitions that there are."""
        definitions, instance = self.platform.definitions(), self.platform.instance
        context = dg.build_sensor_context(instance, self.cursor, sensor_name="build_registered", definitions=definitions)
        with dg.partition_loading_context(dynamic_partitions_store=instance):
            data = definitions.resolve_sensor_def("build_registered").evaluate_tick(context)
        self.cursor = data.cursor
        return data.run_requests


@pytest.fixture
def daemon(platform):
    return Daemon(platform)


def test_the_sensor_runs_unless_it_is_stopped_and_may_start_the_four_builds():
    assert build_registered.default_status is dg.DefaultSensorStatus.RUNNING
    assert {job.name for job in build_registered.jobs} == set(BUILDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_registration_that_asks_for_builds_gets_one_run_for_each_partition(daemon, kind):
    result = execute(daemon.platform, kind, build=True)
    keys = result.output_for_node(f"{NAMES[kind]}_form")
    expected = [(BUILDS[kind], key, f"{result.run_id}:{key}") for key in keys]
    assert [(request.job_name, request.partition_key, request.run_key) for request in daemon.tick()] == expected
    assert len(keys) == (2 if kind is ExperimentSpec else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_registration_that_asks_for_no_build_gets_no_run(daemon, kind):
    execute(daemon.platform, kind, build=False)
    assert daemon.tick() == []


def test_a_registration_that_failed_gets_no_run(daemon):
    assert not execute(daemon.platform, DatasetSpec, build=True, specs=[dataset(max_choices=0)]).success
    assert daemon.tick() == []


def test_a_registration_is_answered_once(daemon):
    execute(daemon.platform, DatasetSpec, build=True)
    assert len(daemon.tick()) == 1
    assert daemon.tick() == []


def test_registering_again_asks_for_a_build_again(daemon):
    runs = [execute(daemon.platform, DatasetSpec, build=True).run_id for _ in range(2)]
    assert [request.run_key for request in daemon.tick()] == [f"{run}:mimic-log-odds/example-dataset" for run in runs]


def test_registrations_between_two_ticks_are_all_answered(daemon):
    for number, build in enumerate((True, False, True, True)):
        execute(daemon.platform, DatasetSpec, build=build, specs=[dataset(dataset=f"d{number}")])
    execute(daemon.platform, ContrastSpec, build=True)
    requested = [request.partition_key for request in daemon.tick()]
    assert requested == ["s/d0", "s/d2", "s/d3", "haven.example_log_odds_contrasts"]


def test_many_partitions_are_requested_at_once(daemon):
    specs = [dataset(dataset=f"d{number:03}") for number in range(200)]
    execute(daemon.platform, DatasetSpec, build=True, specs=specs)
    requests = daemon.tick()
    assert [request.partition_key for request in requests] == [f"s/d{number:03}" for number in range(200)]
    assert len({request.run_key for request in requests}) == 200


def test_the_run_that_is_requested_builds_the_partition_and_is_itself_no_registration(daemon, decision_table):
    daemon.platform.imported(decision_table())
    execute(daemon.platform, DatasetSpec, build=True, specs=[dataset()])
    (request,) = daemon.tick()
    job = daemon.platform.definitions().resolve_job_def(request.job_name)
    assert job.execute_in_process(instance=daemon.platform.instance, tags=request.tags).success
    assert daemon.platform.artefacts.manifest("s-tfrecords/d") is not None
    assert daemon.tick() == []


def test_a_job_of_another_name_is_not_listened_to(daemon):
    @dg.op
    def nothing():
        pass

    @dg.job
    def unrelated():
        nothing()

    assert unrelated.execute_in_process(instance=daemon.platform.instance).success
    assert daemon.tick() == []
    assert {job.name for job in REGISTRATION} == {f"register_{name}" for name in NAMES.values()}


def test_a_partition_that_was_removed_before_the_tick_is_not_built_and_holds_up_nothing(daemon):
    execute(daemon.platform, DatasetSpec, build=True)
    daemon.platform.instance.delete_dynamic_partition("tfrecord_datasets", "mimic-log-odds/example-dataset")
    execute(daemon.platform, DatasetSpec, build=True, specs=[dataset()])
    assert [request.partition_key for request in daemon.tick()] == ["s/d"]


def test_a_tick_that_fails_loses_nothing(daemon, monkeypatch):
    execute(daemon.platform, DatasetSpec, build=True)
    with monkeypatch.context() as patch:
        patch.setattr(dg.DagsterInstance, "get_dynamic_partitions", locked)
        with pytest.raises(OSError, match="database is locked"):
            daemon.tick()
    assert len(daemon.tick()) == 1


def locked(*_):
    raise OSError("database is locked")
