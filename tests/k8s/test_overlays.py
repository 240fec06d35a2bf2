"""Each overlay does what it is for, and agrees with the files and documents beside it."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from loadtest.locusts import own_options
from loadtest.options import add_options
from service.bundle.folder import load_bundle
from service.bundle.manifest import SCHEMA_VERSION
from service.settings import DEFAULT_BUNDLE
from tests.k8s.manifests import (
    COMPONENTS,
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
from tests.k8s.monitoring import FOLDER, RULES, metrics_in, promtool
from tests.k8s.validation import validate

EDGE = "overlays/edge"
# The files in the secrets that the commands of docs/kubernetes.md create.
SECRETS = {"edgewise-api-keys": ("api-keys",), "edgewise-tls": ("tls.crt", "tls.key")}
TLS_FILES = ("EDGEWISE_TLS_CERT_FILE", "EDGEWISE_TLS_KEY_FILE")
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text()
SWITCH = re.compile(r"^(sed -i \S+ k8s/base/settings.env) && kubectl apply -k (\S+)$", re.MULTILINE)


def known_metrics() -> set[str]:
    text = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(edgewise_\w+)` \|", text, re.MULTILINE))


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of `python -m loadtest` itself, and the arguments left for Locust."""
    parser = argparse.ArgumentParser(parents=[own_options()], allow_abbrev=False)
    add_options(parser)
    return parser.parse_known_args(arguments)


@pytest.mark.parametrize("folder", ["base", EDGE, "overlays/autoscale", "overlays/kserve"])
def test_one_command_switches_the_variant_of_all_pods(tmp_path: Path, folder: str) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    ((command, applied),) = SWITCH.findall(DOCUMENT)
    assert (ROOT / applied / "kustomization.yaml").exists()
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)  # noqa: S603
    before, after = rendered(K8S / folder), rendered(tmp_path / "k8s" / folder)
    switched = [environment(container, after)["EDGEWISE_VARIANT"] for _, container in services(after)]
    assert set(switched) == {"ptq"}
    assert set(switched) <= load_bundle(DEFAULT_BUNDLE).manifest.variants.keys()
    # Kubernetes replaces only pods whose spec has changed.
    for (name, old), (_, new) in zip(pods(before), pods(after), strict=True):
        assert old != new, name


