"""What a step gets, by what it declares, what the deployment says and what its spec asks for, and its pod by that."""

import json
from types import SimpleNamespace

import dagster as dg
import pytest

from mimic_core.compute import ComputeSpec
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError
from mimic_core.specs import DatasetSpec, ExperimentSpec
from resources.compute import LITTLE, StepCompute, needs
from resources.environments import executor, in_cluster, local_resources, step_compute
from resources.k8s_pods import THREADS, container_config, pod_config
from resources.step_jobs import step_jobs

DATASET = {"database": "d", "table": "t", "max_choices": 3, "features": ["x"], "space": "s", "dataset": "d"}
EXPERIMENT = {
    "experiment_name": "e",
    "space": "s",
    "dataset": "d",
    "max_choices": 3,
    "features": ["x"],
    "database": "d",
    "table": "r",
    "models": [{"layers": []}],
}
SHARD, PLAN = "tfrecord_dataset.build_dataset_part[part_00000]", "tfrecord_dataset.plan_dataset"
BUILDS = needs(cpu="1", memory="4Gi")


def compute(**values):
    return ComputeSpec.model_validate(values)


@pytest.fixture
def specs(home):
    return local_resources(home / "mimic")["specs"]


def test_a_step_that_declares_nothing_gets_little_and_one_that_does_what_it_declares(specs):
    steps = StepCompute(specs=specs)
    assert steps.of(PLAN, {}, "s/d") == LITTLE.model_copy(update={"gpu": 0})
    assert steps.of("model_run", needs(gpu=1, cpu="4", memory="16Gi"), "s/e/1").document == {
        "gpu": 1,
        "cpu": "4",
        "memory": "16Gi",
    }


def test_what_the_deployment_gives_a_stage_counts_more_and_what_a_spec_asks_for_most(specs):
    specs.register(parse_spec(DatasetSpec, DATASET | {"compute": {"cpu": "3"}}, "test"))
    steps = StepCompute(specs=specs, stages={"tfrecord_dataset": compute(cpu="2", memory="8Gi")})
    assert steps.of(SHARD, BUILDS, "s/d").document == {"gpu": 0, "cpu": "3", "memory": "8Gi"}
    assert steps.of("contrast_set.sample_part[x]", BUILDS, "s/d").document == {"gpu": 0, "cpu": "1", "memory": "4Gi"}


def test_a_gpu_goes_only_to_steps_that_may_have_one(specs):
    specs.register(parse_spec(DatasetSpec, DATASET | {"compute": {"gpu": 1}}, "test"))
    steps = StepCompute(specs=specs)
    assert (steps.of(SHARD, BUILDS, "s/d").gpu, steps.of(PLAN, {}, "s/d").gpu) == (1, 0)


@pytest.mark.parametrize(
    ("layers", "deployment", "asked", "gpus"),
    [
        (["D4"], None, None, 1),
        (["D4"], None, 0, 0),
        ([], None, None, 0),  # a linear model makes no use of one
        ([], 1, None, 1),
        ([], None, 1, 1),
        ([], 1, 0, 0),
    ],
)
def test_a_training_gets_a_gpu_unless_it_is_linear_or_asks_for_none(specs, layers, deployment, asked, gpus):
    compute_key = {} if asked is None else {"compute": {"gpu": asked}}
    (run,) = parse_spec(ExperimentSpec, EXPERIMENT | {"models": [{"layers": layers}]} | compute_key, "test").runs
    specs.register(run)
    steps = StepCompute(specs=specs, stages={} if deployment is None else {"model_run": compute(gpu=deployment)})
    found = steps.of("model_run", needs(gpu=1, cpu="4", memory="16Gi"), run.key)
    assert (found.gpu, found.cpu, found.memory) == (gpus, "4", "16Gi")


def test_a_partition_without_a_spec_is_left_to_the_step_to_tell(specs):
    assert StepCompute(specs=specs).of(SHARD, BUILDS, "s/nowhere").memory == "4Gi"
    assert StepCompute(specs=specs).of("overview", {}, None).memory == "2Gi"


def test_the_container_of_a_step_has_its_resources_in_place_of_all_others():
    inherited = {"resources": {"limits": {"cpu": "9", "ephemeral-storage": "1Gi"}}, "env": [{"name": "A", "value": "1"}]}
    found = container_config(inherited, compute(gpu=2, cpu="2500m", memory="3Gi"), None)
    given = {"cpu": "2500m", "memory": "3Gi", "nvidia.com/gpu": "2"}
    assert found["resources"] == {"requests": given, "limits": given}
    assert found["env"] == [{"name": "A", "value": "1"}, *({"name": name, "value": "2"} for name in THREADS)]
    assert inherited["resources"]["limits"]["cpu"] == "9"


