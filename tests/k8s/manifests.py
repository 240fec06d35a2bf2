"""The kustomizations of k8s/, as kubectl renders them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
_FOLDERS = sorted(file.parent for file in K8S.rglob("kustomization.yaml"))
COMPONENTS = [folder for folder in _FOLDERS if folder.parent.name == "components"]
FOLDERS = [folder for folder in _FOLDERS if folder not in COMPONENTS]
# The fields that KServe reads itself; the others are the container's or the pod's.
MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime", "storageUri"}
PREDICTOR_FIELDS = {"minReplicas", "model"}
PROBES = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}

Document = dict[str, Any]


def rendered(folder: Path) -> list[Document]:
    """What `kubectl apply -k` would apply; skips without kubectl."""
    return list(yaml.safe_load_all(_rendered(folder)))


@cache
def _rendered(folder: Path) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl 1.30 or newer, which is not here")
    command = [kubectl, "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def of_kind(kind: str, documents: list[Document]) -> list[Document]:
    """The documents of one kind."""
    return [document for document in documents if document["kind"] == kind]


def only(kind: str, folder: str) -> Document:
    """The only one of its kind in a folder of k8s/."""
    (document,) = of_kind(kind, rendered(K8S / folder))
    return document


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each pod template: the kind and name of its document, and the pod's spec."""
    for document in documents:
        spec = document.get("spec", {})
        name = f"{document['kind']} {document['metadata']['name']}"
        if "template" in spec:
            yield name, spec["template"]["spec"]
        if document["kind"] == "InferenceService":
            yield name, _predictor(document, documents)


def environment(container: Document, documents: list[Document]) -> dict[str, str]:
    """A container's environment variables."""
    maps = {document["metadata"]["name"]: document["data"] for document in of_kind("ConfigMap", documents)}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    return found | {variable["name"]: variable["value"] for variable in container.get("env", [])}


def services(documents: list[Document]) -> Iterator[tuple[Document, Document]]:
    """The specs of each pod that runs the service, and of its container."""
    for _, pod in pods(documents):
        for container in pod["containers"]:
            if container["image"].rpartition(":")[0].rpartition("/")[2] == "edgewise":
                yield pod, container


def _predictor(service: Document, documents: list[Document]) -> Document:
    """The pod that KServe makes from the predictor, the runtime's container and the model."""
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    (runtime,) = [
        document
        for document in of_kind("ServingRuntime", documents)
        if document["metadata"]["name"] == model["runtime"]
    ]
    (container,) = runtime["spec"]["containers"]
    filled = json.loads(json.dumps(container).replace("{{.Name}}", service["metadata"]["name"]))
    pod_fields = {name: value for name, value in predictor.items() if name not in PREDICTOR_FIELDS}
    container_fields = {name: value for name, value in model.items() if name not in MODEL_FIELDS}
    return {**pod_fields, "containers": [{**filled, **container_fields}]}
