"""The executor of a cluster: every step is a Kubernetes Job, with the compute that its spec asks for.

dagster-k8s does the work. What it has no setting for is done here by overriding methods of its step handler, one of them
private, which is why its version is pinned exactly and tests/cluster/test_contract.py checks what is relied on; decision
0031 says why, and what the alternatives are.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import k8s_api_retry
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_shared.error import SerializableErrorInfo
from kubernetes.client import ApiException

from mimic_core.compute import ComputeSpec
from mimic_core.errors import SpecError
from resources.compute import RETRIES_OF_LOST, StepCompute
from resources.k8s_pods import container_config, is_alive, is_ending, pod_config, terminated, waits_for

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

PARTITION = "dagster/partition"
RETRIES_OF_CRASHED = 1  # what ran out of memory, or ended by itself, will likely do so again
KILLED = (137, 143)  # exit codes of a process that was killed, or asked to end before it listened
ENDED = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
LOOK_SECONDS = 10  # between two looks at the run
RETRY_SECONDS = 5
END_SECONDS = 60  # in which pods that are asked to end do, unless their node is lost: they have a grace of 30
COMPONENT = "app.kubernetes.io/component"  # label of a Job
RUNS, STEPS = "run_worker", "step_worker"  # its values
LINES = 20  # of the log of a process that ended by itself


def job_executor(context: dg.InitExecutorContext, compute: StepCompute, gpu_image: str | None) -> dg.Executor:
    """Make the executor of a run, in its pod.

    Args:
        context: of the run; its config may have `max_concurrent`, how many steps of the run are executed at once.
        compute: what each step gets.
        gpu_image: image of the steps that get a GPU; None for that of all others.

    Raises:
        SpecError: runs are not launched by K8sRunLauncher.
    """
    launcher = context.instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise SpecError(
            f"runs are launched by {type(launcher).__name__}, expected K8sRunLauncher, as MIMIC_ENV is 'kubernetes'; mend "
            "`run_launcher` in dagster.yaml, or unset MIMIC_ENV"
        )
    return JobExecutor(
        StepJobs(launcher, compute, gpu_image),
        retries=RetryMode.ENABLED,
        max_concurrent=cast(int | None, context.executor_config.get("max_concurrent")),
        should_verify_step=True,
    )


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why the Job of a step failed.

    Attributes:
        said: what happened, and what to do.
        retries: how often a step is begun anew for such a fault.
    """

    said: str
    retries: int


class JobExecutor(StepDelegatingExecutor):
    """Executes the steps of a run as Jobs, when nothing runs any more of those that it goes on from."""

    _step_handler: "StepJobs"

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        self._step_handler.end_runs_before(plan_context)  # which hold no slots of pools any more, but compute
        yield from super().execute(plan_context, execution_plan)