@pytest.fixture(
    params=re.findall(r"^```yaml\n(resources.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL), ids=[0, 1]
)
def customized(request: pytest.FixtureRequest, tmp_path: Path) -> list[Document]:
    """The documents of a user's own kustomization, as docs/kubernetes.md shows it."""
    shutil.copytree(K8S, tmp_path / "edgewise" / "k8s")
    (tmp_path / "kustomization.yaml").write_text(request.param)
    return rendered(tmp_path)


def test_documented_kustomizations_make_their_changes(customized: list[Document]) -> None:
    images = {container["image"] for _, container in services(customized)}
    labels = {
        document["metadata"]["labels"].get("release")
        for document in customized
        if "labels" in document["metadata"]
    }
    assert (images, labels) in [
        ({"registry.example/edgewise:0.1.0"}, {None}),
        (set(), {"kube-prometheus-stack"}),
    ]


WITH_COMPONENTS = """
resources: [{overlay}]
components: [{components}]
"""


@pytest.fixture(params=["base", EDGE, "overlays/edge-host-bundle", "overlays/autoscale"])
def with_components(request: pytest.FixtureRequest, tmp_path: Path) -> list[Document]:
    """An overlay with all components."""
    shutil.copytree(K8S, tmp_path / "k8s")
    components = ", ".join(f"k8s/components/{folder.name}" for folder in COMPONENTS)
    text = WITH_COMPONENTS.format(overlay=f"k8s/{request.param}", components=components)
    (tmp_path / "kustomization.yaml").write_text(text)
    return rendered(tmp_path)


def test_components_add_keys_and_a_certificate_to_the_pods(with_components: list[Document]) -> None:
    for document in with_components:
        validate(document)
    ((pod, container),) = services(with_components)
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    files = {
        f"{mount['mountPath']}/{file}"
        for mount in container["volumeMounts"]
        if mount["name"] in secrets
        for file in SECRETS[secrets[mount["name"]]["secretName"]]
    }
    variables = environment(container, with_components)
    assert files == {variables[name] for name in ("EDGEWISE_API_KEYS_FILE", *TLS_FILES)}
    assert variables["EDGEWISE_VARIANT"] == "qat"
    assert all("subPath" not in mount and mount["readOnly"] for mount in container["volumeMounts"])
    assert {container[probe]["httpGet"]["scheme"] for probe in PROBES} == {"HTTPS"}


def test_the_document_creates_the_secrets_that_components_mount() -> None:
    made = re.findall(r"^kubectl -n edgewise create secret \S+ (\S+)", DOCUMENT, re.MULTILINE)
    assert sorted(made) == sorted(SECRETS)


def test_edge_nodes_run_the_pods_of_the_deployment() -> None:
    assert of_kind("Deployment", rendered(K8S / EDGE)) == []
    daemons, deployment = only("DaemonSet", EDGE)["spec"], only("Deployment", "base")["spec"]
    assert daemons.keys() == {"selector", "template", "updateStrategy"}
    assert daemons["selector"] == deployment["selector"]
    pod, other = daemons["template"]["spec"], deployment["template"]["spec"]
    assert pod.pop("nodeSelector") == {"kubernetes.io/arch": "arm64"}
    del other["topologySpreadConstraints"]
    assert daemons["template"] == deployment["template"]


def test_the_documented_patch_lets_a_rollout_go_on_past_nodes_that_are_off(tmp_path: Path) -> None:
    ((command, patch),) = re.findall(
        r"^(kubectl -n edgewise patch daemonset/edgewise) \\\n  --patch '(.*)'$", DOCUMENT, re.MULTILINE
    )
    daemons = only("DaemonSet", EDGE)
    assert command.endswith(f"/{daemons['metadata']['name']}")
    file = tmp_path / "daemons.yaml"
    file.write_text(yaml.safe_dump(daemons))
    result = subprocess.run(  # noqa: S603
        ["kubectl", "patch", "--local", f"--filename={file}", f"--patch={patch}", "--output=yaml"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    patched = yaml.safe_load(result.stdout)["spec"]["updateStrategy"]["rollingUpdate"]
    assert patched.pop("maxSurge") != daemons["spec"]["updateStrategy"]["rollingUpdate"].pop("maxSurge")
    assert patched == daemons["spec"]["updateStrategy"]["rollingUpdate"]


def test_requests_to_an_edge_node_stay_on_it() -> None:
    spec = only("Service", EDGE)["spec"]
    assert spec["internalTrafficPolicy"] == spec["externalTrafficPolicy"] == "Local"
    assert f"port {spec['ports'][0]['nodePort']}" in DOCUMENT


def test_the_host_s_bundle_is_mounted_where_the_service_reads_it() -> None:
    documents = rendered(K8S / "overlays" / "edge-host-bundle")
    ((pod, container),) = services(documents)
    (mount,) = container["volumeMounts"]
    # With its parent folder, so that earlier versions are there for a rollback.
    assert mount["mountPath"] == str(Path(environment(container, documents)["EDGEWISE_BUNDLE"]).parent)
    assert mount["readOnly"] is True
    (volume,) = pod["volumes"]
    (claim,) = of_kind("PersistentVolumeClaim", documents)
    (disk,) = of_kind("PersistentVolume", documents)
    assert volume["name"] == mount["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["volumeName"] == disk["metadata"]["name"]
    assert disk["spec"]["claimRef"] == {name: claim["metadata"][name] for name in ("name", "namespace")}
    assert claim["spec"]["accessModes"] == disk["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert disk["spec"]["hostPath"]["path"] in DOCUMENT


def test_the_autoscaler_has_its_target_and_its_metric(tmp_path: Path) -> None:
    deployment = only("Deployment", "overlays/autoscale")
    assert "replicas" not in deployment["spec"]
    scaler = only("HorizontalPodAutoscaler", "overlays/autoscale")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert scaler["scaleTargetRef"] == target
    adapter = yaml.safe_load((K8S / "overlays" / "autoscale" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    (metric,) = scaler["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = rule["seriesQuery"].partition("{")[0]
    filled = (
        rule["metricsQuery"]
        .replace("<<.Series>>", series)
        .replace("<<.GroupBy>>", "pod")
        .replace("<<.LabelMatchers>>", 'namespace="edgewise", pod=~"a|b"')
    )
    for expression in (filled, rule["seriesQuery"]):
        assert metrics_in(expression) <= known_metrics()
    file = tmp_path / "rules.yaml"
    rules = [{"record": "metric", "expr": filled}, {"record": "series", "expr": rule["seriesQuery"]}]
    file.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": rules}]}))
    promtool("check", "rules", file)


def test_draining_nodes_leaves_some_pods_running() -> None:
    budget = only("PodDisruptionBudget", "overlays/autoscale")["spec"]
    assert budget["selector"] == only("Deployment", "overlays/autoscale")["spec"]["selector"]
    assert (
        budget["maxUnavailable"]
        < only("HorizontalPodAutoscaler", "overlays/autoscale")["spec"]["minReplicas"]
    )
    # By default, no node could be drained while none of the pods is ready.
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_kserve_runs_the_container_of_the_deployment() -> None:
    documents = rendered(K8S / "overlays" / "kserve")
    assert of_kind("Deployment", documents) == of_kind("Service", documents) == []
    runtime, service = of_kind("ServingRuntime", documents) + of_kind("InferenceService", documents)
    (container,) = only("Deployment", "base")["spec"]["template"]["spec"]["containers"]
    ((_, made),) = services(documents)
    own = {"name": "kserve-container", "env": made["env"]}
    assert made == {**container, **own}
    # Clients of KServe request a model by this name.
    assert environment(made, documents)["EDGEWISE_MODEL_NAME"] == service["metadata"]["name"]
    model = service["spec"]["predictor"]["model"]
    assert runtime["spec"]["supportedModelFormats"] == [model["modelFormat"]]
    assert model["modelFormat"]["version"] == str(SCHEMA_VERSION)
    assert runtime["spec"]["protocolVersions"] == [model["protocolVersion"]] == ["v2"]


def test_the_operator_has_the_same_rules() -> None:
    text = (FOLDER / "prometheus-rule.yaml").read_text()
    head, _, rules = text.partition("\nspec:\n")
    indented = "".join(f"  {line}" if line.strip() else line for line in RULES.read_text().splitlines(True))
    assert rules == indented, f"run the command in its head: {head}"


def test_the_command_in_the_operator_s_file_writes_its_rules(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "monitoring")
    file = tmp_path / "monitoring" / "prometheus-rule.yaml"
    before = file.read_text()
    (command,) = re.findall(r"^# +(\{ sed .*)$", before, re.MULTILINE)
    file.write_text(before + "  # Of another day.\n")
    subprocess.run(["/bin/sh", "-c", command], cwd=file.parent, check=True)  # noqa: S603
    assert file.read_text() == before


def test_grafana_finds_the_dashboard() -> None:
    dashboard = only("ConfigMap", "monitoring")
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert dashboard["data"] == {"dashboard.json": (FOLDER / "dashboard.json").read_text()}


@pytest.mark.parametrize("folder", ["base", EDGE, "overlays/autoscale"])
def test_prometheus_finds_the_service(folder: str, routes: set[str]) -> None:
    monitor, service = only("ServiceMonitor", "monitoring")["spec"], only("Service", folder)
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    # The rules expect this in the job's name.
    assert "edgewise" in labels[monitor["jobLabel"]]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in routes


def test_the_load_test_loads_the_service() -> None:
    master, workers = (job["spec"] for job in of_kind("Job", rendered(K8S / "loadtest")))
    (container,) = master["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "loadtest"]
    options, others = parsed(container["args"])
    service = only("Service", "base")
    assert options.host == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"--expect-workers={workers['parallelism']}" in others
    assert "--expect-workers-max-wait=120" in others
    assert workers["parallelism"] == workers["completions"]
    (worker,) = workers["template"]["spec"]["containers"]
    _, others = parsed(worker["args"])
    master_service = only("Service", "loadtest")
    assert others == ["--worker", f"--master-host={master_service['metadata']['name']}"]
    assert master_service["spec"]["selector"].items() <= master["template"]["metadata"]["labels"].items()
    # The service's Service must send no requests to this pod.
    for job in (master, workers):
        labels = job["template"]["metadata"]["labels"]
        assert not service["spec"]["selector"].items() <= labels.items()
