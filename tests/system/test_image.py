"""The Dockerfile's image, run as on an edge node: natively, and for arm64 by emulation."""

import json
import re
import signal
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image

from service import VERSION
from service.bundle.folder import Bundle
from tests.packed import packed_copy
from tests.pins import pins
from tests.system.classifying import CAT, CLASSIFY, top1, top_class
from tests.system.emulation import A72, A76, EMULATION, as_cpu
from tests.system.images import CONFINED, RUN, Container, Podman
from tests.system.processes import ROOT, Service, memory_bytes, one_line, serving

PHOTOS = [CAT, *(path.read_bytes() for path in sorted((ROOT / "loadtest" / "photos").rglob("*.jpg")))]
MAX_BYTES = 180_000_000
MAX_COMPRESSED_BYTES = 65_000_000
MEMORY_BYTES = 160 * 1024 * 1024
LOADED_REQUESTS = 300
# Programs that the service does not need.
TOOLS = {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "pip3", "curl", "wget"}
# The image's Python, for the pins' markers; then what requirements/install-target removes.
PYTHON = {"python_full_version": "3.11.2", "sys_platform": "linux"}
LEFT_OUT = {"ml-dtypes", "protobuf"}


@pytest.fixture(scope="module")
def bare(podman: Podman, image: str, base: str) -> str:
    """The image without a bundle."""
    podman.build("localhost/edgewise:amd64-bare", "amd64", base, VARIANTS="none")
    return "localhost/edgewise:amd64-bare"


@pytest.fixture(scope="module")
def served(podman: Podman, image: str) -> Iterator[Container]:
    """A container of the image, with the restrictions of an edge node."""
    with podman.serving(*CONFINED, image) as container:
        yield container


@pytest.fixture(scope="module")
def arm64_base(podman: Podman) -> str:
    """The base image for arm64."""
    return podman.make_run_base("arm64")


@pytest.fixture(scope="module")
def arm64(podman: Podman, arm64_base: str) -> str:
    """The image for arm64, with the whole default bundle."""
    podman.build("localhost/edgewise:arm64", "arm64", arm64_base)
    return "localhost/edgewise:arm64"


@pytest.fixture(scope="module")
def emulated(arm64: str) -> str:
    """The image for arm64, if it can be run here."""
    if not EMULATION.exists():
        pytest.skip(f"arm64 is not emulated here: {EMULATION} is absent (see .ci/run)")
    return arm64


def test_it_serves_with_restricted_rights_and_memory(served: Container) -> None:
    ready = served.line("ready")
    assert (ready["bundle"], ready["variant"], ready["workers"]) == ("imagenet-1k", "qat", 1)
    assert ready["url"].startswith("http://0.0.0.0:")
    status = Path(f"/proc/{served.pid}/status").read_text()
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    mounts = Path(f"/proc/{served.pid}/mountinfo").read_text().splitlines()
    (root,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    assert "ro" in root.split(",")
    # The service itself is the container's first process, so it gets signals directly.
    command = Path(f"/proc/{served.pid}/cmdline").read_bytes().split(b"\0")
    assert command[-4:-1] == [b"python3", b"-m", b"service"]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"])
def test_it_reads_every_format(served: Container, service: Service, format_: str) -> None:
    file = BytesIO()
    Image.open(BytesIO(CAT)).save(file, format_)
    assert top1(served, file.getvalue()) == top1(service, file.getvalue())


def test_it_answers_within_its_memory_limit_under_load(served: Container) -> None:
    with served.client() as client, ThreadPoolExecutor(8) as threads:
        statuses = threads.map(
            lambda _: client.post(CLASSIFY, content=CAT).status_code, range(LOADED_REQUESTS)
        )
        assert set(statuses) == {200}
    assert memory_bytes(served.pid, "VmHWM") < MEMORY_BYTES


def test_its_health_check_reports_its_health(podman: Podman, served: Container, image: str) -> None:
    (found,) = json.loads(podman.run("image", "inspect", image).stdout)
    kind, *command = found["Healthcheck"]["Test"]
    assert kind == "CMD"
    port = served.url.rpartition(":")[2]
    healthy = podman.run("exec", f"--env=EDGEWISE_PORT={port}", served.name, *command, check=False)
    assert (healthy.returncode, healthy.stderr) == (0, "")
    unhealthy = podman.run("exec", "--env=EDGEWISE_PORT=1", served.name, *command, check=False)
    assert unhealthy.returncode == 1


def test_every_module_can_be_imported_in_the_image(podman: Podman, image: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "service").rglob("*.py")
    ]
    program = f"[__import__(module) for module in {modules}]"
    podman.run(*RUN, "--entrypoint=python3", *CONFINED, image, "-W", "error", "-c", program)


