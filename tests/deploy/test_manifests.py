"""What deploy/ promises: manifests are valid, values hold what they should, and the role is what dagster-k8s needs."""

import ast
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster_k8s.client
import dagster_k8s.executor
import dagster_k8s.launcher
import kubernetes
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema, validate_concurrency_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job

from resources.compute import STAGES

ROOT = Path(__file__).resolve().parents[2]
HELM = ROOT / "deploy" / "helm"
RUNBOOK = ROOT / "deploy" / "README.md"
KUBERNETES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = {"repository": "mimic", "tag": f"{VERSION}-cpu"}
POD = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
# by hand: the call of the client, and what the API server checks for it
CALLS = {
    "create_namespaced_job": ("batch", "jobs", "create"),
    "delete_namespaced_job": ("batch", "jobs", "delete"),
    "list_namespaced_job": ("batch", "jobs", "list"),
    "read_namespaced_job_status": ("batch", "jobs/status", "get"),
    "read_namespaced_pod": ("", "pods", "get"),
    "list_namespaced_pod": ("", "pods", "list"),
    "delete_namespaced_pod": ("", "pods", "delete"),
    "read_namespaced_pod_log": ("", "pods/log", "get"),
    "list_namespaced_event": ("", "events", "list"),
}


def merged(below: Any, above: Any) -> Any:
    """Return values as Helm merges two files of them: mappings by key, all else as a whole."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below[key], value) if key in below else value for key, value in above.items()}


def read_values(*names: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in names:
        values = merged(values, yaml.safe_load((HELM / name).read_text()))
    return values


FILES = {
    "values": ("values.yaml",),
    "values-local": ("values.yaml", "values-local.yaml"),
    "mine": ("values.yaml", "mine-example.yaml"),
}


@pytest.fixture(params=FILES.values(), ids=FILES)
def values(request):
    return read_values(*request.param)


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every part of a document with its path."""
    yield path, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from nodes(part, f"{path}.{key}")


