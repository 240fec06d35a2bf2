"""Every kustomization of k8s/ renders, is valid, and agrees with the service that it runs."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.bundle.folder import load_bundle
from service.server.run import MIN_CLOSE_SECONDS
from service.settings import DEFAULT_BUNDLE, PREFIX, Settings, load_settings
from tests.k8s.manifests import (
    COMPONENTS,
    FOLDERS,
    K8S,
    PROBES,
    ROOT,
    Document,
    environment,
    of_kind,
    only,
    pods,
    rendered,
    services,
)
from tests.k8s.validation import validate

USER = 10001
# The kinds that restricted pods may have and that are used here.
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
SECURE_POD = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SECURE_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
MEBIBYTE = 1024 * 1024

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(K8S)))


def as_pod(spec: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def mebibytes(text: str) -> int:
    number = re.fullmatch(r"(\d+)Mi", text)
    assert number, text
    return int(number[1])


def measured(column: str) -> float:
    """A number of docs/performance.md, from the first row below that column's name."""
    tables = [line.split(" | ") for line in PERFORMANCE.splitlines() if line.startswith("|")]
    (head,) = [row for row in tables if any(column in cell for cell in row)]
    (position,) = [number for number, cell in enumerate(head) if column in cell]
    # A number that misses its goal is bold.
    return float(tables[tables.index(head) + 2][position].strip("*"))


def overload_megabytes() -> float:
    """The service's peak memory in MB at four times its capacity, from docs/performance.md."""
    (found,) = re.findall(r"^\| memory at most, MB \| ([\d.]+) \|", PERFORMANCE, re.MULTILINE)
    return float(found)


@every_folder
def test_it_renders_and_is_valid(folder: Path) -> None:
    documents = rendered(folder)
    assert documents
    for document in documents:
        validate(document)
    for _, pod in pods(documents):
        validate(as_pod(pod))


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod.update(enableServiceLink=False),
        lambda pod: pod["containers"][0].update(readynessProbe={}),
        lambda pod: pod["containers"][0]["lifecycle"]["preStop"]["sleep"].update(seconds="5"),
    ],
    ids=["pod", "container", "type"],
)
def test_a_mistake_fails_the_validation(change: Any) -> None:
    ((_, spec),) = pods(rendered(K8S / "base"))
    pod = yaml.safe_load(yaml.safe_dump(as_pod(spec)))
    validate(pod)
    change(pod["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(pod)


@every_folder
def test_everything_is_in_the_one_namespace(folder: Path) -> None:
    for document in rendered(folder):
        if document["kind"] not in {"Namespace", "PersistentVolume"}:
            assert document["metadata"]["namespace"] == "edgewise", document["metadata"]["name"]


@every_folder
def test_every_pod_is_restricted(folder: Path) -> None:
    for name, pod in pods(rendered(folder)):
        assert pod["securityContext"] == SECURE_POD, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod.keys().isdisjoint({"hostIPC", "hostNetwork", "hostPID", "initContainers"}), name
        for container in pod["containers"]:
            assert container["securityContext"] == SECURE_CONTAINER, name
            assert all("hostPort" not in port for port in container.get("ports", [])), name
        for volume in pod.get("volumes", []):
            assert volume.keys() - {"name"} <= VOLUMES, name


def test_the_namespace_enforces_restricted_pods() -> None:
    (namespace,) = of_kind("Namespace", rendered(K8S / "base"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (account,) = of_kind("ServiceAccount", rendered(K8S / "base"))
    assert account["automountServiceAccountToken"] is False


@every_folder
def test_no_pod_has_environment_variables_of_services(folder: Path) -> None:
    # A Service named edgewise would set EDGEWISE_PORT=tcp://..., an invalid setting.
    for name, pod in pods(rendered(folder)):
        assert pod["enableServiceLinks"] is False, name


@every_folder
def test_the_settings_are_valid(folder: Path) -> None:
    documents = rendered(folder)
    for _, container in services(documents):
        environ = environment(container, documents)
        settings = load_settings(environ)
        assert environ.keys() <= {PREFIX + field.upper() for field in Settings.model_fields}
        assert settings.variant in load_bundle(DEFAULT_BUNDLE).manifest.variants


def test_named_settings_exist() -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for file in K8S.rglob("*.*"):
        assert set(re.findall(r"\bEDGEWISE_[A-Z0-9_]+\b", file.read_text())) <= known, file


@every_folder
def test_a_pod_gives_the_service_enough_time_to_stop(folder: Path) -> None:
    documents = rendered(folder)
    for pod, container in services(documents):
        settings = load_settings(environment(container, documents))
        seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        seconds += settings.drain_grace_seconds + settings.drain_seconds + MIN_CLOSE_SECONDS
        assert seconds < pod["terminationGracePeriodSeconds"]


def test_the_pods_of_one_version_are_spread_over_nodes() -> None:
    deployment = only("Deployment", "base")["spec"]
    assert deployment["template"]["spec"]["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": deployment["selector"],
            # Otherwise the old pods count too, and after a rollout all new ones may be on one node.
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]


@every_folder
def test_probes_use_existing_routes(folder: Path, routes: set[str]) -> None:
    documents = rendered(folder)
    for _, container in services(documents):
        settings = load_settings(environment(container, documents))
        assert container["ports"] == [{"name": "http", "containerPort": settings.port, "protocol": "TCP"}]
        for probe, path in PROBES.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
            assert path in routes
        # Probes don't wait for a worker as requests do, but share the processor with them.
        liveness = container["livenessProbe"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] > settings.request_timeout_seconds


@every_folder
def test_a_service_targets_a_port_of_its_pods(folder: Path) -> None:
    documents = rendered(folder)
    templates = [
        document["spec"]["template"] for document in documents if "template" in document.get("spec", {})
    ]
    for service in of_kind("Service", documents):
        selector = service["spec"]["selector"].items()
        chosen = [template for template in templates if selector <= template["metadata"]["labels"].items()]
        assert chosen, service["metadata"]["name"]
        for template in chosen:
            names = {
                port["name"] for container in template["spec"]["containers"] for port in container["ports"]
            }
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@every_folder
def test_images_are_of_this_version(folder: Path, version: str) -> None:
    for _, pod in pods(rendered(folder)):
        for container in pod["containers"]:
            name, _, tag = container["image"].partition(":")
            assert name in {"edgewise", "edgewise-loadtest"}
            assert tag == version


@every_folder
def test_a_pod_requests_the_measured_memory(folder: Path) -> None:
    for _, container in services(rendered(folder)):
        resources = container["resources"]
        requests, limits = (
            mebibytes(resources[kind]["memory"]) * MEBIBYTE for kind in ("requests", "limits")
        )
        assert requests >= 1e6 * measured("MB after 20000")
        assert limits >= 1e6 * overload_megabytes()
        # One worker per core.
        assert resources["limits"]["cpu"] == "1"


def test_every_folder_is_in_the_documents() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    listed = re.findall(r"^\| `k8s/([\w/-]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(str(folder.relative_to(K8S)) for folder in (*FOLDERS, *COMPONENTS))
    assert "Kubernetes 1.30 or newer" in text
