"""An edge node: a service in a network of its own, and what can happen to it."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.settings import DEFAULT_BUNDLE
from tests.fleet.link import Inside, thin_link
from tests.fleet.proxy import Proxy
from tests.signed import flip
from tests.system.processes import ROOT, WITH_SIGNALS, Service, environment

PORT = 8000
VARIANT = "qat"
# A slowed node computes for a thirtieth of the time, which is enough for a scrape.
_STOPPED_SECONDS, _RUNNING_SECONDS = 0.3, 0.01


@dataclass
class Node:
    """`services`: all that were started, in order; only the last may still run."""

    inside: Inside
    proxy: Proxy
    folder: Path
    services: list[Service] = field(default_factory=list)
    slowed: threading.Event = field(default_factory=threading.Event)

    def start(self, bundle: Path) -> None:
        """Start a service with a bundle; it need not become ready."""
        settings = {"host": "0.0.0.0", "port": PORT, "variant": VARIANT, "bundle": bundle}  # noqa: S104
        with (self.folder / "errors").open("a") as errors:
            process = subprocess.Popen(  # noqa: S603
                [*self.inside, *WITH_SIGNALS, sys.executable, "-m", "service"],
                cwd=ROOT,
                env=environment(**settings, workers=1),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.services.append(Service(process))

    @property
    def statuses(self) -> Counter[str]:
        """How often the node's log has each status of a classification request."""
        lines = [line["message"] for service in self.services for line in list(service.log)]
        return Counter(line.split()[-1] for line in lines if line.startswith("POST /v1/classify "))

    @property
    def last_error(self) -> str:
        """The last line of its services' standard error, or an empty text."""
        return ((self.folder / "errors").read_text().splitlines() or [""])[-1]

    def stop(self) -> None:
        """Stop the service gracefully, if it runs."""
        self.slowed.clear()
        service = self.services[-1]
        service.process.send_signal(signal.SIGCONT)
        service.process.terminate()
        service.wait()

    def close(self) -> None:
        """Stop it, and close the output of its services."""
        self.stop()
        for service in self.services:
            assert service.process.stdout is not None
            service.process.stdout.close()


@contextmanager
def ready_node(number: int, folder: Path) -> Iterator[Node]:
    """A node that is ready, behind its link."""
    folder.mkdir()
    with ExitStack() as stack:
        address, inside = stack.enter_context(thin_link(number))
        node = Node(inside, stack.enter_context(Proxy(address, PORT).running()), folder)
        node.start(DEFAULT_BUNDLE)
        stack.callback(node.close)
        node.services[0].line("ready")
        yield node


def slow(node: Node) -> None:
    """Let it compute for only a thirtieth of the time."""
    node.slowed.set()
    threading.Thread(target=_hold_up, args=(node,)).start()


def kill(node: Node) -> None:
    """Kill it without a warning."""
    node.services[-1].process.kill()
    node.services[-1].wait()


def give_bad_bundle(node: Node) -> None:
    """Stop it gracefully, and start it with a bundle in which one bit is flipped."""
    bad = node.folder / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bad)
    flip(bad / f"{VARIANT}.tflite", 8 * 4_000_000)
    node.stop()
    node.start(bad)
    node.services[-1].wait()


def cut(node: Node) -> None:
    """Cut its link."""
    node.proxy.cut()


def nothing(_node: Node) -> None:
    """Leave it alone, to compare."""


def _hold_up(node: Node) -> None:
    process = node.services[-1].process
    while node.slowed.is_set():
        process.send_signal(signal.SIGSTOP)
        time.sleep(_STOPPED_SECONDS)
        process.send_signal(signal.SIGCONT)
        time.sleep(_RUNNING_SECONDS)
