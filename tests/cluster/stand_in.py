"""A stand-in for the Kubernetes API: Jobs, pods, their logs and events over HTTP, with a local process for each container.

Clients of Kubernetes talk to it as they are. It refuses what an API server would (tests/deploy/manifest_checks.py), places a
pod only on a node that has its GPUs, labels and no taint that it does not tolerate, gives a Job one pod (`backoffLimit` 0),
ends pods with SIGTERM and after their grace period with SIGKILL, kills a process that takes more than its container's limit
of memory, removes what finished Jobs leave after their time to live, and what belongs to a pod that is gone. What it does
not have: images, volumes, networks, users, quotas, watches, restarts.
"""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).parent
NODE = {"name": "node-1", "labels": {"kubernetes.io/hostname": "node-1"}, "taints": [], "gpus": 8}
GPU = "nvidia.com/gpu"
PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>jobs|pods|events)(?:/(?P<name>[^/]+))?(?:/(?P<part>status|log))?"
)
GRACE_SECONDS = 30
LOOK_SECONDS = 0.1

Manifest = dict[str, Any]


def load(path: Path) -> ModuleType:
    """Load a module by its path."""
    place = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


class RefusedError(Exception):
    """A request that the API refuses.

    Attributes:
        code: the HTTP status.
        reason: its name in Kubernetes.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class Cluster:
    """The objects of one cluster, and its API while the context lasts.

    Args:
        folder: for logs and the kubeconfig.
        environment: variables that the image of every container has.
        modules: what the process imports from which `dagster` commands are forked; without any they are executed anew.
        nodes: what there is to place pods on, as NODE.
        command: gives what is executed instead of a container's command.

    Attributes:
        jobs, pods: the manifests with their status, by name; those that were deleted are in `deleted`.
        requests: how many there were, by method and path without names.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        modules: Sequence[str] = (),
        nodes: Sequence[Mapping[str, Any]] = (NODE,),
        command: Callable[[Manifest, list[str]], list[str]] = lambda _, command: command,
    ) -> None:
        self.folder, self.nodes = folder, list(nodes)
        self.jobs: dict[str, Manifest] = {}
        self.pods: dict[str, Manifest] = {}
        self.deleted: dict[str, Manifest] = {}
        self.events: list[Manifest] = []
        self.requests: dict[str, int] = {}
        self._environment, self._modules, self._command = dict(environment), modules, command
        self._kills: dict[str, float] = {}  # pod -> when it is killed
        self.lock = threading.RLock()
        self._checks = load(HERE.parent / "deploy/manifest_checks.py")
        self._ended = threading.Event()

    def __enter__(self) -> "Cluster":
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = self._environment | {"MODULES": ",".join(self._modules)}
        with (self.folder / "node.log").open("wb") as log:
            command = [sys.executable, HERE / "node.py"]
            pipe = subprocess.PIPE
            self._node = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=environment)
        if not self._node.stdout.readline():
            raise RuntimeError((self.folder / "node.log").read_text())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._server.serve_forever, self._hear, self._look)
        ]
        for thread in self._threads:
            thread.start()
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig(f"http://127.0.0.1:{self._server.server_port}")))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._node.stdin.close()
        self._node.wait(30)
        for thread in self._threads:
            thread.join(30)
        self._node.stdout.close()

    # what tests look at, and do to it

    def jobs_of(self, run_id: str, deleted: bool = True) -> list[Manifest]:
        """Return the Jobs of a run of Dagster, its own first, then those of its steps in the order in which they came."""
        with self.lock:
            every = list(self.jobs.values()) + (list(self.deleted.values()) if deleted else [])
        mine = [job for job in every if job["kind"] == "Job" and job["metadata"]["labels"]["dagster/run-id"] == run_id]
        return sorted(mine, key=lambda job: job["metadata"]["number"])

    def pod_of(self, job: str) -> Manifest | None:
        """Return the pod of a Job."""
        return next((pod for pod in list(self.pods.values()) if pod["metadata"]["labels"]["job-name"] == job), None)

    def kill_pod(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill the process of a pod, as when its node is lost."""
        self._tell({"kill": name, "signal": number})

    def log_of(self, pod: str) -> str:
        """Return what a container has said; nothing where its process is just being started."""
        log = self._log(pod)
        return log.read_text(errors="replace") if log.exists() else ""

    def logs(self) -> str:
        """Return what all containers said, for a test that failed."""
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')}" for path in sorted(self.folder.glob("*.log")))

    # the controllers

    def _hear(self) -> None:
        """Note what the node says of processes that ended."""
        for line in self._node.stdout:
            told = json.loads(line)
            with self.lock:
                if (pod := self.pods.get(told["ended"])) is None:
                    continue
                done = told["code"] == 0
                terminated = {"exitCode": told["code"], "reason": told["reason"], "finishedAt": now()}
                pod["status"]["phase"] = "Succeeded" if done else "Failed"
                pod["status"]["containerStatuses"][0] |= {
                    "ready": False,
                    "started": False,
                    "state": {"terminated": terminated},
                }
                if told["reason"] == "OOMKilled":
                    self._event("Pod", told["ended"], "OOMKilling", "Memory cgroup out of memory")
                self._finish(pod, done)
                if told["ended"] in self._kills:
                    self._forget(told["ended"])

    def _finish(self, pod: Manifest, done: bool) -> None:
        """Finish the Job of a pod, where it is still there and not finished."""
        job = self.jobs.get(pod["metadata"]["labels"]["job-name"])
        if job is None or job["status"].get("conditions"):
            return
        if done:
            conditions = [{"type": "Complete", "status": "True"}]
            job["status"] = job["status"] | {"succeeded": 1, "completionTime": now(), "conditions": conditions}
        else:
            why = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
            job["status"] = job["status"] | {"failed": 1, "conditions": [{"type": "Failed", "status": "True"} | why]}
        job["status"] |= {"active": None, "ready": 0}
        job["metadata"]["ended"] = job["finished"] = time.monotonic()

    def _forget(self, name: str) -> None:
        """Remove a pod whose process is gone, and the Jobs that belong to it."""
        pod = self.pods.pop(name)
        self._kills.pop(name, None)
        self.deleted[f"{name}-{uuid.uuid4().hex}"] = pod
        for job in [job["metadata"]["name"] for job in self.jobs.values() if owned(job, pod)]:
            self.delete_job(job, "Background")

    def _look(self) -> None:
        """Place pods that wait, kill those whose grace is over, and remove Jobs whose time to live is over."""
        while not self._ended.wait(LOOK_SECONDS):
            with self.lock:
                clock = time.monotonic()
                for pod in [pod for pod in self.pods.values() if pod["status"]["phase"] == "Pending"]:
                    self._place(pod)
                for name in [name for name, at in self._kills.items() if clock > at]:
                    self._kills[name] = clock + 1
                    self._tell({"kill": name, "signal": signal.SIGKILL})
                for job in list(self.jobs.values()):
                    life = job["spec"].get("ttlSecondsAfterFinished")
                    if life is not None and "finished" in job and clock > job["finished"] + life:
                        self.delete_job(job["metadata"]["name"], "Background")

    def _place(self, pod: Manifest) -> None:
        """Start a pod on the first node that fits; else say what it waits for."""
        misfits = [misfit(pod, node, self._free_gpus(node)) for node in self.nodes]
        fitting = [node for node, problem in zip(self.nodes, misfits, strict=True) if not problem]
        if not fitting:
            reasons = ", ".join(f"{misfits.count(each)} {each}" for each in sorted(set(misfits)))
            message = f"0/{len(self.nodes)} nodes are available: {reasons}."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            if pod["status"].get("conditions") != [condition]:
                pod["status"]["conditions"] = [condition]
                self._event("Pod", pod["metadata"]["name"], "FailedScheduling", message)
            return
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        pod["spec"]["nodeName"] = fitting[0]["name"]
        pod["status"] |= {"phase": "Running", "startTime": now(), "conditions": [{"type": "PodScheduled", "status": "True"}]}
        pod["status"]["containerStatuses"][0] |= {"ready": True, "started": True, "state": {"running": {"startedAt": now()}}}
        if job := self.jobs.get(pod["metadata"]["labels"]["job-name"]):
            job["status"] |= {"ready": 1}
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        self._tell(
            {
                "start": name,
                "command": self._command(pod, [*container.get("command", []), *container.get("args", [])]),
                "environment": self._environment | variables(container) | {"HOSTNAME": name},
                "folder": str(self.folder),
                "log": str(self._log(name)),
                "memory": int(self._checks.quantity(limit)) if limit else None,
            }
        )
        self._event("Pod", name, "Started", f"Started container {container['name']}")

    def _free_gpus(self, node: Mapping[str, Any]) -> int:
        here = [pod for pod in self.pods.values() if pod["spec"].get("nodeName") == node["name"]]
        return node["gpus"] - sum(gpus(pod) for pod in here if pod["status"]["phase"] == "Running")

    def _tell(self, order: Manifest) -> None:
        with self.lock:
            self._node.stdin.write(json.dumps(order).encode() + b"\n")
            self._node.stdin.flush()

    def _event(self, kind: str, name: str, reason: str, message: str) -> None:
        self.events.append(
            {
                "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": "default"},
                "involvedObject": {"kind": kind, "name": name},
                "reason": reason,
                "message": message,
                "type": "Normal",
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
            }
        )

    def _log(self, pod: str) -> Path:
        return self.folder / f"{pod}.log"

    # the API

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                try:
                    code, found = cluster.answer(self.command, self.path, body)
                except RefusedError as error:
                    code, found = error.code, status(error)
                data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, method: str, address: str, body: Any) -> tuple[int, Any]:
        """Answer a request: the HTTP status, and an object or a text.

        Raises:
            RefusedError: the API server would refuse it.
        """
        url = urlsplit(address)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        found = PATH.fullmatch(url.path)
        if not found:
            raise RefusedError(404, "NotFound", f"the stand-in has no {url.path}")
        kind, name, part = found["kind"], found["name"], found["part"]
        with self.lock:
            path = "/".join(filter(None, [kind, "NAME" if name else "", part]))
            self.requests[f"{method} {path}"] = self.requests.get(f"{method} {path}", 0) + 1
            if method == "POST" and kind == "jobs" and not name:
                return 201, public(self._create(found["namespace"], body))
            objects = {"jobs": self.jobs, "pods": self.pods}.get(kind, {})
            if method == "GET" and not name:
                every = self.events if kind == "events" else list(objects.values())
                items = [item for item in every if selected(item, asked, found["namespace"])]
                titles = {"jobs": "Job", "pods": "Pod", "events": "Event"}
                return 200, {"kind": f"{titles[kind]}List", "metadata": {}, "items": list(map(public, items))}
            if name not in objects:
                raise RefusedError(404, "NotFound", f'{kind} "{name}" not found')
            if method == "GET" and part == "log":
                return 200, self._tail(name, asked)
            if method == "GET":
                return 200, public(objects[name])
            if method == "DELETE" and kind == "jobs":
                policy = asked.get("propagationPolicy") or (body or {}).get("propagationPolicy") or "Orphan"
                self.delete_job(name, policy)
                return 200, {"kind": "Status", "status": "Success"}
            if method == "DELETE":
                self._delete_pod(name)
                return 200, {"kind": "Status", "status": "Success"}
        raise RefusedError(405, "MethodNotAllowed", f"the stand-in does not {method} {url.path}")

    def _create(self, namespace: str, job: Manifest) -> Manifest:
        job["metadata"].setdefault("namespace", namespace)
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise RefusedError(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        if problems := self._checks.problems(job):
            raise RefusedError(422, "Invalid", f'Job.batch "{name}" is invalid: {"; ".join(problems)}')
        if job["spec"].get("backoffLimit", 6) != 0:
            raise RefusedError(422, "Invalid", "the stand-in has no retries of Jobs: spec.backoffLimit must be 0")
        number = len(self.jobs) + len(self.deleted)
        job["metadata"] |= {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now(),
            "number": number,
            "began": time.monotonic(),
        }
        job["status"] = {"active": 1, "ready": 0, "startTime": now()}
        self.jobs[name] = job
        self._create_pod(job)
        return job

    def _create_pod(self, job: Manifest) -> None:
        template, owner = json.loads(json.dumps(job["spec"]["template"])), job["metadata"]
        name = f"{owner['name']}-{uuid.uuid4().hex[:5]}"
        labels = template.get("metadata", {}).get("labels", {})
        container = template["spec"]["containers"][0]
        reference = {"apiVersion": "batch/v1", "kind": "Job", "name": owner["name"], "uid": owner["uid"]}
        said = {"name": container["name"], "image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
        pod = {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": owner["namespace"],
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now(),
                "labels": labels | {"job-name": owner["name"], "batch.kubernetes.io/job-name": owner["name"]},
                "ownerReferences": [reference | {"controller": True}],
            },
            "spec": template["spec"],
            "status": {
                "phase": "Pending",
                "containerStatuses": [said | {"state": {"waiting": {"reason": "ContainerCreating"}}}],
            },
        }
        self.pods[name] = pod
        self._place(pod)

    def delete_job(self, name: str, policy: str) -> None:
        """Delete a Job; its pods stay unless they are asked to go too, as is so with batch/v1."""
        job = self.jobs.pop(name)
        self.deleted[f"{name}-{uuid.uuid4().hex}"] = job
        if policy != "Orphan":
            for pod in [pod["metadata"]["name"] for pod in self.pods.values() if owned(pod, job)]:
                self._delete_pod(pod)

    def _delete_pod(self, name: str) -> None:
        pod = self.pods[name]
        if pod["status"]["phase"] != "Running":
            self._finish(pod, pod["status"]["phase"] == "Succeeded")
            self._forget(name)
        elif name not in self._kills:
            grace = pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
            pod["metadata"]["deletionTimestamp"] = now(grace)
            self._kills[name] = time.monotonic() + grace
            self._finish(pod, False)  # a Job counts a pod that is asked to end as failed
            self._event("Pod", name, "Killing", "Stopping container")
            self._tell({"kill": name, "signal": signal.SIGTERM})

    def _tail(self, pod: str, asked: Mapping[str, str]) -> str:
        lines = self.log_of(pod).splitlines(keepends=True) if self._log(pod).exists() else []
        return "".join(lines[-int(asked["tailLines"]) :] if "tailLines" in asked else lines)


def kubeconfig(address: str) -> Manifest:
    """Return the configuration of a client."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stand-in", "cluster": {"server": address}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "nobody", "namespace": "default"}}],
        "current-context": "stand-in",
    }


