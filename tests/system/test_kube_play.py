"""k8s/base, run by `podman kube play`: a pod of the image, with the manifest's settings and limits."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.k8s.manifests import K8S, rendered, services
from tests.system.classifying import CAT, CLASSIFY
from tests.system.images import Podman
from tests.system.processes import DEADLINE_SECONDS, wait_for
from tests.system.prometheus import free_port

CONTAINER = "edgewise-pod-0-edgewise"
POD = "edgewise-pod-0"
MEBIBYTE = 1024 * 1024
# podman would run these with curl in a shell, which the image lacks; the tests request /readyz themselves.
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A copy of k8s/base that the test may change."""
    if shutil.which("iptables") is None:
        pytest.skip("needs iptables, by which podman publishes ports, and which is not here")
    return shutil.copytree(K8S / "base", tmp_path / "base")


def test_a_setting_of_the_configmap_sets_the_variant(
    base_folder: Path, podman: Podman, image: str, tmp_path: Path
) -> None:
    with playing(podman, image, base_folder, tmp_path) as client:
        assert answering_variant(client) == "qat"
        settings = base_folder / "settings.env"
        old = settings.read_text()
        changed = old.replace("EDGEWISE_VARIANT=qat\n", "EDGEWISE_VARIANT=ptq\n")
        assert changed != old
        settings.write_text(changed)
    # `rendered` caches its result by path, so the changed folder needs another one.
    with playing(podman, image, base_folder.rename(tmp_path / "changed"), tmp_path) as client:
        assert answering_variant(client) == "ptq"


def test_the_pod_has_the_manifests_limits_and_rights_and_stops_cleanly(
    base_folder: Path, podman: Podman, image: str, tmp_path: Path
) -> None:
    with playing(podman, image, base_folder, tmp_path):
        (found,) = json.loads(podman.run("inspect", CONTAINER).stdout)
        host = found["HostConfig"]
        assert (host["Memory"], host["MemoryReservation"]) == (512 * MEBIBYTE, 128 * MEBIBYTE)
        assert host["NanoCpus"] == 1_000_000_000
        assert host["ReadonlyRootfs"] is True
        assert "no-new-privileges" in host["SecurityOpt"]
        assert found["Config"]["User"] == "10001:10001"
        status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        # Unlike `kube down`, which kills, this sends SIGTERM.
        podman.run("pod", "stop", POD)
        (stopped,) = json.loads(podman.run("inspect", CONTAINER).stdout)
        assert stopped["State"]["ExitCode"] == 0
        assert "stopping: finishing accepted requests" in podman.run("logs", CONTAINER).stdout


@contextmanager
def playing(podman: Podman, image: str, folder: Path, scratch: Path) -> Iterator[httpx.Client]:
    """Yield a client of the ready pod that the folder's manifests describe; remove the pod at the end."""
    port = free_port()
    file = scratch / "played.yaml"
    file.write_text(playable(folder, image, port))
    podman.run("kube", "play", "--network=podman", file)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client:
            wait_for(lambda: is_ready(client))
            yield client
    finally:
        podman.run("kube", "down", file)


def playable(folder: Path, image: str, port: int) -> str:
    """Return the folder's manifests for podman: with this image, on this host port, without probes."""
    documents = rendered(folder)
    ((_, container),) = services(documents)
    container["image"] = image
    container["ports"][0]["hostPort"] = port
    for probe in PROBES:
        del container[probe]
    return yaml.safe_dump_all(documents)


def is_ready(client: httpx.Client) -> bool:
    """Whether the service answers that it is ready."""
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def answering_variant(client: httpx.Client) -> str:
    """Classify a photo of a cat, and return the variant that answered."""
    answer = client.post(CLASSIFY, content=CAT).raise_for_status().json()
    assert answer["predictions"][0]["label"] == "Egyptian cat"
    variant: str = answer["variant"]
    return variant