class StepJobs(K8sStepHandler):
    """Launches steps as Jobs, and says what became of those that fail without a word."""

    def __init__(self, launcher: K8sRunLauncher, compute: StepCompute, gpu_image: str | None) -> None:
        super().__init__(
            image=None,
            container_context=K8sContainerContext(),
            load_incluster_config=launcher.load_incluster_config,
            kubeconfig_file=launcher.kubeconfig_file,
            enable_owner_references=True,  # what a run leaves goes with its pod
        )
        self._launcher, self._compute, self._gpu_image = launcher, compute, gpu_image
        self._crashes: dict[str, int] = {}
        self._waits: dict[str, str] = {}  # by Job: what was said last
        self._begun: set[str] = set()  # Jobs whose container runs
        self._looked = 0.0  # when the run was looked at

    @property
    def name(self) -> str:
        return "StepJobs"

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        found = super()._get_container_context(step_handler_context)
        compute = self._compute_of(step_handler_context)
        config = found.run_k8s_config
        return found._replace(
            run_k8s_config=config._replace(
                container_config=container_config(config.container_config, compute, self._gpu_image),
                pod_spec_config=pod_config(config.pod_spec_config, compute),
            )
        )

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        self._stop_if_run_is_ended(step_handler_context)  # steps that waited for a slot of their pool come next
        yield from super().launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Retry or fail a step whose Job failed, and say so; warn of one that waits for a node.

        Dagster itself would retry as often as the policy of the op says, and no others than ops with one, whatever the
        fault is.
        """
        context, healthy = step_handler_context, CheckStepHealthResult.healthy()
        step, job = self._get_step_key(context), self._get_k8s_step_job_name(context)
        self._stop_if_run_is_ended(context)
        found = super().check_step_health(context)
        if found.is_healthy and job in self._begun:
            return found
        pods = self._api_client.get_pods_in_job(job, super()._get_container_context(context).namespace)
        if found.is_healthy:
            self._warn_of_waiting(context, job, pods)
            return found
        known = context.execute_step_args.known_state
        attempts = known.get_retry_state().get_attempt_count(step) if known else 0
        if any(map(is_ending, pods)) or self._has_told(context, attempts):
            return healthy  # a Job fails as soon as its pod is asked to end; and a process may crash after its step ended
        fault = self._fault(context, pods, str(found.unhealthy_reason))
        self._crashes[step] = self._crashes.get(step, 0) + (fault.retries < RETRIES_OF_LOST)
        # the executor reads these events as it reads those that a step tells of itself
        if attempts < RETRIES_OF_LOST and self._crashes[step] <= RETRIES_OF_CRASHED:
            DagsterEvent.step_retry_event(context.get_step_context(step), StepRetryData(error=_error(fault.said)))  # type: ignore[no-untyped-call]
        else:
            self._tell_failure(context, fault.said)
        return healthy

    def _stop_if_run_is_ended(self, context: StepHandlerContext) -> None:
        """End the steps, and the executor, of a run that somebody else ended: the daemon does, where Kubernetes is silent.

        Raises:
            DagsterExecutionInterruptedError: it is ended. A step that failed would change how; this is only noted.
        """
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        run = context.instance.get_run_by_id(context.dagster_run.run_id)
        if run is None or run.is_finished:
            self._end_jobs(context.dagster_run, STEPS)
            raise dg.DagsterExecutionInterruptedError

    def end_runs_before(self, context: PlanOrchestrationContext) -> None:
        """End what still runs of the runs that this one goes on from: their steps would go on beside those of this one."""
        run = context.dagster_run
        while run.parent_run_id and (before := context.instance.get_run_by_id(run.parent_run_id)) and before.is_finished:
            for component in (RUNS, STEPS):  # first the pod that would begin them anew
                self._end_jobs(before, component)
            run = before

    def _end_jobs(self, run: dg.DagsterRun, component: str) -> None:
        """Delete the Jobs of a run that are at work, and wait until their pods are gone."""
        namespace = K8sContainerContext.create_for_run(run, self._launcher, include_run_tags=False).namespace
        labels = f"dagster/run-id={run.run_id},{COMPONENT}={component}"
        found = k8s_api_retry(
            lambda: self._api_client.batch_api.list_namespaced_job(namespace, label_selector=labels),
            max_retries=3,
            timeout=RETRY_SECONDS,
        )
        jobs = [job.metadata.name for job in found.items if job.status.active]
        for job in jobs:
            self._api_client.delete_job(job, namespace)
        end = time.monotonic() + END_SECONDS
        for job in jobs:
            while time.monotonic() < end and any(map(is_alive, self._api_client.get_pods_in_job(job, namespace))):
                time.sleep(1)

    def _has_told(self, context: StepHandlerContext, attempts: int) -> bool:
        """Tell whether a step has told its end itself, which the executor may not have read yet."""
        step, kinds = self._get_step_key(context), {*ENDED, DagsterEventType.STEP_UP_FOR_RETRY}
        told = [entry.dagster_event for entry in context.instance.all_logs(context.dagster_run.run_id, of_type=kinds)]
        mine = [event.event_type for event in told if event and event.step_key == step]
        return bool(ENDED & set(mine)) or mine.count(DagsterEventType.STEP_UP_FOR_RETRY) > attempts

    def _tell_failure(self, context: StepHandlerContext, said: str) -> None:
        step = context.get_step_context(self._get_step_key(context))
        DagsterEvent.step_failure_event(step, StepFailureData(_error(said), None))  # type: ignore[no-untyped-call]

    def _compute_of(self, context: StepHandlerContext) -> ComputeSpec:
        step = self._get_step_key(context)
        return self._compute.of(step, context.step_tags[step], context.dagster_run.tags.get(PARTITION))

    def _fault(self, context: StepHandlerContext, pods: "list[V1Pod]", otherwise: str) -> Fault:
        step, partition = self._get_step_key(context), context.dagster_run.tags.get(PARTITION)
        pod, ended = next(((pod, end) for pod in pods if (end := terminated(pod))), (None, None))
        if pod is None or ended is None:
            return Fault(said=f"the pod of step {step} was lost: {otherwise}", retries=RETRIES_OF_LOST)
        name = pod.metadata.name
        if ended.reason == "OOMKilled":
            limit = self._compute_of(context).memory
            of = f' in the spec of {partition}, such as {{"compute": {{"memory": "{_double(limit)}"}}}}' if partition else ""
            return Fault(
                said=f"step {step} ran out of memory: its pod {name} took more than its limit of {limit} and was killed; "
                f"give it more by compute.memory{of}, and register it again",
                retries=RETRIES_OF_CRASHED,
            )
        if ended.exit_code in KILLED or pod.status.reason:  # such as Evicted
            why = pod.status.reason or f"exit code {ended.exit_code}"
            return Fault(said=f"the pod {name} of step {step} was killed ({why})", retries=RETRIES_OF_LOST)
        said = ""
        with suppress(ApiException):
            container = pod.spec.containers[0].name
            said = self._api_client.retrieve_pod_logs(name, pod.metadata.namespace, container, tail_lines=LINES)
        return Fault(
            said=f"the process of step {step} ended with exit code {ended.exit_code} before the step did; its pod {name} "
            f"said at last:\n{said}",
            retries=RETRIES_OF_CRASHED,
        )

    def _warn_of_waiting(self, context: StepHandlerContext, job: str, pods: "list[V1Pod]") -> None:
        """Say what the pod of a Job waits for, once for each reason."""
        step = self._get_step_key(context)
        why = next((why for pod in pods if (why := waits_for(pod))), "")
        if why and self._waits.get(job) != why:
            DagsterEvent.engine_event(context.get_step_context(step), f"step {step} waits: {why}", EngineEventData())
        self._waits[job] = why
        if any(pod.status.phase == "Running" for pod in pods):
            self._begun.add(job)


def _error(said: str) -> SerializableErrorInfo:
    return SerializableErrorInfo(message=said, stack=[], cls_name=None)


def _double(memory: str | None) -> str:
    number = (memory or "").rstrip("kKMGTPEi")
    return f"{Decimal(number) * 2:f}{(memory or '')[len(number) :]}" if number else "16Gi"
