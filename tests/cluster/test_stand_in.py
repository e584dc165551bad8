"""The stand-in for Kubernetes behaves as what it stands for, as far as other tests rely on it; asked by its client."""

import os
import sys

import kubernetes
import pytest
from kubernetes.client import ApiException, BatchV1Api, CoreV1Api

TAKES = "x = bytearray(200 << 20); import time; time.sleep(60)"


@pytest.fixture(scope="module")
def cluster(stand_in, tmp_path_factory):
    with stand_in.Cluster(tmp_path_factory.mktemp("cluster"), {"PATH": os.environ["PATH"]}) as made:
        yield made


@pytest.fixture(scope="module")
def apis(cluster):
    client = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
    yield BatchV1Api(client), CoreV1Api(client)
    client.close()


def job(name, *command, resources=None, pod=None, **spec):
    container = {"name": "main", "image": "mimic:1", "args": list(command)}
    if resources:
        container["resources"] = {"limits": resources, "requests": resources}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]} | (pod or {})}
    metadata = {"name": name, "labels": {"a": "b"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 0, "template": template} | spec,
    }


def status(apis, name):
    return apis[0].read_namespaced_job_status(name, "default").status


def pod(apis, name):
    (found,) = apis[1].list_namespaced_pod("default", label_selector=f"job-name={name}").items
    return found


def refused(apis, manifest):
    with pytest.raises(ApiException) as caught:
        apis[0].create_namespaced_job("default", manifest)
    return caught.value


def test_a_job_executes_its_command_and_its_log_can_be_read(apis, waiting):
    apis[0].create_namespaced_job("default", job("says", "sh", "-c", "echo $HOSTNAME"))
    assert waiting(lambda: status(apis, "says").succeeded) == 1
    name = pod(apis, "says").metadata.name
    assert apis[1].read_namespaced_pod_log(name, "default", _preload_content=False).data.decode() == f"{name}\n"
    assert [condition.type for condition in status(apis, "says").conditions] == ["Complete"]


def test_a_command_that_fails_fails_its_job_at_once(apis, waiting):
    apis[0].create_namespaced_job("default", job("fails", "sh", "-c", "exit 3"))
    assert waiting(lambda: status(apis, "fails").failed) == 1
    ended = pod(apis, "fails").status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (3, "Error")


def test_a_process_that_takes_more_than_its_limit_is_killed(apis, waiting):
    manifest = job("takes", sys.executable, "-c", TAKES, resources={"memory": "100Mi"})
    apis[0].create_namespaced_job("default", manifest)
    assert waiting(lambda: status(apis, "takes").failed) == 1
    ended = pod(apis, "takes").status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")
    events = apis[1].list_namespaced_event(
        "default", field_selector=f"involvedObject.name={pod(apis, 'takes').metadata.name}"
    )
    assert "OOMKilling" in [event.reason for event in events.items]


def test_what_an_api_server_refuses_is_refused(apis):
    for manifest, reason, said in [
        (job("Capitals", "true"), 422, "expected a DNS-1123 subdomain"),
        (job("amount", "true", resources={"memory": "lots"}), 422, "'lots', expected a quantity"),
        (job("policy", "true", pod={"restartPolicy": "Always"}), 422, "restartPolicy"),
        (job("misspelt", "true", backofLimit=0), 422, "backofLimit"),
    ]:
        error = refused(apis, manifest)
        assert error.status == reason
        assert said in error.body
    apis[0].create_namespaced_job("default", job("twice", "true"))
    assert refused(apis, job("twice", "true")).status == 409
    with pytest.raises(ApiException) as caught:
        apis[0].read_namespaced_job_status("nowhere", "default")
    assert caught.value.status == 404


def test_a_deleted_job_leaves_its_pod_unless_that_is_deleted_too(apis, waiting):
    for name, policy in (("leaves", None), ("takes-along", "Background")):
        apis[0].create_namespaced_job("default", job(name, "sleep", "60"))
        options = {"propagation_policy": policy} if policy else {}
        apis[0].delete_namespaced_job(name, "default", **options)
    waiting(lambda: not apis[1].list_namespaced_pod("default", label_selector="job-name=takes-along").items)
    left = pod(apis, "leaves")
    assert left.status.phase == "Running"
    apis[1].delete_namespaced_pod(left.metadata.name, "default")
    waiting(lambda: not apis[1].list_namespaced_pod("default", label_selector="job-name=leaves").items)


def test_a_process_that_does_not_end_when_asked_is_killed_after_its_grace(apis, waiting):
    stubborn = ("sh", "-c", "trap '' TERM; while true; do sleep 1; done")
    apis[0].create_namespaced_job("default", job("stubborn", *stubborn, pod={"terminationGracePeriodSeconds": 1}))
    waiting(lambda: pod(apis, "stubborn").status.phase == "Running")
    apis[1].delete_namespaced_pod(pod(apis, "stubborn").metadata.name, "default")
    waiting(lambda: not apis[1].list_namespaced_pod("default", label_selector="job-name=stubborn").items, 10)
    assert status(apis, "stubborn").failed == 1


def test_a_pod_waits_for_a_node_that_has_what_it_asks_for(apis, cluster, waiting):
    taint = {"key": "t", "effect": "NoSchedule"}
    cluster.nodes.append({"name": "tainted", "labels": {"zone": "a"}, "taints": [taint], "gpus": 1})
    fits = {"nodeSelector": {"zone": "a"}, "tolerations": [taint | {"operator": "Exists"}]}
    asked = [
        ({"nodeSelector": {"zone": "b"}}, None, "2 node(s) didn't match Pod's node affinity/selector"),
        ({"nodeSelector": {"zone": "a"}}, None, "1 node(s) had untolerated taint(s)"),
        (fits, {"nvidia.com/gpu": "2"}, "1 Insufficient nvidia.com/gpu"),
        (fits, {"nvidia.com/gpu": "1"}, None),
    ]
    for number, (spec, resources, waits) in enumerate(asked):
        apis[0].create_namespaced_job("default", job(f"asks-{number}", "sleep", "60", pod=spec, resources=resources))
        (condition,) = pod(apis, f"asks-{number}").status.conditions
        assert (condition.status, condition.reason) == (("False", "Unschedulable") if waits else ("True", None))
        assert waits is None or waits in condition.message
    del cluster.nodes[-1]


def test_a_finished_job_goes_after_its_time_to_live_and_what_belongs_to_a_pod_goes_with_it(apis, waiting):
    apis[0].create_namespaced_job("default", job("brief", "true", ttlSecondsAfterFinished=1))
    apis[0].create_namespaced_job("default", job("owner", "sleep", "60"))
    owner = pod(apis, "owner").metadata
    owned = job("owned", "sleep", "60")
    reference = {"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}
    owned["metadata"]["ownerReferences"] = [reference]
    apis[0].create_namespaced_job("default", owned)
    apis[1].delete_namespaced_pod(owner.name, "default")
    names = {"brief", "owned"}
    waiting(lambda: not names & {each.metadata.name for each in apis[0].list_namespaced_job("default").items}, 10)