@pytest.mark.parametrize("command", ["benchmark", "profile"])
def test_it_measures_in_the_image(podman: Podman, image: str, command: str) -> None:
    output = podman.run(*RUN, *CONFINED, image, command, "--variants", "ptq", "--runs", "10").stdout
    assert "delegate xnnpack, one thread" in output
    assert re.search("^ptq", output, re.MULTILINE)


def test_auto_chooses_a_fast_variant_in_the_image(podman: Podman, image: str) -> None:
    with podman.serving(*CONFINED, "--env=EDGEWISE_VARIANT=auto", image) as container:
        measured = container.line("auto: ")["measured"]
        assert measured["fp32"]["p50_seconds"] > 0
        # The int8 variants are much faster, however busy the machine is.
        assert container.line("ready")["variant"] in ("ptq", "qat", "small")


def test_a_variable_sets_the_variant_and_sigterm_stops_cleanly(podman: Podman, image: str) -> None:
    with podman.serving(*CONFINED, image, variant="ptq") as container:
        assert container.line("ready")["variant"] == "ptq"
        with container.client() as client:
            assert client.post(CLASSIFY, content=CAT).json()["variant"] == "ptq"
        container.signal(signal.SIGTERM)
        assert container.wait() == 0
        assert container.line("stopping")


def test_an_unknown_variant_stops_the_start_in_one_line(podman: Podman, image: str) -> None:
    command = (*RUN, *CONFINED, "--env=EDGEWISE_VARIANT=nope", image)
    result = podman.run(*command, check=False)
    assert result.returncode == 2
    assert "/models/bundle has no variant 'nope'" in one_line(result.stderr)


def test_a_bundle_can_be_mounted(podman: Podman, bare: str, colours: Bundle) -> None:
    without = podman.run(*RUN, *CONFINED, bare, check=False)
    assert without.returncode == 2
    assert "EDGEWISE_BUNDLE, or the command, must name a bundle's folder" in one_line(without.stderr)
    with podman.serving(*CONFINED, f"--volume={colours.path}:/models/bundle:ro", bare) as container:
        assert container.line("ready")["bundle"] == "colours"


def test_a_packed_variant_needs_no_writable_folder(
    podman: Podman, bare: str, colours: Bundle, tmp_path: Path
) -> None:
    bundle = packed_copy(colours, tmp_path / "packed", "ptq")
    with podman.serving(*CONFINED, f"--volume={bundle.path}:/models/bundle:ro", bare) as container:
        assert container.line("ready")["variant"] == "ptq"


def test_variants_can_be_left_out_of_the_image(podman: Podman, base: str, image: str) -> None:
    name = "localhost/edgewise:amd64-small"
    podman.build(name, "amd64", base, VARIANTS="qat,ptq")
    models = {path for path in files(podman, name) if path.endswith(".tflite")}
    assert models == {"models/bundle/qat.tflite", "models/bundle/ptq.tflite"}
    with podman.serving(*CONFINED, name) as container:
        assert container.line("ready")["variant"] == "qat"


def test_it_has_the_documented_configuration_and_labels(podman: Podman, image: str) -> None:
    config = inspected(podman, image)
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python3", "-m", "service"]
    assert "Cmd" not in config
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == VERSION
    assert labels["revision"] == "0123abc"
    assert labels["licenses"] == "Apache-2.0"


