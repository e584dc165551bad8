"""The checks of manifests: each rule is broken once, and a right Job passes."""

import copy
import json
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

SCRIPT = Path(__file__).with_name("manifest_checks.py")
POD = "spec.template.spec"
FIRST = f"{POD}.containers[0]"
JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "dagster-step-1a2b3c", "namespace": "mimic", "labels": {"dagster/run-id": "1a2b", "empty": ""}},
    "spec": {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": 86400,
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "dagster"}, "annotations": {"example.org/Any": "a thing"}},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": "mimic",
                "nodeSelector": {"node.kubernetes.io/instance-type": "g5.xlarge"},
                "tolerations": [
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                    {"key": "team", "value": "choice", "effect": "NoExecute", "tolerationSeconds": 60},
                    {"operator": "Exists"},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
                "containers": [
                    {
                        "name": "dagster",
                        "image": "mimic:0.1.0-cpu",
                        "env": [{"name": "MIMIC_HOME", "value": "/mimic"}],
                        "envFrom": [{"secretRef": {"name": "mimic"}}],
                        "ports": [{"name": "grpc", "containerPort": 3030}],
                        "volumeMounts": [{"name": "tmp", "mountPath": "/scratch"}],
                        "resources": {
                            "requests": {"cpu": "500m", "memory": "1.5Gi", "nvidia.com/gpu": 1},
                            "limits": {"cpu": 1, "memory": "2G", "nvidia.com/gpu": "1"},
                        },
                    }
                ],
            },
        },
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "mimic"},
    "spec": {"selector": {"app": "mimic"}, "ports": [{"port": 3030, "targetPort": "grpc"}]},
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "mimic"},
    "spec": {
        "selector": {"matchLabels": {"app": "mimic"}},
        "template": {
            "metadata": {"labels": {"app": "mimic"}},
            "spec": {"containers": [{"name": "mimic", "image": "mimic:0.1.0-cpu"}]},
        },
    },
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "mimic"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}},
}
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "mimic:Launcher"},
    "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "mimic"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mimic"},
    "subjects": [{"kind": "ServiceAccount", "name": "mimic", "namespace": "mimic"}],
}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "mimic"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "mimic"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}], "ports": [{"port": 5432}]}],
    },
}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mimic"}, "data": {"password": "c2VjcmV0"}}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mimic"}}
CRON_JOB = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "mimic"},
    "spec": {"schedule": "0 0 * * 0", "jobTemplate": {"spec": JOB["spec"]}},
}
RIGHT = [JOB, SERVICE, DEPLOYMENT, CLAIM, ROLE, BINDING, POLICY, SECRET, NAMESPACE, CRON_JOB]


def with_change(manifest: dict, path: str, value: object) -> dict:
    """Return a copy in which another value, or none with `...`, stands at a path such as `a.b[0].c` or `a[k8s.io/b]`."""
    changed = copy.deepcopy(manifest)
    keys = [key for part in path.replace("]", "").split("[") for key in ([part] if "/" in part else part.split(".")) if key]
    place = changed
    for key in keys[:-1]:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return changed


@pytest.mark.parametrize("manifest", RIGHT, ids=lambda manifest: manifest["kind"])
def test_a_right_manifest_passes(manifest, manifest_checks):
    assert manifest_checks.problems(manifest) == []


