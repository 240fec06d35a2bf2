"""Build and run images with podman, without a registry: their bases are made from Debian packages."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.system.processes import ROOT, Service

PROGRAMS = ("podman", "runc", "mmdebstrap")
SUITE = "bookworm"
BUILD_BASE = "localhost/build:amd64"
# What pip needs from this machine to download packages: mounted during builds, not part of the images.
HOST_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
# Like the Dockerfile's default base image: Python, but no shell and no package manager.
RUN_PACKAGES = (
    "base-files,base-passwd,ca-certificates,libc-bin,libc6,libexpat1,libgcc-s1,libpython3.11-stdlib,libstdc++6,"
    "netbase,python3-minimal,python3.11-minimal,tzdata,zlib1g"
)
# These replace the packages' own scripts, which do not run, and delete all programs except Python.
SETUP_COMMANDS = (
    'cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
    'cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"',
    'mkdir -p "$1/etc/ssl/certs"',
    'cat "$1"/usr/share/ca-certificates/mozilla/*.crt > "$1/etc/ssl/certs/ca-certificates.crt"',
    'find "$1/usr/bin" "$1/usr/sbin" ! -type d ! -name "python3*" -delete',
)
NO_DOCS = tuple(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "locale", "doc"))
PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# Health checks by podman itself need systemd.
RUN = ("run", "--rm", "--pull=never", "--no-healthcheck")
# The restrictions of an edge node: nothing is writable, not even /tmp.
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--user=10001:10001",
    "--memory=160m",
    "--memory-swap=160m",
    "--cpus=1",
)
BUILD_SECONDS = 1800
# An emulated process that crashes may hang.
RUN_SECONDS = 300


def skip_unless_images_can_be_built() -> None:
    """Skip the test, with the reason, if this machine can't build images."""
    if platform.machine() != "x86_64":
        pytest.skip("images are tried on x86-64, where arm64 is emulated")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} are absent")
    if os.geteuid() != 0:
        pytest.skip("base images are made of Debian's packages by root alone")


class Podman:
    """podman with its own storage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # podman accepts no path longer than 50 characters here.
        self.runroot = tempfile.mkdtemp(prefix="podman-")
        configuration = folder / "containers.conf"
        configuration.write_text(CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """Return podman's command line."""
        storage = ["--root", self.folder / "root", "--runroot", self.runroot]
        return ["podman", *storage, *arguments]

    def run(
        self, *arguments: str | Path, check: bool = True, seconds: float = RUN_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run podman and return its result."""
        result = subprocess.run(  # noqa: S603
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert not check or result.returncode == 0, result.stderr
        return result

    def make_build_base(self) -> None:
        """Create an image with Python, pip and a shell, for this machine's architecture."""
        packages = "--include=ca-certificates,python3,python3-pip"
        self._debian("amd64", BUILD_BASE, "--variant=minbase", packages)

    def make_run_base(self, architecture: str) -> str:
        """Create an image with only Python, without running anything in it, and return its name."""
        name = f"localhost/run:{architecture}"
        hooks = [f"--extract-hook={line}" for line in SETUP_COMMANDS]
        self._debian(architecture, name, "--variant=extract", f"--include={RUN_PACKAGES}", *hooks)
        return name

    def build(self, name: str, architecture: str, run_base: str, **arguments: str) -> None:
        """Build the project's image."""
        values = {"BUILD_BASE": BUILD_BASE, "RUN_BASE": run_base, "TARGETARCH": architecture, **arguments}
        self.build_file(ROOT / "Dockerfile", ROOT, name, **values)

    def build_file(self, file: Path, context: Path, name: str, **arguments: str) -> None:
        """Build a Dockerfile's image from the folder `context`."""
        self.run(
            "build",
            *("--pull=never", "--format=docker", "--isolation=chroot", "--network=host"),
            *(f"--volume={path}:{path}:ro" for path in HOST_FILES if Path(path).exists()),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *(f"--file={file}", f"--tag={name}"),
            context,
            seconds=BUILD_SECONDS,
        )

    def start(self, *arguments: str | Path, **settings: object) -> subprocess.Popen[str]:
        """Start a container whose log is the process's `stdout`; `arguments` are options, then the image."""
        return subprocess.Popen(  # noqa: S603
            self.command(*RUN, *_variables(settings), *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @contextmanager
    def serving(self, *arguments: str | Path, **settings: object) -> Iterator["Container"]:
        """Yield a container whose service is ready, and remove it at the end."""
        name = f"edgewise-{uuid4()}"
        with self.start(f"--name={name}", *arguments, **{"port": 0, **settings}) as process:
            container = Container(self, name, process)
            try:
                assert container.url
                yield container
            finally:
                self.run("rm", "--force", "--time=30", name, check=False)
                container.wait()

    def close(self) -> None:
        """Remove all containers and images."""
        self.run("rm", "--all", "--force", "--time=0", check=False)
        self.run("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.runroot, ignore_errors=True)

    def _debian(self, architecture: str, name: str, *options: str) -> None:
        archive = self.folder / f"{architecture}.tar"
        command = ["mmdebstrap", f"--architectures={architecture}", "--mode=root", *options, *NO_DOCS]
        for attempt in range(3):
            result = subprocess.run(  # noqa: S603
                [*command, SUITE, archive], capture_output=True, text=True, check=False
            )
            # A mirror may be in the middle of an update, so try again.
            if result.returncode == 0:
                break
            assert attempt < 2, result.stderr
        self.run("import", "--os=linux", f"--arch={architecture}", f"--change={PATH}", archive, name)
        archive.unlink()


class Container(Service):
    """A service in a container."""

    def __init__(self, podman: Podman, name: str, process: subprocess.Popen[str]) -> None:
        super().__init__(process)
        self.podman = podman
        self.name = name

    @property
    def pid(self) -> int:
        """The service's process ID on the host."""
        return int(self.podman.run("inspect", "--format={{.State.Pid}}", self.name).stdout)


def _variables(settings: dict[str, object]) -> list[str]:
    return [f"--env=EDGEWISE_{name.upper()}={value}" for name, value in settings.items()]
