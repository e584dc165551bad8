"""Pods of steps: what they are given for the compute of a step, and what they say of themselves."""

import copy
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mimic_core.compute import ComputeSpec, cores

if TYPE_CHECKING:
    from kubernetes.client import V1ContainerStateTerminated, V1Pod

GPU = "nvidia.com/gpu"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
LATE_SECONDS = 30  # after the grace of a pod that is deleted: clocks differ


def container_config(config: Any, compute: ComputeSpec, gpu_image: str | None) -> dict[str, Any]:
    """Return the config of a container with the resources of a step: what it requests is also its limit."""
    amounts = {"cpu": compute.cpu, "memory": compute.memory, GPU: str(compute.gpu) if compute.gpu else None}
    given = {name: amount for name, amount in amounts.items() if amount}
    threads = str(max(1, math.floor(cores(compute.cpu)))) if compute.cpu else "1"
    found = copy.deepcopy(dict(config))
    # a library that counts the cores of the node would begin a thread for each, and wait for its own turn
    known = {each["name"] for each in found.get("env", [])}
    found["env"] = [*found.get("env", []), *({"name": each, "value": threads} for each in THREADS if each not in known)]
    found["resources"] = {"requests": given, "limits": given}
    if compute.gpu and gpu_image:
        found["image"] = gpu_image
    return found


def pod_config(config: Any, compute: ComputeSpec) -> dict[str, Any]:
    """Return the config of a pod with the nodes of a step; nodes with GPUs have a taint by custom."""
    tolerations = [each.document for each in compute.tolerations]
    if compute.gpu and not any(each.key == GPU for each in compute.tolerations):
        tolerations.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
    found = copy.deepcopy(dict(config))
    found["node_selector"] = found.get("node_selector", {}) | compute.node_selector
    found["tolerations"] = [*found.get("tolerations", []), *tolerations]
    return {name: value for name, value in found.items() if value}


def is_alive(pod: "V1Pod") -> bool:
    """Tell whether a pod is, or will be, at work."""
    return pod.status.phase in ("Pending", "Running")


def is_ending(pod: "V1Pod") -> bool:
    """Tell whether a pod was asked to end and has time left for it."""
    until = pod.metadata.deletion_timestamp  # it will be killed then
    late = timedelta(seconds=LATE_SECONDS)
    return pod.status.phase == "Running" and until is not None and datetime.now(UTC) < until + late


def terminated(pod: "V1Pod") -> "V1ContainerStateTerminated | None":
    """Return how the container of the step ended; others may have been put beside it."""
    name, statuses = pod.spec.containers[0].name, pod.status.container_statuses or []
    return next((each.state.terminated for each in statuses if each.name == name and each.state), None)


def waits_for(pod: "V1Pod") -> str:
    """Say what a pod waits for that may not come by itself; empty where nothing is known."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"no node takes its pod {pod.metadata.name}: {condition.message}"
    for each in pod.status.container_statuses or []:
        waiting = each.state.waiting if each.state else None
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            return f"its pod {pod.metadata.name} cannot start: {waiting.reason}: {waiting.message or ''}"
    return ""
