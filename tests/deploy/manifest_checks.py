"""Checks of Kubernetes manifests without a cluster: their schema, and what an API server refuses beyond it.

`python tests/deploy/manifest_checks.py FILE...` prints the problems of YAML files and exits with 1 if there are any. The
schema takes any text as a quantity, a name or a restartPolicy. What is checked beyond it follows the API server's own
validation (1.37); a manifest without problems may still be refused, for instance by a quota or an admission webhook.
"""

import base64
import binascii
import ipaddress
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

KUBERNETES = "1.37.0"  # the newest schema of kubernetes-validate 1.37; objects that older clusters had and this has not fail
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")  # newer clusters take more, older ones do not
DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]))?")
SCALES = {
    **{name: Decimal(1024) ** power for power, name in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
    **{name: Decimal(1000) ** power for power, name in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
}
OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")  # and hugepages-SIZE; all others have a domain, as nvidia.com/gpu
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
LABEL_NAMES = ("Namespace",)
LABEL_1035_NAMES = ("Service",)
PATH_NAMES = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")  # may hold colons and capitals
LONGEST = {"Job": 63, "CronJob": 52}  # their pods carry the name as a label, of a CronJob with 11 characters more
TEMPLATES = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(("Job", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"), ("spec", "template")),
}

Found = Iterator[str]


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what an API server would refuse of a manifest: for each problem its path, what was found, what was expected."""
    if not isinstance(manifest, Mapping):
        return [f"the manifest is {manifest!r}, expected a mapping with apiVersion and kind"]
    if missing := [key for key in ("apiVersion", "kind") if not isinstance(manifest.get(key), str)]:
        return [f"{key} is {manifest.get(key)!r}, expected text, such as batch/v1 and Job" for key in missing]
    if manifest["kind"] == "List":
        return [f"items[{place}].{each}" for place, item in listed(manifest.get("items")) for each in problems(item)]
    return [*_schema(manifest), *(each for rule in RULES for each in rule(manifest))]


def quantity(value: Any) -> Decimal | None:
    """Return the number that a quantity such as 500m, 1.5Gi, 2 or 1e3 stands for; None if it is none."""
    found = QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    return Decimal(number + (exponent or "")) * SCALES[suffix or ""]


def mapped(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and of what is none an empty one: that it is none is said by the schema."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Return the mappings of a list with their places."""
    items = value if isinstance(value, list) else []
    return ((place, item) for place, item in enumerate(items) if isinstance(item, Mapping))


def at(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping that lies at a path."""
    for key in path:
        value = mapped(value).get(key)
    return mapped(value)


def _said(path: str, found: Any, expected: str) -> str:
    return f"{path} is {found!r}, expected {expected}"


@cache
def _definitions() -> Resource[Any]:
    return Resource.from_contents(_stored("_definitions.json"))


def _stored(name: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    return json.loads((folder / name).read_text(encoding="utf-8"))


@cache
def _validator(kind: str, version: str) -> Draft202012Validator | None:
    # kubernetes_validate.validate reads 1.8 MB of JSON at every call, 21 ms for a Job, and stops at the first problem; with
    # what is kept here all of a Job is checked in 1.4 ms
    group, _, version = version.rpartition("/")
    short = group.partition(".")[0]
    try:
        schema = _stored(f"{kind.lower()}-{short}-{version}.json" if short else f"{kind.lower()}-{version}.json")
    except FileNotFoundError:
        return None
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ (_definitions() @ Registry()))


def _schema(manifest: Mapping[str, Any]) -> Found:
    kind, version = manifest["kind"], manifest["apiVersion"]
    validator = _validator(kind, version)
    if validator is None:
        yield f"kind is {kind!r} of apiVersion {version!r}, expected one that Kubernetes {KUBERNETES} has itself"
        return
    for error in validator.iter_errors(manifest):
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path).lstrip(".")
        if error.validator == "oneOf":  # quantities, and numbers or names of ports
            yield _said(path, error.instance, "text or a number")
        else:
            yield f"{path or 'the manifest'}: {error.message}"


def _is_name(value: Any, pattern: re.Pattern[str], longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and pattern.fullmatch(value) is not None


def _is_label(value: Any) -> bool:
    return _is_name(value, LABEL, 63)


def _is_subdomain(value: Any) -> bool:
    return _is_name(value, SUBDOMAIN, 253)


A_LABEL = "a DNS-1123 label: at most 63 of a-z, 0-9 and '-', a letter or digit at both ends"
A_SUBDOMAIN = "a DNS-1123 subdomain: at most 253 of a-z, 0-9, '-' and '.', a letter or digit at both ends of each part"
A_KEY = "[DNS-1123 subdomain/]at most 63 of letters, digits, '-', '_' and '.'"
A_VALUE = "at most 63 of letters, digits, '-', '_' and '.', a letter or digit at both ends"


def _names(manifest: Mapping[str, Any]) -> Found:
    kind, metadata = manifest["kind"], at(manifest, "metadata")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if name is None and metadata.get("generateName") is None:
        yield _said("metadata.name", name, "a name")
    elif name is not None:
        yield from _name_of(kind, name)
    if namespace is not None and not _is_label(namespace):
        yield _said("metadata.namespace", namespace, A_LABEL)


def _name_of(kind: str, name: Any) -> Found:
    if kind in PATH_NAMES:
        right = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "%"}
        expected = "text without '/' and '%'"
    elif kind in LABEL_1035_NAMES:
        right, expected = _is_name(name, LABEL_1035, 63), f"{A_LABEL}, and beginning with a letter"
    elif kind in LABEL_NAMES:
        right, expected = _is_label(name), A_LABEL
    elif kind in LONGEST:
        longest = LONGEST[kind]
        right, expected = _is_name(name, SUBDOMAIN, longest), f"{A_SUBDOMAIN}, of a {kind} at most {longest}"
    else:
        right, expected = _is_subdomain(name), A_SUBDOMAIN
    if not right:
        yield _said("metadata.name", name, expected)


def _is_qualified(key: Any) -> bool:
    prefix, slash, name = key.rpartition("/") if isinstance(key, str) else ("", "", None)
    return _is_name(name, QUALIFIED, 63) and (not slash or _is_subdomain(prefix))


def _labels(path: str, labels: Any) -> Found:
    for key, value in mapped(labels).items():
        if not _is_qualified(key):
            yield _said(f"{path}: key", key, A_KEY)
        if isinstance(value, str) and value and not _is_name(value, QUALIFIED, 63):
            yield _said(f"{path}[{key}]", value, A_VALUE)


def _metadata(manifest: Mapping[str, Any]) -> Found:
    places = {"metadata": at(manifest, "metadata")}
    if path := TEMPLATES.get(manifest["kind"]):
        places[".".join((*path, "metadata"))] = at(manifest, *path, "metadata")
    for path, metadata in places.items():
        yield from _labels(f"{path}.labels", metadata.get("labels"))
        for key in mapped(metadata.get("annotations")):
            if not _is_qualified(key.lower() if isinstance(key, str) else key):
                yield _said(f"{path}.annotations: key", key, A_KEY)


def _workloads(manifest: Mapping[str, Any]) -> Found:
    kind = manifest["kind"]
    if not (path := TEMPLATES.get(kind)):
        return
    template = at(manifest, *path)
    policy, where = at(template, "spec").get("restartPolicy"), ".".join((*path, "spec.restartPolicy"))
    job = at(manifest, *path[:-1])
    if kind not in ("Job", "CronJob"):
        if policy not in (None, "Always"):
            yield _said(where, policy, f"Always, as of every {kind}")
        wanted, have = at(job, "selector", "matchLabels"), at(template, "metadata", "labels")
        if missing := {key: value for key, value in wanted.items() if have.get(key) != value}:
            yield _said("spec.template.metadata.labels", dict(have), f"those of spec.selector.matchLabels: {missing}")
        yield from _labels("spec.selector.matchLabels", wanted)
        return
    if policy not in ("Never", "OnFailure"):
        yield _said(where, policy, "Never or OnFailure, as of every Job; the default, Always, is refused")
    elif job.get("podFailurePolicy") and policy != "Never":
        yield _said(where, policy, "Never beside a podFailurePolicy")
    for key in ("backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "parallelism", "completions"):
        if isinstance(value := job.get(key), int) and value < 0:
            yield _said(".".join((*path[:-1], key)), value, "at least 0")


def _pods(manifest: Mapping[str, Any]) -> Found:
    if (path := TEMPLATES.get(manifest["kind"])) is None:
        return
    pod, where = at(manifest, *path, "spec"), ".".join((*path, "spec"))
    volumes = [volume.get("name") for _, volume in listed(pod.get("volumes"))]
    volumes += [at(claim, "metadata").get("name") for _, claim in listed(at(manifest, "spec").get("volumeClaimTemplates"))]
    containers = [
        (f"{where}.{key}[{place}]", container)
        for key in ("initContainers", "containers")
        for place, container in listed(pod.get(key))
    ]
    if not pod.get("containers"):
        yield _said(f"{where}.containers", pod.get("containers"), "at least one container")
    yield from _repeated(f"{where}.containers and initContainers: name", (each.get("name") for _, each in containers))
    for place, container in containers:
        for rule in CONTAINER_RULES:
            yield from rule(place, container)
        yield from _mounts(place, container, volumes)
    yield from _volumes(where, pod)
    yield from _labels(f"{where}.nodeSelector", pod.get("nodeSelector"))
    for place, toleration in listed(pod.get("tolerations")):
        yield from _toleration(f"{where}.tolerations[{place}]", toleration)
    if (account := pod.get("serviceAccountName")) and not _is_subdomain(account):
        yield _said(f"{where}.serviceAccountName", account, A_SUBDOMAIN)


def _repeated(path: str, values: Iterator[Any]) -> Found:
    for value, count in Counter(value for value in values if isinstance(value, str)).items():
        if count > 1:
            yield f"{path} {value!r} is there {count} times, expected once"


def _container(path: str, container: Mapping[str, Any]) -> Found:
    if not _is_label(container.get("name")):
        yield _said(f"{path}.name", container.get("name"), A_LABEL)
    image = container.get("image")
    if not isinstance(image, str) or not image or image != image.strip() or " " in image:
        yield _said(f"{path}.image", image, "an image")


def _environment(path: str, container: Mapping[str, Any]) -> Found:
    for place, variable in listed(container.get("env")):
        name = variable.get("name")
        if not _is_name(name, ENV_NAME, 253):
            yield _said(f"{path}.env[{place}].name", name, "letters, digits, '_', '-' and '.', no digit first")
        if variable.get("value") and variable.get("valueFrom"):
            yield f"{path}.env[{place}] has value and valueFrom, expected one of them"
        for source in ("secretKeyRef", "configMapKeyRef"):
            reference = at(variable, "valueFrom", source)
            if reference and not _is_subdomain(reference.get("name")):
                yield _said(f"{path}.env[{place}].valueFrom.{source}.name", reference.get("name"), A_SUBDOMAIN)
    for place, source in listed(container.get("envFrom")):
        if len([key for key in ("configMapRef", "secretRef") if source.get(key)]) != 1:
            yield _said(f"{path}.envFrom[{place}]", dict(source), "either a configMapRef or a secretRef")
        for key in ("configMapRef", "secretRef"):
            if source.get(key) and not _is_subdomain(at(source, key).get("name")):
                yield _said(f"{path}.envFrom[{place}].{key}.name", at(source, key).get("name"), A_SUBDOMAIN)


def _resources(path: str, container: Mapping[str, Any]) -> Found:
    path, resources = f"{path}.resources", at(container, "resources")
    amounts: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for group, found in amounts.items():
        for name, value in at(resources, group).items():
            yield from _resource_name(f"{path}.{group}", name)
            number = quantity(value)
            if number is None or number < 0:
                yield _said(f"{path}.{group}[{name}]", value, "a quantity of at least 0, such as 500m, 2, 1.5Gi or 1e3")
            else:
                found[name] = number
                yield from _whole(f"{path}.{group}[{name}]", name, value, number)
    for name, limit in amounts["limits"].items():
        request = amounts["requests"].get(name, limit)
        if _must_be_equal(name) and request != limit:
            yield _said(f"{path}.requests[{name}]", resources["requests"][name], f"its limit, {resources['limits'][name]!r}")
        elif request > limit:
            found, most = resources["requests"][name], resources["limits"][name]
            yield _said(f"{path}.requests[{name}]", found, f"at most its limit, {most!r}")
    for name in amounts["requests"]:
        if _must_be_equal(name) and name not in at(resources, "limits"):
            yield f"{path}.limits has no {name}, expected the same as in requests"


def _must_be_equal(name: Any) -> bool:
    return isinstance(name, str) and ("/" in name or name.startswith("hugepages-"))


def _resource_name(path: str, name: Any) -> Found:
    known = isinstance(name, str) and (name in OF_CONTAINERS or name.startswith("hugepages-"))
    if not known and not (isinstance(name, str) and "/" in name and _is_qualified(name)):
        expected = f"one of {', '.join(OF_CONTAINERS)}, or one with a domain, such as nvidia.com/gpu"
        yield _said(f"{path}: key", name, expected)


def _whole(path: str, name: Any, value: Any, number: Decimal) -> Found:
    if name == "cpu":
        if number * 1000 % 1:
            yield _said(path, value, "whole thousandths of a core")
    elif number % 1:
        # memory in thousandths of bytes (128m) is taken with a warning, and is a mistake for 128Mi
        yield _said(path, value, "a whole number" if "/" in str(name) else "whole bytes, such as 128Mi")


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _port(path: str, value: Any, *, named: bool = False) -> Found:
    if not (_is_port(value) or (named and _is_name(value, PORT_NAME, 15))):
        yield _said(path, value, "a port from 1 to 65535" + (" or a name of at most 15 characters" if named else ""))


def _ports(path: str, container: Mapping[str, Any]) -> Found:
    for place, port in listed(container.get("ports")):
        yield from _port(f"{path}.ports[{place}].containerPort", port.get("containerPort"))
        if "hostPort" in port:
            yield from _port(f"{path}.ports[{place}].hostPort", port["hostPort"])
        if "name" in port and not _is_name(port["name"], PORT_NAME, 15):
            yield _said(f"{path}.ports[{place}].name", port["name"], "at most 15 of a-z, 0-9 and '-', with a letter")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        for way in ("httpGet", "tcpSocket"):
            if found := at(container, probe, way):
                yield from _port(f"{path}.{probe}.{way}.port", found.get("port"), named=True)
        if found := at(container, probe, "grpc"):
            yield from _port(f"{path}.{probe}.grpc.port", found.get("port"))


CONTAINER_RULES: tuple[Callable[[str, Mapping[str, Any]], Found], ...] = (_container, _environment, _resources, _ports)


def _mounts(path: str, container: Mapping[str, Any], volumes: list[Any]) -> Found:
    mounts = list(listed(container.get("volumeMounts")))
    for place, mount in mounts:
        if mount.get("name") not in volumes:
            names = ", ".join(sorted(map(str, volumes))) or "none"
            yield _said(f"{path}.volumeMounts[{place}].name", mount.get("name"), f"one of the pod's volumes: {names}")
        for key in ("mountPath", "subPath"):
            value = mount.get(key)
            if key in mount and (not value or ":" in str(value) or ".." in str(value).split("/")):
                yield _said(f"{path}.volumeMounts[{place}].{key}", value, "a path without ':' and '..'")
    yield from _repeated(f"{path}.volumeMounts: mountPath", (mount.get("mountPath") for _, mount in mounts))


def _volumes(path: str, pod: Mapping[str, Any]) -> Found:
    volumes = list(listed(pod.get("volumes")))
    yield from _repeated(f"{path}.volumes: name", (volume.get("name") for _, volume in volumes))
    for place, volume in volumes:
        if not _is_label(volume.get("name")):
            yield _said(f"{path}.volumes[{place}].name", volume.get("name"), A_LABEL)
        sources = sorted(str(key) for key, value in volume.items() if key != "name" and value is not None)
        if len(sources) != 1:
            yield _said(f"{path}.volumes[{place}]", sources, "exactly one source, such as emptyDir")
        limit = at(volume, "emptyDir").get("sizeLimit")
        if limit is not None and ((number := quantity(limit)) is None or number < 0):
            yield _said(f"{path}.volumes[{place}].emptyDir.sizeLimit", limit, "a quantity of at least 0, such as 1Gi")


def _toleration(path: str, toleration: Mapping[str, Any]) -> Found:
    key, operator, value = toleration.get("key"), toleration.get("operator") or "Equal", toleration.get("value")
    effect = toleration.get("effect")
    if operator not in ("Equal", "Exists"):
        yield _said(f"{path}.operator", operator, "Equal or Exists")
    if operator == "Exists" and value:
        yield _said(f"{path}.value", value, "nothing beside the operator Exists")
    if operator == "Equal" and value and not _is_name(value, QUALIFIED, 63):
        yield _said(f"{path}.value", value, A_VALUE)
    if not key and operator != "Exists":
        yield _said(f"{path}.operator", operator, "Exists where there is no key")
    if key and not _is_qualified(key):
        yield _said(f"{path}.key", key, A_KEY)
    if effect and effect not in EFFECTS:
        yield _said(f"{path}.effect", effect, f"one of {', '.join(EFFECTS)}, or none")
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield _said(f"{path}.effect", effect, "NoExecute beside tolerationSeconds")


def _services(manifest: Mapping[str, Any]) -> Found:
    if manifest["kind"] != "Service":
        return
    spec = at(manifest, "spec")
    ports = list(listed(spec.get("ports")))
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield _said("spec.ports", spec.get("ports"), "at least one port")
    for place, port in ports:
        yield from _port(f"spec.ports[{place}].port", port.get("port"))
        for key in ("targetPort", "nodePort"):
            if key in port:
                yield from _port(f"spec.ports[{place}].{key}", port[key], named=key == "targetPort")
        if ("name" in port or len(ports) > 1) and not _is_label(port.get("name")):
            yield _said(f"spec.ports[{place}].name", port.get("name"), A_LABEL)
    yield from _labels("spec.selector", spec.get("selector"))


def _claims(manifest: Mapping[str, Any]) -> Found:
    kind, spec = manifest["kind"], at(manifest, "spec")
    if kind not in ("PersistentVolume", "PersistentVolumeClaim"):
        return
    path = ("resources", "requests") if kind == "PersistentVolumeClaim" else ("capacity",)
    storage = at(spec, *path).get("storage")
    number = quantity(storage)
    if number is None or number <= 0:
        yield _said(".".join(("spec", *path, "storage")), storage, "a quantity above 0, such as 100Gi")
    modes = spec.get("accessModes")
    if not isinstance(modes, list) or not modes or any(mode not in ACCESS_MODES for mode in modes):
        yield _said("spec.accessModes", modes, f"some of {', '.join(ACCESS_MODES)}")


def _rights(manifest: Mapping[str, Any]) -> Found:
    kind = manifest["kind"]
    if kind in ("Role", "ClusterRole"):
        for place, rule in listed(manifest.get("rules")):
            if not rule.get("verbs"):
                yield _said(f"rules[{place}].verbs", rule.get("verbs"), "at least one verb")
            if rule.get("resources") and not isinstance(rule.get("apiGroups"), list):
                yield _said(f"rules[{place}].apiGroups", rule.get("apiGroups"), 'a list; [""] is the group of pods')
    if kind in ("RoleBinding", "ClusterRoleBinding"):
        for place, subject in listed(manifest.get("subjects")):
            if subject.get("kind") == "ServiceAccount" and not _is_label(subject.get("namespace")):
                yield _said(f"subjects[{place}].namespace", subject.get("namespace"), "the namespace of the service account")


def _policies(manifest: Mapping[str, Any]) -> Found:
    if manifest["kind"] != "NetworkPolicy":
        return
    spec = at(manifest, "spec")
    yield from _labels("spec.podSelector.matchLabels", at(spec, "podSelector").get("matchLabels"))
    types = spec.get("policyTypes")
    for word in types if isinstance(types, list) else []:
        if word not in ("Ingress", "Egress"):
            yield _said("spec.policyTypes", word, "Ingress or Egress")
    for way, ends in (("ingress", "from"), ("egress", "to")):
        if spec.get(way) and isinstance(types, list) and way.capitalize() not in types:
            yield _said("spec.policyTypes", types, f"{way.capitalize()} too, as there are rules of it")
        for place, rule in listed(spec.get(way)):
            for number, port in listed(rule.get("ports")):
                if "port" in port:
                    yield from _port(f"spec.{way}[{place}].ports[{number}].port", port["port"], named=True)
            for number, peer in listed(rule.get(ends)):
                yield from _peer(f"spec.{way}[{place}].{ends}[{number}]", peer)


def _peer(path: str, peer: Mapping[str, Any]) -> Found:
    if not peer or ("ipBlock" in peer and len(peer) > 1):
        yield _said(path, sorted(map(str, peer)), "either an ipBlock, or a podSelector, a namespaceSelector or both")
    for selector in ("podSelector", "namespaceSelector"):
        yield from _labels(f"{path}.{selector}.matchLabels", at(peer, selector).get("matchLabels"))
    if "ipBlock" in peer:
        block = at(peer, "ipBlock")
        excepted = block.get("except")
        for text in (block.get("cidr"), *(excepted if isinstance(excepted, list) else [])):
            if not _is_network(text):
                yield _said(f"{path}.ipBlock", text, "a network such as 10.0.0.0/16")


def _is_network(text: Any) -> bool:
    try:
        return isinstance(text, str) and "/" in text and bool(ipaddress.ip_network(text))
    except ValueError:
        return False


def _data(manifest: Mapping[str, Any]) -> Found:
    if manifest["kind"] not in ("Secret", "ConfigMap"):
        return
    for group in ("data", "stringData", "binaryData"):
        for key, value in at(manifest, group).items():
            if not _is_name(key, DATA_KEY, 253):
                yield _said(f"{group}: key", key, "letters, digits, '-', '_' and '.'")
            if group == "binaryData" or (group == "data" and manifest["kind"] == "Secret"):
                try:
                    base64.b64decode(value, validate=True)
                except (binascii.Error, TypeError, ValueError):
                    yield f"{group}[{key}] is not base64, expected base64, or the text itself in stringData"


RULES: tuple[Callable[[Mapping[str, Any]], Found], ...] = (
    _names,
    _metadata,
    _workloads,
    _pods,
    _services,
    _claims,
    _rights,
    _policies,
    _data,
)


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that is there twice: an API server does, PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, count in Counter(key for key in keys if isinstance(key, str)).items():
            if count > 1:
                problem = f"the key {key!r} is there {count} times"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {  # the text =, which YAML 1.1 has a type for and PyYAML cannot read
    first: [(tag, pattern) for tag, pattern in kept if tag != "tag:yaml.org,2002:value"]
    for first, kept in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(text: str) -> list[dict[str, Any]]:
    """Return the manifests of a YAML text, without empty ones.

    Raises:
        yaml.YAMLError: the text is no YAML, or has a key twice.
    """
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]


def problems_of_text(text: str) -> list[str]:
    """Return the problems of all manifests of a YAML text, each with the kind and name of its manifest in front."""
    try:
        found = documents(text)
    except yaml.YAMLError as error:
        return [f"no YAML: {error}"]
    return [
        f"{mapped(manifest).get('kind')} {at(manifest, 'metadata').get('name')}: {each}"
        for manifest in found
        for each in problems(manifest)
    ]


def main(paths: list[str]) -> int:
    """Print the problems of files; return 1 if there are any, 2 without a file."""
    if not paths:
        print("usage: python tests/deploy/manifest_checks.py FILE...")  # noqa: T201
        return 2
    found = [f"{path}: {each}" for path in paths for each in problems_of_text(Path(path).read_text(encoding="utf-8"))]
    print("\n".join(found) or f"no problems in {len(paths)} files")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
