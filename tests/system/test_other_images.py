"""The other images: the one with tflite-runtime, and the one of the load test."""

import shutil
from pathlib import Path

from tests.system.classifying import CAT, top1
from tests.system.images import BUILD_BASE, CONFINED, RUN, Podman
from tests.system.processes import ROOT, Service

# Replaces the base image of the load test's Dockerfile: a `python` whose packages pip manages.
LOADTEST_BASE = f"""FROM {BUILD_BASE}
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
"""
# Without the memory limits, which are for the default image.
RIGHTS = [option for option in CONFINED if "memory" not in option]


def test_the_other_runtime_serves_floats(podman: Podman, base: str, service: Service) -> None:
    name = "localhost/edgewise:amd64-tflite"
    podman.build(name, "amd64", base, RUNTIME="tflite", VARIANTS="fp32")
    with podman.serving(*RIGHTS, name, variant="fp32") as container:
        assert container.line("ready")["variant"] == "fp32"
        assert top1(container, CAT) == top1(service, CAT)


def test_the_load_test_runs_confined(podman: Podman, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(LOADTEST_BASE)
    podman.build_file(file, tmp_path, "docker.io/library/python:3.13-slim")
    shutil.copytree(ROOT / "loadtest", tmp_path / "loadtest", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "loadtest.txt", tmp_path / "requirements")
    name = "localhost/edgewise-loadtest"
    podman.build_file(ROOT / "k8s" / "loadtest" / "Dockerfile", tmp_path, name)
    command = (*RUN, *RIGHTS, "--tmpfs=/tmp", "--env=MPLCONFIGDIR=/tmp/matplotlib", name)
    options = (f"--host={service.url}", "--users=2", "--run-time=5s", "--report=/tmp/report")
    # The exit status is not checked: whether the goals are met depends on the machine.
    result = podman.run(*command, *options, check=False)
    assert "- errors: 0 %" in result.stdout, result.stderr
