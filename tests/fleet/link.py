"""A node's own network: a network namespace behind a thin link."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RATE = "8mbit"
# `ip netns exec` in front of a command runs it there.
Inside = list[str]
_NETWORKS = Path("/run/netns")


class Missing(Exception):
    """Something that the fleet needs is missing."""


def need_programs() -> None:
    """Raise `Missing` if a program is absent or networks can't be created."""
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("prometheus", "prometheus")):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not here, and the fleet needs it: apt-get install {package}")
    if os.geteuid() != 0:
        raise Missing("networks are made by root alone: run it as root")


@contextmanager
def thin_link(number: int) -> Iterator[tuple[str, Inside]]:
    """Yield a network's address and the prefix of commands that run in it; its link has `RATE` each way."""
    name, outer, inner = f"edgewise{number}", f"ew{number}out", f"ew{number}in"
    subnet = f"10.213.{number}"
    network = _NETWORKS / name
    if network.exists():
        raise Missing(f"{network} is there, of another run; if that has ended: ip netns delete {name}")
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        _run("ip", "address", "add", f"{subnet}.1/24", "dev", outer)
        _run("ip", "link", "set", outer, "up")
        _run("ip", "-n", name, "address", "add", f"{subnet}.2/24", "dev", inner)
        for device in ("lo", inner):
            _run("ip", "-n", name, "link", "set", device, "up")
        shape = ("root", "tbf", "rate", RATE, "burst", "32kb", "latency", "100ms")
        _run("tc", "qdisc", "add", "dev", outer, *shape)
        _run("tc", "-n", name, "qdisc", "add", "dev", inner, *shape)
        yield f"{subnet}.2", ["ip", "netns", "exec", name]
    finally:
        # It also exists if a signal interrupted its creation. The outer device goes with the inner one.
        if network.exists():
            _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip()}")
