"""What the service answers a second when it is never out of work."""

from tests.bench.measured import median_rate
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.server import Server
from tests.bench.wrk import load

_CONNECTIONS = 8
_ROUNDS = 3


def measure_capacity(plan: Plan, server: Server, photo: Photo) -> float:
    """Requests a second; the service is warm afterwards."""
    return median_rate(
        [load(server, photo, _CONNECTIONS, plan.seconds, plan.load_cores) for _ in range(_ROUNDS)]
    )