@pytest.mark.parametrize(
    ("manifest", "path", "value", "problem"),
    [
        (JOB, f"{POD}.restartPolcy", "Never", f"{POD}: Additional properties are not allowed ('restartPolcy'"),
        (JOB, "spec.backoffLimit", "0", "spec.backoffLimit: '0' is not of type 'integer', 'null'"),
        (JOB, "apiVersion", "batch/v1beta1", "kind is 'Job' of apiVersion 'batch/v1beta1', expected one that Kubernetes"),
        (JOB, "kind", ..., "kind is None, expected text, such as batch/v1 and Job"),
        (JOB, "metadata.name", ..., "metadata.name is None, expected a name"),
        (JOB, "metadata.name", "Step_1", "metadata.name is 'Step_1', expected a DNS-1123 subdomain"),
        (JOB, "metadata.name", "a" * 64, "of a Job at most 63"),
        (CRON_JOB, "metadata.name", "a" * 53, "of a CronJob at most 52"),
        (DEPLOYMENT, "metadata.name", "a..b", "metadata.name is 'a..b', expected a DNS-1123 subdomain"),
        (SERVICE, "metadata.name", "1st", "metadata.name is '1st', expected a DNS-1123 label"),
        (NAMESPACE, "metadata.name", "a.b", "metadata.name is 'a.b', expected a DNS-1123 label"),
        (ROLE, "metadata.name", "a/b", "metadata.name is 'a/b', expected text without"),
        (JOB, "metadata.namespace", "a.b", "metadata.namespace is 'a.b', expected a DNS-1123 label"),
        (JOB, "metadata.labels[a b/c]", "d", "metadata.labels: key is 'a b/c', expected [DNS-1123 subdomain/]"),
        (JOB, "metadata.labels.job", "my job", "metadata.labels[job] is 'my job', expected at most 63 of letters"),
        (JOB, "spec.template.metadata.labels.a", "-", "spec.template.metadata.labels[a] is '-', expected at most 63"),
        (JOB, "metadata.annotations.a b", "c", "metadata.annotations: key is 'a b', expected [DNS-1123"),
        (JOB, f"{POD}.restartPolicy", "Always", f"{POD}.restartPolicy is 'Always', expected Never or OnFailure"),
        (JOB, f"{POD}.restartPolicy", ..., f"{POD}.restartPolicy is None, expected Never or OnFailure"),
        (CRON_JOB, f"spec.jobTemplate.{POD}.restartPolicy", ..., f"spec.jobTemplate.{POD}.restartPolicy is None"),
        (DEPLOYMENT, f"{POD}.restartPolicy", "Never", f"{POD}.restartPolicy is 'Never', expected Always"),
        (JOB, "spec.backoffLimit", -1, "spec.backoffLimit is -1, expected at least 0"),
        (DEPLOYMENT, "spec.selector.matchLabels.app", "x", "expected those of spec.selector.matchLabels: {'app': 'x'}"),
        (JOB, f"{FIRST}.name", "my.step", f"{FIRST}.name is 'my.step', expected a DNS-1123 label"),
        (JOB, f"{POD}.containers", [], f"{POD}.containers is [], expected at least one container"),
        (JOB, f"{FIRST}.image", "", f"{FIRST}.image is '', expected an image"),
        (JOB, f"{POD}.initContainers", [{"name": "dagster", "image": "i"}], "name 'dagster' is there 2 times"),
        (JOB, f"{FIRST}.env[0].name", "1A", f"{FIRST}.env[0].name is '1A', expected letters"),
        (JOB, f"{FIRST}.env[0].valueFrom", {"secretKeyRef": {"name": "a", "key": "b"}}, "has value and valueFrom"),
        (JOB, f"{FIRST}.envFrom[0].secretRef.name", "My", f"{FIRST}.envFrom[0].secretRef.name is 'My', expected a DNS-1123"),
        (JOB, f"{FIRST}.envFrom", [{}], f"{FIRST}.envFrom[0] is {{}}, expected either a configMapRef or a secretRef"),
        (JOB, f"{FIRST}.resources.limits.memory", "16gb", "resources.limits[memory] is '16gb', expected a quantity"),
        (JOB, f"{FIRST}.resources.requests.cpu", "-1", "resources.requests[cpu] is '-1', expected a quantity of at least 0"),
        (JOB, f"{FIRST}.resources.requests.cpu", "2", "resources.requests[cpu] is '2', expected at most its limit, 1"),
        (JOB, f"{FIRST}.resources.requests.cpu", "0.1m", "[cpu] is '0.1m', expected whole thousandths of a core"),
        (JOB, f"{FIRST}.resources.requests.memory", "128m", "[memory] is '128m', expected whole bytes, such as 128Mi"),
        (JOB, f"{FIRST}.resources.limits.gpu", 1, "resources.limits: key is 'gpu', expected one of cpu, memory"),
        (JOB, f"{FIRST}.resources.limits[nvidia.com/gpu]", 2, "requests[nvidia.com/gpu] is 1, expected its limit, 2"),
        (JOB, f"{FIRST}.resources.limits[nvidia.com/gpu]", "0.5", "[nvidia.com/gpu] is '0.5', expected a whole number"),
        (JOB, f"{FIRST}.resources.limits[nvidia.com/gpu]", ..., "limits has no nvidia.com/gpu, expected the same as in"),
        (JOB, f"{FIRST}.resources.limits.cpu", [1], f"{FIRST}.resources.limits.cpu is [1], expected text or a number"),
        (JOB, f"{FIRST}.ports[0].containerPort", 70000, f"{FIRST}.ports[0].containerPort is 70000, expected a port from 1"),
        (JOB, f"{FIRST}.ports[0].hostPort", -1, f"{FIRST}.ports[0].hostPort is -1, expected a port from 1 to 65535"),
        (JOB, f"{FIRST}.ports[0].name", "a--b", f"{FIRST}.ports[0].name is 'a--b', expected at most 15"),
        (JOB, f"{FIRST}.livenessProbe.httpGet.port", 0, f"{FIRST}.livenessProbe.httpGet.port is 0, expected a port"),
        (JOB, f"{FIRST}.readinessProbe.grpc.port", 0, f"{FIRST}.readinessProbe.grpc.port is 0, expected a port"),
        (JOB, f"{FIRST}.volumeMounts[0].name", "temp", "[0].name is 'temp', expected one of the pod's volumes: tmp"),
        (JOB, f"{FIRST}.volumeMounts[0].mountPath", "a:b", ".volumeMounts[0].mountPath is 'a:b', expected a path without"),
        (JOB, f"{FIRST}.volumeMounts", [{"name": "tmp", "mountPath": "/scratch"}] * 2, "'/scratch' is there 2"),
        (JOB, f"{POD}.volumes[0].name", "my.tmp", f"{POD}.volumes[0].name is 'my.tmp', expected a DNS-1123 label"),
        (JOB, f"{POD}.volumes[0].emptyDir", ..., f"{POD}.volumes[0] is [], expected exactly one source, such as emptyDir"),
        (JOB, f"{POD}.volumes[0].emptyDir.sizeLimit", "1GB", "emptyDir.sizeLimit is '1GB', expected a quantity"),
        (JOB, f"{POD}.volumes", [{"name": "tmp", "emptyDir": {}}] * 2, "volumes: name 'tmp' is there 2 times"),
        (JOB, f"{POD}.nodeSelector.zone", "a b", f"{POD}.nodeSelector[zone] is 'a b', expected at most 63"),
        (JOB, f"{POD}.serviceAccountName", "Mimic", f"{POD}.serviceAccountName is 'Mimic', expected a DNS-1123 subdomain"),
        (JOB, f"{POD}.tolerations[0].operator", "In", f"{POD}.tolerations[0].operator is 'In', expected Equal or Exists"),
        (JOB, f"{POD}.tolerations[0].value", "a", "tolerations[0].value is 'a', expected nothing beside the"),
        (JOB, f"{POD}.tolerations[1].value", "a b", f"{POD}.tolerations[1].value is 'a b', expected at most 63"),
        (JOB, f"{POD}.tolerations[0].effect", "Never", "tolerations[0].effect is 'Never', expected one of NoSchedule"),
        (JOB, f"{POD}.tolerations[1].key", ..., "tolerations[1].operator is 'Equal', expected Exists where there is no key"),
        (JOB, f"{POD}.tolerations[1].key", "a b", f"{POD}.tolerations[1].key is 'a b', expected [DNS-1123 subdomain/]"),
        (JOB, f"{POD}.tolerations[1].effect", "NoSchedule", "effect is 'NoSchedule', expected NoExecute beside"),
        (SERVICE, "spec.ports[0].port", 0, "spec.ports[0].port is 0, expected a port from 1 to 65535"),
        (SERVICE, "spec.ports[0].targetPort", "Grpc", "spec.ports[0].targetPort is 'Grpc', expected a port from"),
        (SERVICE, "spec.ports", [{"port": 1}, {"port": 2}], "spec.ports[1].name is None, expected a DNS-1123 label"),
        (SERVICE, "spec.ports", [], "spec.ports is [], expected at least one port"),
        (SERVICE, "spec.selector.app", "a b", "spec.selector[app] is 'a b', expected at most 63"),
        (CLAIM, "spec.resources.requests.storage", "100GB", "requests.storage is '100GB', expected a quantity"),
        (CLAIM, "spec.accessModes", ["RWX"], "spec.accessModes is ['RWX'], expected some of ReadWriteOnce"),
        (ROLE, "rules[0].verbs", [], "rules[0].verbs is [], expected at least one verb"),
        (ROLE, "rules[0].apiGroups", ..., "rules[0].apiGroups is None, expected a list"),
        (BINDING, "subjects[0].namespace", ..., "subjects[0].namespace is None, expected the namespace"),
        (POLICY, "spec.policyTypes", ["Out"], "spec.policyTypes is 'Out', expected Ingress or Egress"),
        (POLICY, "spec.policyTypes", ["Ingress"], "spec.policyTypes is ['Ingress'], expected Egress too"),
        (POLICY, "spec.egress[0].ports[0].port", 0, "spec.egress[0].ports[0].port is 0, expected a port from 1 to 65535"),
        (POLICY, "spec.egress[0].to[0].ipBlock.cidr", "10.0.0.1/16", "ipBlock is '10.0.0.1/16', expected a network such as"),
        (POLICY, "spec.egress[0].to[0].podSelector", {}, "is ['ipBlock', 'podSelector'], expected either an ipBlock, or"),
        (SECRET, "data.password", "secret!", "data[password] is not base64, expected base64, or the text"),
        (SECRET, "data.pass word", "c2VjcmV0", "data: key is 'pass word', expected letters, digits"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) and "kind" in value else None,
)  # fmt: skip
def test_each_rule_names_the_path_what_was_found_and_what_was_expected(manifest, path, value, problem, manifest_checks):
    found = manifest_checks.problems(with_change(manifest, path, value))
    assert any(problem in each for each in found), found


def test_what_the_schema_takes_and_an_api_server_refuses_is_found_beyond_it(manifest_checks):
    wrong = with_change(with_change(JOB, f"{POD}.restartPolicy", "Always"), "metadata.name", "Step_1")
    kubernetes_validate.validate(wrong, manifest_checks.KUBERNETES, strict=True)
    assert len(manifest_checks.problems(wrong)) == 2


def test_what_the_schema_finds_is_what_kubernetes_validate_finds(manifest_checks):
    wrong = with_change(JOB, "spec.backoffLimit", "0")
    with pytest.raises(kubernetes_validate.ValidationError) as raised:
        kubernetes_validate.validate(wrong, manifest_checks.KUBERNETES, strict=True)
    assert manifest_checks.problems(wrong) == [f"spec.backoffLimit: {raised.value.message}"]


def test_all_problems_of_a_manifest_are_told_at_once(manifest_checks):
    wrong = with_change(with_change(JOB, "metadata.name", "A"), f"{FIRST}.resources.limits.memory", "16gb")
    assert len(manifest_checks.problems(wrong)) == 2


def damaged(value: object, *others: object) -> list[object]:
    """Return copies of a document in each of which one part, at any depth, is one of some others."""
    if isinstance(value, dict):
        return [*others, *(value | {key: each} for key, part in value.items() for each in damaged(part, *others))]
    if isinstance(value, list):
        return [
            *others,
            *([*value[:at], each, *value[at + 1 :]] for at, part in enumerate(value) for each in damaged(part, *others)),
        ]
    return list(others)


@pytest.mark.parametrize("manifest", RIGHT, ids=lambda manifest: manifest["kind"])
def test_what_is_damaged_anywhere_is_a_problem_and_no_error(manifest, manifest_checks):
    for wrong in damaged(manifest, {1: []}, [{"a b": None}, 1], True):
        assert manifest_checks.problems(wrong), wrong


def test_of_a_list_every_item_is_checked(manifest_checks):
    both = {"apiVersion": "v1", "kind": "List", "items": [JOB, with_change(JOB, "spec.backoffLimit", -1)]}
    assert manifest_checks.problems(both) == ["items[1].spec.backoffLimit is -1, expected at least 0"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        ("2", "2"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("1E", "1e18"),
        ("12k", "12000"),
        (0.25, "0.25"),
        ("+1", "1"),
        ("1.", "1"),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(text, number, manifest_checks):
    assert manifest_checks.quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["16GB", "1 Gi", "", "Gi", "1K", "1e", "0x10", "1,5", True, None])
def test_what_is_no_quantity_is_none(text, manifest_checks):
    assert manifest_checks.quantity(text) is None


def test_a_job_is_checked_in_milliseconds(manifest_checks):
    manifest_checks.problems(JOB)
    began = time.process_time()
    for _ in range(20):
        manifest_checks.problems(JOB)
    assert (time.process_time() - began) / 20 < 0.01


def test_the_script_prints_the_problems_of_files_and_exits_with_1(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(f"---\n{yaml.safe_dump(JOB)}---\n{json.dumps(with_change(JOB, 'spec.backoffLimit', -1))}\n---\n")
    done = subprocess.run([sys.executable, SCRIPT, file], capture_output=True, text=True, check=False)
    expected = f"{file}: Job dagster-step-1a2b3c: spec.backoffLimit is -1, expected at least 0\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, expected, "")


def test_a_key_that_is_there_twice_is_a_problem(manifest_checks):
    (found,) = manifest_checks.problems_of_text("kind: Job\nkind: Pod\n")
    assert "the key 'kind' is there 2 times" in found
