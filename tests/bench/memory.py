"""How long the service takes to start, and how much memory it uses after many photos."""

from dataclasses import dataclass
from statistics import median

from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.sender import OK, Sender
from tests.bench.server import Server, serving
from tests.system.processes import memory_bytes

DEFAULT_REQUESTS = 20_000
_STARTS = 5
# Memory is measured for the first time after this fraction of all requests.
_FIRST_SHARE = 20
_PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Memory:
    """Seconds from the start of the process until it is ready; bytes of resident memory at several times."""

    photo: str
    ready_seconds: float
    when_ready: int
    first_requests: int
    after_first: int
    requests: int
    after_all: int
    peak: int
    failed: int

    @property
    def growth(self) -> float:
        """The relative growth from the first requests to the last."""
        return self.after_all / self.after_first - 1


def measure_memory(plan: Plan, photo: Photo, requests: int) -> Memory:
    """Start the service several times, then send one of them `requests` photos."""
    ready = []
    for _ in range(_STARTS):
        with serving(plan.folder, plan.server_cores, plan.settings) as server:
            ready.append(server.ready_seconds)
    plan.say(f"memory: {requests} requests")
    first = max(1, requests // _FIRST_SHARE)
    with serving(plan.folder, plan.server_cores, plan.settings) as server:
        when_ready = memory_bytes(server.pid)
        failed = _send(server, photo, first)
        after_first = memory_bytes(server.pid)
        failed += _send(server, photo, requests - first)
        return Memory(
            photo=photo.name,
            ready_seconds=median(ready),
            when_ready=when_ready,
            first_requests=first,
            after_first=after_first,
            requests=requests,
            after_all=memory_bytes(server.pid),
            peak=memory_bytes(server.pid, "VmHWM"),
            failed=failed,
        )


def _send(server: Server, photo: Photo, requests: int) -> int:
    """Send them over two connections, each as soon as it is free; return how many were not answered."""
    sent = Sender(server, photo.data, connections=2).run([0.0] * requests, patience=_PATIENCE_SECONDS)
    return sum(request.status != OK for request in sent)