def now(later: float = 0) -> str:
    """Return the time as Kubernetes writes it, so many seconds later."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


def public(item: Manifest) -> Manifest:
    """Return an object as clients see it."""
    return {name: value for name, value in item.items() if name != "finished"}


def status(error: RefusedError) -> Manifest:
    """Return a refusal as Kubernetes says it."""
    facts = {"status": "Failure", "message": str(error), "reason": error.reason, "code": error.code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}} | facts


def variables(container: Manifest) -> dict[str, str]:
    """Return the variables of a container that are given as values."""
    return {each["name"]: each.get("value") or "" for each in container.get("env", []) if "valueFrom" not in each}


def gpus(pod: Manifest) -> int:
    limits = pod["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return int(limits.get(GPU, 0))


def misfit(pod: Manifest, node: Mapping[str, Any], free_gpus: int) -> str:
    """Say why a pod cannot be on a node; empty where it can."""
    spec = pod["spec"]
    if any(node["labels"].get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    if any(not any(tolerates(each, taint) for each in spec.get("tolerations") or []) for taint in node["taints"]):
        return "node(s) had untolerated taint(s)"
    return f"Insufficient {GPU}" if gpus(pod) > free_gpus else ""


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    """Tell whether a toleration is for a taint."""
    if toleration.get("key") not in (None, taint["key"]) or toleration.get("effect") not in (None, taint["effect"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value") == taint.get("value")


def owned(item: Manifest, owner: Manifest) -> bool:
    """Tell whether an object belongs to another."""
    return any(each["uid"] == owner["metadata"]["uid"] for each in item["metadata"].get("ownerReferences", []))


def selected(item: Manifest, asked: Mapping[str, str], namespace: str) -> bool:
    """Tell whether an object is in a namespace, and has the labels and fields that are asked for."""
    if item["metadata"].get("namespace") != namespace:
        return False
    labels = [part.split("=", 1) for part in asked.get("labelSelector", "").replace("==", "=").split(",") if part]
    fields = [part.split("=", 1) for part in asked.get("fieldSelector", "").replace("==", "=").split(",") if part]
    if any(item["metadata"].get("labels", {}).get(key) != value for key, value in labels):
        return False
    return all(str(field(item, key)) == value for key, value in fields)


def field(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


def waiting(condition: Callable[[], Any], seconds: float = 60, what: str = "it") -> Any:
    """Wait until a condition holds; returns what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} seconds")