def test_a_step_with_less_than_a_core_computes_in_one_thread_and_a_setting_of_the_deployment_stays():
    found = container_config({"env": [{"name": THREADS[0], "value": "7"}]}, compute(cpu="500m"), None)
    assert found["env"] == [{"name": THREADS[0], "value": "7"}, *({"name": name, "value": "1"} for name in THREADS[1:])]


def test_only_a_step_with_a_gpu_has_the_image_for_it():
    assert container_config({}, compute(gpu=1, cpu="1"), "mimic:gpu")["image"] == "mimic:gpu"
    assert "image" not in container_config({}, compute(gpu=0, cpu="1"), "mimic:gpu")


def test_a_pod_has_the_nodes_of_its_deployment_and_its_spec_and_one_with_a_gpu_bears_their_taint():
    gpus = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    spot = {"key": "spot", "operator": "Exists"}
    asked = compute(gpu=1, node_selector={"a": "1"}, tolerations=[spot])
    assert pod_config({"node_selector": {"b": "2"}, "tolerations": [{"key": "c"}], "dns_policy": "Default"}, asked) == {
        "node_selector": {"b": "2", "a": "1"},
        "tolerations": [{"key": "c"}, spot, gpus],
        "dns_policy": "Default",
    }
    assert pod_config({}, compute(gpu=1, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}])) == {
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    }
    assert pod_config({}, compute(cpu="1")) == {}


def test_the_environment_is_local_unless_it_is_told_otherwise(monkeypatch):
    monkeypatch.delenv("MIMIC_ENV", raising=False)
    assert not in_cluster()
    monkeypatch.setenv("MIMIC_ENV", "kubernets")
    with pytest.raises(SpecError, match=r"MIMIC_ENV is 'kubernets', expected 'local' or 'kubernetes'"):
        in_cluster()


def test_a_catalog_in_a_file_that_pods_share_is_refused(monkeypatch):
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.delenv("MIMIC_CATALOG", raising=False)
    with pytest.raises(SpecError, match=r"MIMIC_CATALOG is unset, so the catalog of tables would be a file of SQLite on a "):
        in_cluster()
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://somebody@host/catalog")
    assert in_cluster()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{", r"MIMIC_COMPUTE: this is not JSON: .*; expected \{\"model_run\""),
        ("[]", r"MIMIC_COMPUTE is \[\], expected an object with one for each asset, such as "),
        ('{"model_run": 3}', r'MIMIC_COMPUTE is \{"model_run": 3\}, expected an object with one for each asset, such as '),
        ('{"model_runs": {}}', r"MIMIC_COMPUTE: 'model_runs' is no asset \(did you mean 'model_run'\?\); the assets are "),
        ('{"model_run": {"memory": "4"}}', r'MIMIC_COMPUTE: model_run: memory: expected at least "64Mi", found \'4\''),
    ],
)
def test_a_wrong_setting_of_what_steps_get_says_what_is_expected(setting, message, monkeypatch):
    monkeypatch.setenv("MIMIC_COMPUTE", setting)
    with pytest.raises(SpecError, match=message):
        step_compute()


@dg.op
def step():
    pass


def test_whoever_launches_a_run_cannot_change_the_pods_of_its_steps(specs):
    job = dg.GraphDefinition("job", node_defs=[step]).to_job(executor_def=step_jobs(StepCompute(specs=specs)))
    assert dg.validate_run_config(job, {"execution": {"config": {"max_concurrent": 2}}})
    for key, value in {"env_vars": ["MIMIC_ALLOW_LAYERS_CODE=1"], "job_image": "theirs", "step_k8s_config": {}}.items():
        with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected config entry "{key}" at path root:execution'):
            dg.validate_run_config(job, {"execution": {"config": {key: value}}})


def test_a_cluster_whose_runs_are_no_jobs_is_told_so(specs):
    with dg.instance_for_test() as instance:
        context = SimpleNamespace(instance=instance, executor_config={})
        with pytest.raises(SpecError, match="runs are launched by DefaultRunLauncher, expected K8sRunLauncher"):
            step_jobs(StepCompute(specs=specs)).executor_creation_fn(context)


def test_the_executor_is_that_of_the_environment(specs, monkeypatch):
    monkeypatch.setenv("MIMIC_COMPUTE", json.dumps({"model_run": {"gpu": 0}}))
    assert step_compute() == {"model_run": compute(gpu=0)}
    assert executor(specs).name == "in_process"
    monkeypatch.setenv("MIMIC_ENV", "kubernetes")
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://somebody@host/catalog")
    assert executor(specs).name == "step_jobs"
