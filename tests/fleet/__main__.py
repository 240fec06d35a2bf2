"""`python -m tests.fleet`: nodes behind thin links, under load, each with a fault; see docs/fleet.md."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from tests.fleet.link import Missing, need_programs
from tests.fleet.node import Node, cut, give_bad_bundle, kill, nothing, ready_node, slow
from tests.fleet.report import Seen, instance_of, look, requests_table, seen_table
from tests.system.processes import ROOT
from tests.system.prometheus import Prometheus, prometheus

FAULTS = {
    "left alone": nothing,
    "slowed": slow,
    "killed": kill,
    "bad bundle": give_bad_bundle,
    "link cut": cut,
}
# Before the faults, and with them: long enough for all expected alerts to fire.
BEFORE_SECONDS, WITH_SECONDS = 15, 25
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fleet and print its tables; return 2 if it can't run here, 130 if a signal ended it."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        need_programs()
        if not options.loadtest.exists():
            raise Missing(f"{options.loadtest} is not here: `make loadtest` sets up its environment")
        with tempfile.TemporaryDirectory(prefix="edgewise-fleet-") as folder:
            sys.stdout.write(run(Path(folder), options.loadtest))
    except Missing as error:
        sys.stderr.write(f"edgewise: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(folder: Path, python: Path) -> str:
    """Run all faults at once, each on a node of its own; return the tables."""
    with ExitStack() as stack:
        watcher = stack.enter_context(prometheus(folder))
        nodes = {
            name: stack.enter_context(ready_node(number, folder / str(number)))
            for number, name in enumerate(FAULTS, start=1)
        }
        for node in nodes.values():
            stack.enter_context(watcher.watching(node.proxy.port))
        reports = {name: folder / f"report of {name}" for name in nodes}
        loads = [stack.enter_context(_load(python, node, reports[name])) for name, node in nodes.items()]
        before = _watch(watcher, nodes, BEFORE_SECONDS)
        for name, fault in FAULTS.items():
            fault(nodes[name])
        after = _watch(watcher, nodes, WITH_SECONDS)
        for load in loads:
            load.wait()
        for node in nodes.values():
            node.stop()
    parts = [
        requests_table(nodes, reports),
        f"Before the faults:\n\n{seen_table(before)}",
        f"With them:\n\n{seen_table(after)}",
        f"The node with the bad bundle said: `{nodes['bad bundle'].last_error}`\n",
    ]
    return "\n".join(parts)


def _watch(watcher: Prometheus, nodes: dict[str, Node], seconds: float) -> dict[str, Seen]:
    """Return the alerts that fire at any time meanwhile, and the dashboard's values at the end."""
    fired: dict[str, set[str]] = {name: set() for name in nodes}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, node in nodes.items():
            fired[name] |= watcher.firing(instance_of(node))
        time.sleep(0.5)
    return {name: look(watcher, node, fired[name]) for name, node in nodes.items()}


@contextmanager
def _load(python: Path, node: Node, report: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Locust with cameras: it ends by itself and writes a report, unless this context ends earlier."""
    seconds = BEFORE_SECONDS + WITH_SECONDS + 5
    cameras = f"Camera --users 4 --fps 2 --run-time {seconds}s --stop-timeout 20 --truths none --quiet-report"
    options = [*cameras.split(), "--host", f"http://{instance_of(node)}", "--report", report]
    process = subprocess.Popen(  # noqa: S603
        [python, "-m", "loadtest", *options],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,  # It says that goals were missed.
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument(
        "--loadtest",
        type=Path,
        default=ROOT / ".venv-loadtest" / "bin" / "python",
        help="the Python that has Locust (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