def launcher(values: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the values about runs."""
    return values["runLauncher"]["config"]["k8sRunLauncher"]


def location(values: dict[str, Any]) -> dict[str, Any]:
    """Return the one user deployment."""
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    return deployment


def launcher_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the run launcher's configuration in the chart's dagster.yaml (_run-launcher.tpl), release `dagster`."""
    given, parts = launcher(values), {}
    for name, key in (("containerConfig", "container_config"), ("podSpecConfig", "pod_spec_config")):
        parts |= {key: given["runK8sConfig"][name]} if name in given["runK8sConfig"] else {}
    for name, key in (("podTemplateSpecMetadata", "pod_template_spec_metadata"), ("jobSpecConfig", "job_spec_config")):
        parts |= {key: given["runK8sConfig"][name]} if name in given["runK8sConfig"] else {}
    return {
        "load_incluster_config": given["loadInclusterConfig"],
        "job_namespace": "mimic",
        "image_pull_policy": given["imagePullPolicy"],
        "service_account_name": values["global"]["serviceAccountName"],
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "labels": given["labels"],
        "resources": given["resources"],
        "security_context": given["securityContext"],
        "run_k8s_config": parts,
    }


def container_context(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the chart hands to runs of the user deployment (k8sContainerContext in the subchart's _helpers.tpl)."""
    given = location(values)
    return {
        "k8s": {
            "image_pull_policy": given["image"]["pullPolicy"],
            "env_config_maps": ["dagster-dagster-user-deployments-mimic-user-env"],
            "env_secrets": [each["name"] for each in given["envSecrets"]],
            "volume_mounts": given["volumeMounts"],
            "volumes": given["volumes"],
            "resources": given["resources"],
            "namespace": "mimic",
            "service_account_name": values["global"]["serviceAccountName"],
            "run_k8s_config": {
                "pod_spec_config": {
                    "automount_service_account_token": True,
                    "security_context": given["podSecurityContext"],
                }
            },
        }
    }


def run_job(values: dict[str, Any]) -> dict[str, Any]:
    """Return the Job of a run as dagster-k8s makes it of the values."""
    config = process_config(K8sRunLauncher.config_type(), launcher_config(values))
    assert config.success, config.errors
    of_launcher = K8sContainerContext(
        **{
            key: config.value[key]
            for key in ("image_pull_policy", "service_account_name", "labels", "resources", "security_context")
        },
        namespace="mimic",
        run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(config.value["run_k8s_config"]),
    )
    context = of_launcher.merge(K8sContainerContext.create_from_config(container_context(values)))
    job = construct_dagster_k8s_job(
        job_config=DagsterK8sJobConfig(
            job_image="mimic:0.1.0-cpu",
            dagster_home=config.value["dagster_home"],
            instance_config_map=config.value["instance_config_map"],
            postgres_password_secret=config.value["postgres_password_secret"],
        ),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-0f3e",
        user_defined_k8s_config=context.run_k8s_config,
        component="run_worker",
    )
    return kubernetes.client.ApiClient().sanitize_for_serialization(job)


def pods_of(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the values say of each pod, as the chart names its parts."""
    return {"webserver": values["dagsterWebserver"], "daemon": values["dagsterDaemon"], "code": location(values)}


def pod_specs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for _, value in nodes(manifest) if isinstance(value, dict) and "containers" in value]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_manifest_is_one_that_an_api_server_takes(path, manifest_checks):
    assert manifest_checks.problems_of_text(path.read_text()) == []


@pytest.mark.parametrize("path", [*KUBERNETES, *HELM.glob("*.yaml")], ids=lambda path: path.name)
def test_the_first_line_of_every_file_says_what_it_is_for(path):
    assert re.match(r"# \S.{40,}", path.read_text().splitlines()[0])


@pytest.mark.parametrize("path", [*KUBERNETES, *HELM.glob("*.yaml")], ids=lambda path: path.name)
def test_no_key_is_there_twice(path, manifest_checks):
    assert manifest_checks.documents(path.read_text())


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_pod_of_a_manifest_has_resources_and_few_rights(path):
    for manifest in yaml.safe_load_all(path.read_text()):
        for pod in pod_specs(manifest):
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"]:
                assert container["securityContext"] == CONTAINER
                for group in ("requests", "limits"):
                    assert {"cpu", "memory"} <= container["resources"][group].keys()


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_object_names_the_namespace_of_the_role(path):
    for manifest in yaml.safe_load_all(path.read_text()):
        assert manifest["metadata"].get("namespace", manifest["metadata"].get("name")) == "mimic"


@pytest.mark.parametrize("path", [*KUBERNETES, *HELM.glob("*.yaml")], ids=lambda path: path.name)
def test_every_image_has_a_fixed_tag_and_ours_that_of_the_project(path):
    for place, value in ((p, v) for document in yaml.safe_load_all(path.read_text()) for p, v in nodes(document)):
        if isinstance(value, dict) and "repository" in value:
            value = f"{value['repository']}:{value['tag']}"
        elif not (isinstance(value, str) and place.endswith((".image", ".MIMIC_GPU_IMAGE"))):
            continue
        name, _, tag = value.rpartition(":")
        assert name
        assert tag not in ("", "latest"), place
        assert name != "mimic" or tag in (f"{VERSION}-cpu", f"{VERSION}-gpu"), place


def test_the_chart_is_of_the_same_version_as_dagster():
    (version,) = re.findall(r"^dagster==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    for path in (HELM / "values.yaml", HELM / "values-local.yaml", HELM / "README.md", HELM / "install-aws.sh", RUNBOOK):
        named = set(re.findall(r"(?:version |--version |chart, )(\d+\.\d+\.\d+)", path.read_text()))
        assert named == {version}, path.name


def test_telemetry_and_ingress_are_off(values):
    assert values["telemetry"] == {"enabled": False}
    assert values["ingress"] == {"enabled": False}
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"


def test_a_run_is_never_resumed_and_only_lost_pods_are_tried_again(values):
    daemon = values["dagsterDaemon"]
    assert daemon["runMonitoring"]["enabled"]
    assert daemon["runMonitoring"]["maxResumeRunAttempts"] == 0
    assert daemon["runMonitoring"]["freeSlotsAfterRunEndSeconds"] > 0
    assert daemon["runRetries"] == {"enabled": True, "maxRetries": 2, "retryOnAssetOrOpFailure": False}


def test_the_limits_of_runs_are_those_of_one_machine_with_more_room(values):
    local = yaml.safe_load((ROOT / "deploy/local/dagster.yaml").read_text())["run_coordinator"]["config"]
    runs = values["concurrency"]["runs"]
    key = [{name: limit[name] for name in limit if name != "limit"} for limit in runs["tagConcurrencyLimits"]]
    assert key == [{name: each[name] for name in each if name != "limit"} for each in local["tag_concurrency_limits"]]
    assert runs["tagConcurrencyLimits"][1:] == local["tag_concurrency_limits"][1:]
    assert runs["maxConcurrentRuns"] - runs["tagConcurrencyLimits"][0]["limit"] >= 2
    assert runs["maxConcurrentRuns"] >= local["max_concurrent_runs"]


def test_pools_are_counted_by_steps_and_dagster_takes_the_limits_beside_the_coordinator(values):
    assert values["concurrency"]["enabled"]
    assert values["concurrency"]["pools"]["granularity"] == "op"
    assert values["concurrency"]["pools"]["defaultLimit"] >= 1
    coordinator = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert coordinator == {"dequeueIntervalSeconds": 2}  # a limit there too would be refused when the daemon starts
    runs = values["concurrency"]["runs"]
    validate_concurrency_config(
        {
            "run_coordinator": {"class": "QueuedRunCoordinator", "config": {"dequeue_interval_seconds": 2}},
            "concurrency": {"pools": {"granularity": "op"}, "runs": {"max_concurrent_runs": runs["maxConcurrentRuns"]}},
        }
    )


def test_the_job_of_the_pools_sets_both(manifest_checks):
    (job,) = manifest_checks.documents((ROOT / "deploy/kubernetes/pools-job.yaml").read_text())
    (script,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert re.findall(r"concurrency set (\w+) \d+", script) == ["training", "shards"]


def test_what_the_values_add_to_the_instance_is_config_that_dagster_knows(values):
    schema = dagster_instance_config_schema()
    added = values["additionalInstanceConfig"]
    assert added.keys() <= schema.keys()
    assert added["local_artifact_storage"]["config"]["base_dir"].startswith("/mimic/")
    assert process_config(resolve_to_config_type(schema["nux"].config_type), added["nux"]).success
    purged = values["retention"]["sensor"]["purgeAfterDays"]
    assert purged.keys() == {"skipped", "success", "failure", "started"}  # the chart asks for all four
    retention = {"sensor": {"purge_after_days": purged}}
    assert process_config(resolve_to_config_type(schema["retention"].config_type), retention).success


def test_logs_of_steps_are_written_where_the_webserver_and_the_daemon_read_them(values):
    manager = values["computeLogManager"]
    assert manager["type"] == "LocalComputeLogManager"
    assert manager["config"]["localComputeLogManager"]["baseDir"].startswith("/mimic/")
    for pod in pods_of(values).values():
        assert {"name": "mimic", "mountPath": "/mimic"} in pod["volumeMounts"]
        assert {"name": "mimic", "persistentVolumeClaim": {"claimName": "mimic"}} in pod["volumes"]


def test_postgres_is_one_of_your_own_by_psycopg2_and_an_existing_secret(values):
    assert values["postgresql"]["enabled"] is False
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    assert values["generatePostgresqlPasswordSecret"] is False
    of_postgres, of_mimic = yaml.safe_load_all((ROOT / "deploy/kubernetes/secret-example.yaml").read_text())
    assert of_postgres["metadata"]["name"] == values["global"]["postgresqlSecretName"]
    assert list(of_postgres["stringData"]) == ["postgresql-password"]
    assert [each["name"] for each in location(values)["envSecrets"]] == [of_mimic["metadata"]["name"]]
    assert of_mimic["stringData"]["MIMIC_CATALOG"].startswith("postgresql+psycopg2://")


def test_the_tables_of_dagster_are_migrated_before_the_webserver_of_a_new_version_starts(values):
    (migrate,) = values["dagsterWebserver"]["extraPrependedInitContainers"]
    assert migrate["command"] == ["dagster", "instance", "migrate"]
    assert migrate["image"] == ":".join(IMAGE.values())
    assert migrate["imagePullPolicy"] == values["dagsterWebserver"]["image"]["pullPolicy"]
    mounts = {mount["name"] for mount in migrate["volumeMounts"]}
    assert mounts <= {"dagster-instance", *(volume["name"] for volume in values["dagsterWebserver"]["volumes"])}
    assert values["migrate"] == {"enabled": False}


def test_values_hold_no_secrets(values):
    for path, value in nodes(values):
        secret = re.search(r"(?i)(password|token|secret|webhook)$", path) and isinstance(value, str)
        assert not secret or value == "", path
        assert not re.search(r"://[^/\s]*:[^/\s]*@", str(value) if isinstance(value, str) else ""), path


def test_every_pod_has_resources_and_few_rights(values, manifest_checks):
    for name, pod in pods_of(values).items():
        assert POD.items() <= pod["podSecurityContext"].items(), name
        assert pod["securityContext"] == CONTAINER, name
    (migrate,) = values["dagsterWebserver"]["extraPrependedInitContainers"]
    assert migrate["securityContext"] == CONTAINER
    places = [*pods_of(values).values(), launcher(values), migrate]
    asked = [place["resources"] for place in places]
    asked += [values[part]["initContainerResources"] for part in ("dagsterWebserver", "dagsterDaemon")]
    for resources in asked:
        for name in ("cpu", "memory"):
            request, limit = (manifest_checks.quantity(resources[group][name]) for group in ("requests", "limits"))
            assert 0 < request <= limit


def test_every_pod_has_probes_and_the_code_server_a_cheap_one(values):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert values["dagsterWebserver"][probe]["httpGet"] == {"path": "/server_info", "port": 3000}
    assert values["dagsterWebserver"]["service"]["port"] == 3000
    assert values["dagsterDaemon"]["livenessProbe"]["exec"] == {"command": ["dagster-daemon", "liveness-check"]}
    code = location(values)
    assert code["readinessProbe"] == {"enabled": False}  # with a command of its own the chart renders `enabled` into it
    for probe in ("startupProbe", "livenessProbe"):
        command = code[probe]["exec"]["command"]
        assert command[:2] == ["python", "-c"]
        assert f"('127.0.0.1', {code['port']})" in command[2]


def test_the_code_location_has_the_settings_and_hands_them_to_its_runs(values):
    code = location(values)
    assert (code["name"], code["port"]) == ("mimic", 3030)
    assert code["dagsterApiGrpcArgs"] == ["-m", "mimic_assets.definitions"]
    assert code["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert code["env"]["MIMIC_ENV"] == "kubernetes"
    assert code["env"]["MIMIC_HOME"] == "/mimic"
    assert code["env"]["MIMIC_GPU_IMAGE"] == f"mimic:{VERSION}-gpu"
    assert "MIMIC_ALLOW_LAYERS_CODE" not in code["env"]
    assert all(isinstance(value, str) for value in code["env"].values())


def test_on_one_node_nothing_is_pulled_and_no_gpu_is_asked_for(manifest_checks):
    local = read_values(*FILES["values-local"])
    assert {pod["image"]["pullPolicy"] for pod in pods_of(local).values()} == {"Never"}
    assert launcher(local)["imagePullPolicy"] == "Never"
    compute = json.loads(location(local)["env"]["MIMIC_COMPUTE"])
    assert compute.keys() == set(STAGES)
    for asked in compute.values():
        assert asked["gpu"] == 0
        assert 0 < manifest_checks.quantity(asked["memory"]) <= manifest_checks.quantity("2Gi")


def test_what_is_repeated_on_one_node_differs_only_where_it_says():
    both = [location(read_values(*FILES[name])) for name in ("values", "values-local")]
    differs = {key for key in both[0].keys() | both[1].keys() if both[0].get(key) != both[1].get(key)}
    assert differs == {"image", "env", "resources"}
    assert both[1]["env"].keys() - both[0]["env"].keys() == {"MIMIC_COMPUTE"}
    values = [read_values(*FILES[name]) for name in ("values", "values-local")]
    steps = [each["dagsterWebserver"]["extraPrependedInitContainers"][0] for each in values]
    assert {key for key in steps[0] if steps[0][key] != steps[1][key]} == {"imagePullPolicy", "resources"}


def test_the_example_of_what_is_yours_changes_nothing_yet():
    assert read_values(*FILES["mine"]) == read_values(*FILES["values"])


def test_the_line_of_the_readme_names_another_registry_and_tag_everywhere(tmp_path):
    (line,) = re.findall(r"^ *(sed (?:.*\\\n)*.*)", (HELM / "README.md").read_text(), re.MULTILINE)
    for path in (*KUBERNETES, *HELM.glob("*.yaml")):
        copy = tmp_path / "repository" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "mine.yaml").write_text((HELM / "mine-example.yaml").read_text())
    for _ in range(2):  # it is used again for the next release
        subprocess.run(["sh", "-ec", line], cwd=tmp_path / "repository", check=True)
    found = set()
    for path in tmp_path.rglob("*.yaml"):
        for place, value in ((p, v) for document in yaml.safe_load_all(path.read_text()) for p, v in nodes(document)):
            if isinstance(value, dict) and "repository" in value:
                found.add(f"{value['repository']}:{value['tag']}")
            elif isinstance(value, str) and place.endswith((".image", ".MIMIC_GPU_IMAGE")):
                found.add(value)
    ours = {f"registry.example.org/mimic:{VERSION}-{kind}" for kind in ("cpu", "gpu")}
    assert found == {"busybox:1.28", "postgres:16"} | ours


def test_the_run_launcher_takes_its_part_of_the_values(values):
    taken = process_config(K8sRunLauncher.config_type(), launcher_config(values))
    assert taken.success, taken.errors
    assert launcher(values)["failPodOnRunFailure"] is False
    assert launcher(values)["loadInclusterConfig"] is True
    known = {"imagePullPolicy", "loadInclusterConfig", "resources", "securityContext", "labels", "failPodOnRunFailure"}
    assert launcher(values).keys() == known | {"runK8sConfig"}  # all of them are in launcher_config above


def test_the_job_of_a_run_is_valid_and_holds_what_the_values_say(values, manifest_checks):
    job = run_job(values) | {"apiVersion": "batch/v1", "kind": "Job"}
    assert manifest_checks.problems(job) == []
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["serviceAccountName"] == "mimic"
    assert POD.items() <= pod["securityContext"].items()
    (container,) = pod["containers"]
    assert container["securityContext"] == CONTAINER
    assert container["resources"] == location(values)["resources"] == launcher(values)["resources"]
    assert {"secretRef": {"name": "mimic"}} in container["envFrom"]
    assert {"configMapRef": {"name": "dagster-dagster-user-deployments-mimic-user-env"}} in container["envFrom"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp", "/mimic"}  # noqa: S108  a mount
    metadata = job["spec"]["template"]["metadata"]
    assert metadata["labels"]["mimic/part"] == "builds"
    assert metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def role() -> dict[str, Any]:
    (found,) = (
        each for each in yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text()) if each["kind"] == "Role"
    )
    return found


def granted() -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role()["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_role_covers_each_call_of_dagster_k8s_and_little_else():
    assert granted() - set(CALLS.values()) == {("batch", "jobs", "get")}  # to look at one whole, as kubectl does
    assert set(CALLS.values()) <= granted()


def test_the_role_has_no_wildcards():
    assert not [part for each in granted() for part in each if "*" in part]


def test_the_calls_that_the_role_was_written_for_are_those_that_dagster_k8s_makes():
    called = set()
    for module in (dagster_k8s.client, dagster_k8s.executor, dagster_k8s.launcher):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and re.search(r"_namespaced_|_for_all_namespaces", node.attr):
                called.add(node.attr.removesuffix("_with_retries"))
    assert called == set(CALLS)


def test_all_pods_use_the_service_account_of_the_role(values):
    accounts = [
        each["metadata"]["name"]
        for each in yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
        if each["kind"] == "ServiceAccount"
    ]
    assert accounts == [values["global"]["serviceAccountName"]] == ["mimic"]
    assert values["rbacEnabled"] is False
    assert values["serviceAccount"]["create"] is False
    assert values["dagster-user-deployments"]["rbacEnabled"] is False
    assert values["dagster-user-deployments"]["serviceAccount"]["create"] is False


def test_network_policies_deny_by_default_and_name_pods_by_labels_that_they_have(values, manifest_checks):
    policies = manifest_checks.documents((ROOT / "deploy/kubernetes/network-policies.yaml").read_text())
    assert policies[0]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = [value for _, value in nodes(policies) if isinstance(value, dict) and "mimic/part" in value]
    assert labels
    assert all(each == launcher(values)["labels"] for each in labels)
    by_name = {policy["metadata"]["name"]: policy["spec"] for policy in policies}
    (ingress,) = by_name["webserver-from-proxy"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": values["dagsterWebserver"]["service"]["port"]}]
    (ingress,) = by_name["code-from-dagster"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": location(values)["port"]}]
    # what launches or ends runs: the code server does where a command elsewhere takes them back
    (chosen,) = by_name["dagster-to-api"]["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == {"dagster-webserver", "dagster-daemon", "user-deployments"}


@pytest.mark.parametrize("page", [HELM / "README.md", RUNBOOK], ids=["README", "runbook"])
def test_a_page_names_only_files_that_exist(page):
    text = page.read_text()
    named = set(re.findall(r"deploy/(?:helm|kubernetes|images)/[\w.-]+\w", text))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_steps_of_the_readme_are_in_the_order_in_which_they_work():
    text = (HELM / "README.md").read_text()
    by_hand = text.split("## One node")[1].split("## Pools")[0]
    order = (
        "namespace.yaml",
        "volume-local.yaml",
        "SECRETS",
        "postgres-local.yaml",
        "helm upgrade --install",
        "pools-job.yaml",
    )
    places = [by_hand.index(word) for word in order]
    assert places == sorted(places)
