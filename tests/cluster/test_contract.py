"""What resources/k8s_executor.py relies on in dagster-k8s and Dagster beyond what they promise; see decision 0031."""

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import job_execution_iterator
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor
from dagster_k8s.client import DagsterKubernetesClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import DEFAULT_JOB_SPEC_CONFIG, UserDefinedDagsterK8sConfig

from resources.environments import STEP_KEY
from resources.k8s_executor import JobExecutor, StepJobs

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
PARAMETERS = {
    "_get_container_context": ["self", "step_handler_context"],
    "_get_step_key": ["self", "step_handler_context"],
    "_get_k8s_step_job_name": ["self", "step_handler_context"],
    "launch_step": ["self", "step_handler_context"],
    "check_step_health": ["self", "step_handler_context"],
    "terminate_step": ["self", "step_handler_context"],
}


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_dagster_k8s_is_pinned_exactly_to_the_version_that_this_was_read_in():
    (pinned,) = re.findall(r'"dagster-k8s==([0-9.]+)"', PYPROJECT.read_text())
    assert version("dagster-k8s") == pinned


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_methods_that_are_overridden_or_called_take_what_they_took(name):
    assert parameters(getattr(K8sStepHandler, name)) == PARAMETERS[name]


def test_each_launch_and_each_look_takes_the_config_of_the_pod_from_the_method_that_is_overridden():
    for method in (K8sStepHandler.launch_step, K8sStepHandler.check_step_health, K8sStepHandler.terminate_step):
        assert "self._get_container_context(step_handler_context)" in inspect.getsource(method)


def overridden(kind):
    """Return what a class puts in the place of what its base has."""
    (base,) = kind.__bases__
    return {name for name in vars(kind) if not name.startswith(("__", "_abc_"))} & set(vars(base))


def test_a_handler_has_what_the_subclass_reads_and_nothing_else_of_it_is_replaced():
    source = inspect.getsource(K8sStepHandler.__init__)
    assert {"_api_client", "_enable_owner_references"} <= set(re.findall(r"self\.(\w+) = ", source))
    assert overridden(StepJobs) == {"name", "_get_container_context", "launch_step", "check_step_health"}
    expected = ["self", "image", "container_context", "load_incluster_config", "kubeconfig_file"]
    assert parameters(K8sStepHandler.__init__)[:5] == expected


def test_the_executor_gives_its_handler_the_steps_and_ends_without_a_word_where_that_interrupts_it():
    assert overridden(JobExecutor) == {"execute"}
    assert parameters(StepDelegatingExecutor.execute) == ["self", "plan_context", "execution_plan"]
    assert "self._step_handler = step_handler" in inspect.getsource(StepDelegatingExecutor.__init__)
    assert not issubclass(dg.DagsterExecutionInterruptedError, Exception)  # so it is not caught beside a health check
    assert "already in a failure state" in inspect.getsource(job_execution_iterator)


def test_a_step_is_told_that_it_has_a_pod_of_its_own():
    assert f'"name": "{STEP_KEY}"' in inspect.getsource(K8sStepHandler.launch_step)


def test_the_executor_reads_the_events_of_steps_from_the_record_whoever_told_them():
    source = inspect.getsource(StepDelegatingExecutor.execute)
    assert "self._pop_events(" in source
    assert "dagster_event.is_step_up_for_retry" in source
    assert parameters(DagsterEvent.step_retry_event) == ["step_context", "step_retry_data"]
    assert parameters(DagsterEvent.step_failure_event)[:2] == ["step_context", "step_failure_data"]
    assert parameters(StepRetryData.__new__)[:2] == ["cls", "error"]
    assert parameters(StepFailureData.__new__)[:3] == ["cls", "error", "user_failure_data"]
    assert CheckStepHealthResult.healthy().is_healthy


def test_the_config_of_a_pod_has_the_parts_that_are_replaced():
    context = K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict({}))
    changed = context._replace(run_k8s_config=context.run_k8s_config._replace(container_config={"a": 1}, pod_spec_config={}))
    assert changed.run_k8s_config.container_config == {"a": 1}


def test_jobs_are_tried_once_and_leave_after_a_day_unless_told_otherwise():
    assert DEFAULT_JOB_SPEC_CONFIG == {"ttl_seconds_after_finished": 86400, "backoff_limit": 0}


def test_the_client_has_the_calls_that_are_made():
    assert parameters(DagsterKubernetesClient.get_pods_in_job) == ["self", "job_name", "namespace"]
    assert parameters(DagsterKubernetesClient.delete_job) == ["self", "job_name", "namespace"]
    # more are handed on to the client of Kubernetes, tail_lines for one
    expected = ["self", "pod_name", "namespace", "container_name", "kwargs"]
    assert parameters(DagsterKubernetesClient.retrieve_pod_logs) == expected
