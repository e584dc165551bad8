"""The cluster: whether its API answers, whether Jobs may be made, and whether it has GPUs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimic_core.errors import NotFoundError, SpecError
from resources.doctor.findings import Finding, ok, one_line, skipped, warning, wrong

ABOUT = "cluster"
GPU = "nvidia.com/gpu"
SECONDS = 5  # that a request may take
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
NEEDED = (  # rights, as deploy/kubernetes/rbac.yaml gives them: group, resource, verb
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("", "pods", "delete"),
    ("", "pods/log", "get"),
)


def cluster(*, gpus: bool) -> Iterator[Finding]:
    """Look at the cluster in which this runs, or else that of the kubeconfig.

    Args:
        gpus: whether a stage asks for GPUs where its spec says nothing.

    Raises:
        MimicError: nothing says how it is reached.
    """
    from kubernetes import client

    config = client.Configuration()
    namespace = _namespace(config)
    config.retries = 0
    with client.ApiClient(config) as api:
        try:
            version = client.VersionApi(api).get_code(_request_timeout=SECONDS).git_version
        except Exception as error:
            do = "see `kubectl cluster-info`, and whether the login of the kubeconfig is still good"
            yield wrong(ABOUT, f"{config.host} does not answer as it should: {_reason(error)}", do)
            return
        yield ok(ABOUT, f"{config.host} answers; Kubernetes {version}, namespace {namespace}")
        yield _rights(client, api, namespace)
        yield _gpus(client, api) if gpus else skipped("GPUs", "MIMIC_COMPUTE asks for none")


def _namespace(config: Any) -> str:
    """Fill in how the API is reached; returns the namespace.

    Raises:
        NotFoundError: this is no pod with a service account, and there is no kubeconfig.
        SpecError: the kubeconfig cannot be read.
    """
    from kubernetes.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config

    try:
        load_incluster_config(client_configuration=config)
        return OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        no_pod = str(error).rstrip(".")
    try:
        load_kube_config(client_configuration=config)
        return str(list_kube_config_contexts()[1]["context"].get("namespace", "default"))
    except Exception as error:  # of any kind, as what a file holds
        if "No configuration found" in str(error):
            raise NotFoundError(
                f"this is no pod that may use its cluster ({no_pod}), and there is no kubeconfig; run this in the pod for "
                "commands, or let KUBECONFIG name a file"
            ) from error
        raise SpecError(
            f"the kubeconfig cannot be read: {one_line(error)}; mend it, or let KUBECONFIG name another one"
        ) from error


def _rights(client: Any, api: Any, namespace: str) -> Finding:
    reviews, missing = client.AuthorizationV1Api(api), []
    for group, resource, verb in NEEDED:
        name, _, below = resource.partition("/")
        asked = client.V1ResourceAttributes(
            namespace=namespace, group=group, resource=name, subresource=below or None, verb=verb
        )
        review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
        try:
            answer = reviews.create_self_subject_access_review(review, _request_timeout=SECONDS)
        except Exception as error:
            return wrong("rights in the cluster", f"cannot be asked for: {_reason(error)}", "see who you are there")
        if not answer.status.allowed:
            missing.append(f"{verb} {resource}")
    if missing:
        do = "apply deploy/kubernetes/rbac.yaml, and see that the pods have its service account"
        return wrong("rights in the cluster", f"you may not {', '.join(missing)} in namespace {namespace}", do)
    return ok("rights in the cluster", f"Jobs may be made, followed and removed in namespace {namespace}")


def _gpus(client: Any, api: Any) -> Finding:
    try:
        nodes = client.CoreV1Api(api).list_node(_request_timeout=SECONDS).items
    except client.ApiException as error:
        if error.status in (401, 403):
            return skipped("GPUs", "nodes may not be listed here", f"see `kubectl describe nodes | grep {GPU}` as who may")
        return wrong("GPUs", f"nodes cannot be listed: {_reason(error)}", "see `kubectl get nodes`")
    found = sum(int((node.status.allocatable or {}).get(GPU, 0)) for node in nodes)
    if found:
        return ok("GPUs", f"{found} on {len(nodes)} nodes")
    do = 'ask for none by MIMIC_COMPUTE={"model_run": {"gpu": 0}}, or add nodes with GPUs and the device plugin'
    return warning("GPUs", f"no node has {GPU} now, so a training of a network waits for one", do)


def _reason(error: Exception) -> str:
    """Say what went wrong in a request in a few words."""
    if status := getattr(error, "status", None):
        return f"{status} {getattr(error, 'reason', '')}".strip()
    return one_line(getattr(error, "reason", error)).rpartition(": ")[2]
