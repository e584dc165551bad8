"""The executor of a cluster: every step is a Kubernetes Job, with the compute that its spec asks for.

dagster-k8s does the work. What it has no setting for is done here by overriding methods of its step handler, one of them
private, which is why its version is pinned exactly and tests/cluster/test_contract.py checks what is relied on; decision
0031 says why, and what the alternatives are.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandlerContext
from dagster_k8s import k8s_job_executor
from dagster_k8s.client import k8s_api_retry
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_shared.error import SerializableErrorInfo
from kubernetes.client import ApiException

from mimic_core.compute import ComputeSpec
from resources.compute import RETRIES_OF_LOST, StepCompute
from resources.k8s_pods import container_config, is_ending, pod_config, terminated, waits_for

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

PARTITION = "dagster/partition"
RETRIES_OF_CRASHED = 1  # what ran out of memory, or ended by itself, will likely do so again
KILLED = (137, 143)  # exit codes of a process that was killed, or asked to end before it listened
ENDED = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}
RUN_ENDED = "the step was ended, as its run was: something else marked that as finished"
LOOK_SECONDS = 10  # between two looks at the run
RETRY_SECONDS = 5
COMPONENT = "app.kubernetes.io/component"  # label of a Job
LINES = 20  # of the log of a process that ended by itself


def step_jobs(compute: StepCompute, gpu_image: str | None = None) -> dg.ExecutorDefinition:
    """Make the executor; its config is that of `k8s_job_executor`.

    Args:
        compute: what each step gets.
        gpu_image: image of the steps that get a GPU; None for that of all others.
    """

    def make(context: dg.InitExecutorContext) -> dg.Executor:
        made: Any = k8s_job_executor.executor_creation_fn(context)  # type: ignore[misc]
        made._step_handler = StepJobs(made._step_handler, compute, gpu_image)
        return cast(dg.Executor, made)

    return dg.ExecutorDefinition(
        name="step_jobs",
        config_schema=k8s_job_executor.config_schema,  # type: ignore[arg-type]
        requirements=dg.multiple_process_executor_requirements(),
        executor_creation_fn=make,
        description="Every step is a Kubernetes Job with the GPUs, cores, memory and nodes that its spec asks for.",
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


class StepJobs(K8sStepHandler):
    """Launches steps as Jobs, and says what became of those that fail without a word."""

    def __init__(self, handler: K8sStepHandler, compute: StepCompute, gpu_image: str | None) -> None:
        self.__dict__.update(handler.__dict__)  # made by k8s_job_executor from its config
        self._enable_owner_references = True  # what a run leaves goes with its pod
        self._compute, self._gpu_image = compute, gpu_image
        self._crashes: dict[str, int] = {}
        self._waits: dict[str, str] = {}  # by Job: what was said last
        self._begun: set[str] = set()  # Jobs whose container runs
        self._looked, self._ended = 0.0, False  # when the run was looked at, and whether it had ended
        self._alone = False  # whether the steps of the run that this one goes on from are ended

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
        if self._run_is_ended(step_handler_context):  # steps that waited for a slot of their pool come next
            self._tell_failure(step_handler_context, RUN_ENDED)
            return
        if not self._alone:
            self._end_steps_before(step_handler_context)
            self._alone = True
        yield from super().launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Retry or fail a step whose Job failed, and say so; warn of one that waits for a node.

        Dagster itself would retry as often as the policy of the op says, and no others than ops with one, whatever the
        fault is.
        """
        context, healthy = step_handler_context, CheckStepHealthResult.healthy()
        step, job = self._get_step_key(context), self._get_k8s_step_job_name(context)
        if self._run_is_ended(context):
            list(self.terminate_step(context))
            self._tell_failure(context, RUN_ENDED)
            return healthy
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

    def _run_is_ended(self, context: StepHandlerContext) -> bool:
        """Tell whether somebody else ended the run: the daemon does, where Kubernetes does not answer it."""
        now = time.monotonic()
        if now > self._looked + LOOK_SECONDS:
            run = context.instance.get_run_by_id(context.dagster_run.run_id)
            self._looked, self._ended = now, run is None or run.is_finished
        return self._ended

    def _has_told(self, context: StepHandlerContext, attempts: int) -> bool:
        """Tell whether a step has told its end itself, which the executor may not have read yet."""
        step, kinds = self._get_step_key(context), {*ENDED, DagsterEventType.STEP_UP_FOR_RETRY}
        told = [entry.dagster_event for entry in context.instance.all_logs(context.dagster_run.run_id, of_type=kinds)]
        mine = [event.event_type for event in told if event and event.step_key == step]
        return bool(ENDED & set(mine)) or mine.count(DagsterEventType.STEP_UP_FOR_RETRY) > attempts

    def _tell_failure(self, context: StepHandlerContext, said: str) -> None:
        step = context.get_step_context(self._get_step_key(context))
        DagsterEvent.step_failure_event(step, StepFailureData(_error(said), None))  # type: ignore[no-untyped-call]

    def _end_steps_before(self, context: StepHandlerContext) -> None:
        """End what still runs of the run before, first its own pod: its steps would go on beside those of this one."""
        if not (parent := context.dagster_run.parent_run_id):
            return
        namespace, labels = super()._get_container_context(context).namespace, f"dagster/run-id={parent}"
        found = k8s_api_retry(
            lambda: self._api_client.batch_api.list_namespaced_job(namespace, label_selector=labels),
            max_retries=3,
            timeout=RETRY_SECONDS,
        )
        for job in sorted(found.items, key=lambda job: job.metadata.labels[COMPONENT]):  # run_worker, then step_worker
            if job.status.active:
                self._api_client.delete_job(job.metadata.name, namespace)

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
    return f"{float(number) * 2:g}{(memory or '')[len(number) :]}" if number else "16Gi"