@pytest.mark.parametrize("fixture", ["image", "arm64"])
def test_its_bill_of_materials_names_its_packages(
    podman: Podman, request: pytest.FixtureRequest, fixture: str
) -> None:
    text = content(podman, request.getfixturevalue(fixture), "app/sbom.json")
    assert "://" not in text
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["version"] == VERSION
    named = {f"{component['name']}=={component['version']}": component for component in bill["components"]}
    pinned = {
        f"{requirement.name}{requirement.specifier}": hashes
        for requirement, hashes in ((Requirement(pin), hashes) for pin, hashes in pins("serve").items())
        if requirement.marker is None or requirement.marker.evaluate(PYTHON)
    }
    assert {pin.partition("==")[0] for pin in set(pinned) - set(named)} == LEFT_OUT
    for pin, component in named.items():
        (found,) = component["hashes"]
        assert found["alg"] == "SHA-256"
        assert found["content"] in pinned[pin]
        assert component["licenses"]


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_it_is_small_and_holds_no_tools(
    podman: Podman, request: pytest.FixtureRequest, architecture: str
) -> None:
    name = f"localhost/edgewise:{architecture}-bare"
    base: str = request.getfixturevalue("base" if architecture == "amd64" else "arm64_base")
    podman.build(name, architecture, base, VARIANTS="none")
    (image,) = json.loads(podman.run("image", "inspect", name).stdout)
    assert image["Architecture"] == architecture
    assert image["Size"] < MAX_BYTES
    assert compressed_bytes(podman, name) < MAX_COMPRESSED_BYTES
    paths = files(podman, name)
    assert {path for path in paths if Path(path).name in TOOLS and "bin/" in path} == set()
    assert [path for path in paths if path == "etc/pip.conf"] == []


# fp32 is not run on a Cortex-A72, where it takes many seconds per photo.
@pytest.mark.parametrize(
    ("variant", "cpu", "shown"),
    [("qat", "cortex-a72", A72), ("qat", "cortex-a76", A76), ("fp32", "cortex-a76", A76)],
)
def test_arm64_gives_the_same_top_classes(
    podman: Podman, emulated: str, tmp_path: Path, variant: str, cpu: str, shown: tuple[str, str]
) -> None:
    with serving(variant=variant) as native, native.client() as client:
        expected = [top_class(client, photo) for photo in PHOTOS]
    options = (*as_cpu(tmp_path, cpu, shown), "--cpus=1")
    # It is ready only if the golden vectors match.
    with podman.serving(*options, emulated, variant=variant) as container, container.client() as client:
        assert container.line("ready")["variant"] == variant
        assert [top_class(client, photo) for photo in PHOTOS] == expected


def test_a_processor_that_computes_wrongly_is_refused(podman: Podman, emulated: str, tmp_path: Path) -> None:
    # With all emulated features, LiteRT uses SME, which the emulation computes wrongly.
    command = (*RUN, *as_cpu(tmp_path, "max", A72), "--env=EDGEWISE_VARIANT=ptq", emulated)
    result = podman.run(*command, check=False)
    assert result.returncode == 2
    assert "ptq.tflite (xnnpack) does not compute its golden vectors on this device" in result.stderr


def inspected(podman: Podman, image: str) -> dict[str, Any]:
    (found,) = json.loads(podman.run("image", "inspect", image).stdout)
    config: dict[str, Any] = found["Config"]
    return config


def files(podman: Podman, image: str) -> list[str]:
    """Return the paths of all files in an image."""
    with mounted(podman, image) as folder:
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()]


def content(podman: Podman, image: str, path: str) -> str:
    """Return the text of a file in an image."""
    with mounted(podman, image) as folder:
        return (folder / path).read_text()


@contextmanager
def mounted(podman: Podman, image: str) -> Iterator[Path]:
    """Mount an image's file system in a folder during this context."""
    folder = podman.run("image", "mount", image).stdout.strip()
    try:
        yield Path(folder)
    finally:
        podman.run("image", "umount", image)


def compressed_bytes(podman: Podman, image: str) -> int:
    """Return the image's size compressed by gzip: that in a registry, or somewhat more."""
    archive = podman.folder / "image.tar"
    podman.run("save", f"--output={archive}", image)
    compressor = zlib.compressobj(6, wbits=31)
    total = 0
    with archive.open("rb") as file:
        while chunk := file.read(1 << 20):
            total += len(compressor.compress(chunk))
    archive.unlink()
    return total + len(compressor.flush())
