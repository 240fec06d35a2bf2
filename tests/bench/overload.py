"""Several times the service's capacity, then less than the capacity from clients that try again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.settings import DEFAULT_REQUEST_TIMEOUT_SECONDS
from tests.bench.capacity import measure_capacity
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.process import cpu_seconds
from tests.bench.sender import OK, UNSENT, Sender, Sent, evenly
from tests.bench.server import serving
from tests.system.processes import memory_bytes

TIMES = 4
THEN = 0.7
TRIES = 3
DEFAULT_SECONDS = 120
_CONNECTIONS = 256
_TOO_MANY = 429
# The time that follows, as a fraction of the overload's.
_AFTERWARDS = 0.25
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Overload:
    """Rates in requests a second, times in seconds, memory in bytes.

    `statuses`: how many requests had each status; 0 is a lost one, -1 one not sent because no connection
    was free. `with_retry_after`: how many of the 429s had a Retry-After. `in_time`: the share of the accepted
    requests answered within the service's deadline, from when they were sent. `accepted_rate`: during the
    overload. `cores`: used by the service on average.
    """

    photo: str
    capacity: float
    seconds: float
    requests: int
    sent_rate: float
    statuses: dict[int, int]
    with_retry_after: int
    in_time: float
    accepted_rate: float
    accepted_p50: float
    accepted_p99: float
    cores: float
    memory_before: int
    memory_peak: int


@dataclass(frozen=True)
class Afterwards:
    """How many clients there were after the overload, and how many were served at each try."""

    rate: float
    clients: int
    served: dict[int, int]

    @property
    def share(self) -> float:
        """The share of clients that were served."""
        return sum(self.served.values()) / self.clients


def measure_overload(plan: Plan, photo: Photo, seconds: float) -> tuple[Overload, Afterwards]:
    """Send `TIMES` the capacity for `seconds`, then immediately `THEN` of it."""
    with serving(plan.folder, plan.server_cores, plan.settings) as server:
        plan.say("overload: the service's capacity")
        capacity = measure_capacity(plan, server, photo)
        before, used = memory_bytes(server.pid), cpu_seconds(server.pid)
        plan.say(f"overload: {TIMES} times that for {seconds:g} s")
        sender = Sender(server, photo.data, connections=_CONNECTIONS)
        sent = sender.run(evenly(TIMES * capacity, seconds), patience=_PATIENCE_SECONDS)
        cores = (cpu_seconds(server.pid) - used) / max(request.done for request in sent)
        peak = memory_bytes(server.pid, "VmHWM")
        plan.say(f"overload: {THEN:.0%} of it, from clients that do as Retry-After says")
        sender = Sender(server, photo.data, connections=_CONNECTIONS, tries=TRIES)
        clients = sender.run(
            evenly(THEN * capacity, max(2, _AFTERWARDS * seconds)), patience=TRIES * _PATIENCE_SECONDS
        )
    timeout = float(str(plan.settings.get("request_timeout_seconds", DEFAULT_REQUEST_TIMEOUT_SECONDS)))
    served = Counter(client.tries for client in clients if client.status == OK)
    return (
        _overload(photo, capacity, seconds, sent, timeout, cores, (before, peak)),
        Afterwards(THEN * capacity, len(clients), dict(sorted(served.items()))),
    )


def _overload(
    photo: Photo,
    capacity: float,
    seconds: float,
    sent: Sequence[Sent],
    timeout: float,
    cores: float,
    memory: tuple[int, int],
) -> Overload:
    accepted = [request for request in sent if request.status == OK]
    waits = np.array([request.done - request.sent for request in accepted] or [np.nan])
    during_overload = [r for r in sent if r.status != UNSENT and r.sent <= seconds]
    return Overload(
        photo=photo.name,
        capacity=capacity,
        seconds=seconds,
        requests=len(sent),
        sent_rate=len(during_overload) / seconds,
        statuses=dict(sorted(Counter(request.status for request in sent).items())),
        with_retry_after=sum(r.status == _TOO_MANY and r.retry_after is not None for r in sent),
        in_time=float(np.mean(waits <= timeout)),
        accepted_rate=sum(request.done <= seconds for request in accepted) / seconds,
        accepted_p50=float(np.percentile(waits, 50)),
        accepted_p99=float(np.percentile(waits, 99)),
        cores=cores,
        memory_before=memory[0],
        memory_peak=memory[1],
    )
