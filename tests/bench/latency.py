"""Latency of evenly paced requests, at a share of the service's capacity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.bench.capacity import measure_capacity
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.sender import OK, Sender, Sent, evenly
from tests.bench.server import serving

SHARE = 0.8
_CONNECTIONS = 64


@dataclass(frozen=True)
class Latency:
    """Seconds from when a request was due to its answer; rates in requests a second.

    `late_p99`: how late requests were sent, for which the service is not to blame unless all
    connections were busy.
    """

    photo: str
    capacity: float
    rate: float
    requests: int
    p50: float
    p99: float
    late_p99: float
    errors: int


def measure_latency(plan: Plan, photo: Photo, seconds: float) -> Latency:
    """Measure the capacity, then send evenly paced requests at `SHARE` of it."""
    with serving(plan.folder, plan.server_cores, plan.settings) as server:
        plan.say("latency: the service's capacity")
        capacity = measure_capacity(plan, server, photo)
        plan.say(f"latency: {SHARE:.0%} of it for {seconds:g} s")
        sent = Sender(server, photo.data, connections=_CONNECTIONS).run(evenly(SHARE * capacity, seconds))
    return _latency(photo, capacity, sent)


def _latency(photo: Photo, capacity: float, sent: Sequence[Sent]) -> Latency:
    p50, p99 = np.percentile([request.latency for request in sent], (50, 99))
    return Latency(
        photo=photo.name,
        capacity=capacity,
        rate=SHARE * capacity,
        requests=len(sent),
        p50=float(p50),
        p99=float(p99),
        late_p99=float(np.percentile([request.sent - request.due for request in sent], 99)),
        errors=sum(request.status != OK for request in sent),
    )
