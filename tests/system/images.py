"""Images built and run by podman without a registry: their bases are made of Debian's packages."""

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
EMULATION = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
SUITE = "bookworm"
BUILD_BASE = "localhost/build:amd64"
# What pip needs of this machine to reach its packages; mounted while images are built, and not part of them.
OF_THIS_MACHINE = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
# As the image that the Dockerfile has by default: a Python, and neither shell nor package manager.
BARE = (
    "base-files,base-passwd,ca-certificates,libc-bin,libc6,libexpat1,libgcc-s1,libpython3.11-stdlib,libstdc++6,"
    "netbase,python3-minimal,python3.11-minimal,tzdata,zlib1g"
)
# What the packages' own scripts would do, which are not run; and no programs but Python.
SET_UP = (
    'cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
    'cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"',
    'mkdir -p "$1/etc/ssl/certs"',
    'cat "$1"/usr/share/ca-certificates/mozilla/*.crt > "$1/etc/ssl/certs/ca-certificates.crt"',
    'find "$1/usr/bin" "$1/usr/sbin" ! -type d ! -name "python3*" -delete',
)
UNREAD = tuple(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "locale", "doc"))
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
# As an edge node would confine it: nothing can be written anywhere, not even in /tmp.
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


def skip_unless_possible() -> None:
    """Skip where images can't be built here, and say why."""
    if platform.machine() != "x86_64":
        pytest.skip("images are tried on x86-64, where arm64 is emulated")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} are absent")
    if os.geteuid() != 0:
        pytest.skip("base images are made of Debian's packages by root alone")


class Podman:
    """podman with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # podman takes no path of more than 50 characters.
        self.runroot = tempfile.mkdtemp(prefix="podman-")
        configuration = folder / "containers.conf"
        configuration.write_text(CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """podman's command line."""
        storage = ["--root", self.folder / "root", "--runroot", self.runroot]
        return ["podman", *storage, *arguments]

    def run(
        self, *arguments: str | Path, check: bool = True, seconds: float = RUN_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
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
        """An image with Python, pip and a shell, of this machine's architecture."""
        packages = "--include=ca-certificates,python3,python3-pip"
        self._debian("amd64", BUILD_BASE, "--variant=minbase", packages)

    def make_run_base(self, architecture: str) -> str:
        """An image with Python alone; nothing of it is run while it is made. Its name."""
        name = f"localhost/run:{architecture}"
        hooks = [f"--extract-hook={line}" for line in SET_UP]
        self._debian(architecture, name, "--variant=extract", f"--include={BARE}", *hooks)
        return name

    def build(self, name: str, architecture: str, run_base: str, **arguments: str) -> None:
        """Build the project's image."""
        given = {"BUILD_BASE": BUILD_BASE, "RUN_BASE": run_base, "TARGETARCH": architecture, **arguments}
        self.build_file(ROOT / "Dockerfile", ROOT, name, **given)

    def build_file(self, file: Path, context: Path, name: str, **arguments: str) -> None:
        """Build the image of a Dockerfile from what is in the folder `context`."""
        self.run(
            "build",
            *("--pull=never", "--format=docker", "--isolation=chroot", "--network=host"),
            *(f"--volume={path}:{path}:ro" for path in OF_THIS_MACHINE if Path(path).exists()),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *(f"--file={file}", f"--tag={name}"),
            context,
            seconds=BUILD_SECONDS,
        )

    def start(self, *arguments: str | Path, **settings: object) -> subprocess.Popen[str]:
        """A container whose log is the process's `stdout`; `arguments`: options, then the image."""
        return subprocess.Popen(  # noqa: S603
            self.command(*RUN, *_variables(settings), *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @contextmanager
    def serving(self, *arguments: str | Path, **settings: object) -> Iterator["Container"]:
        """A container whose service is ready; it is stopped in the end where the test did not."""
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
        """Remove its containers and images."""
        self.run("rm", "--all", "--force", "--time=0", check=False)
        self.run("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.runroot, ignore_errors=True)

    def _debian(self, architecture: str, name: str, *options: str) -> None:
        archive = self.folder / f"{architecture}.tar"
        command = ["mmdebstrap", f"--architectures={architecture}", "--mode=root", *options, *UNREAD]
        for attempt in range(3):
            result = subprocess.run(  # noqa: S603
                [*command, SUITE, archive], capture_output=True, text=True, check=False
            )
            # A mirror may be in the middle of an update.
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
        """The service's process, as this machine counts."""
        return int(self.podman.run("inspect", "--format={{.State.Pid}}", self.name).stdout)


def _variables(settings: dict[str, object]) -> list[str]:
    return [f"--env=EDGEWISE_{name.upper()}={value}" for name, value in settings.items()]
