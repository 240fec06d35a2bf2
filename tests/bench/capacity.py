"""The rate at which the service answers when it always has work."""

from tests.bench.measured import median_rate
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.server import Server
from tests.bench.wrk import load

_CONNECTIONS = 8
_ROUNDS = 3


def measure_capacity(plan: Plan, server: Server, photo: Photo) -> float:
    """Return the service's capacity in requests/s. The service is warm afterwards."""
    return median_rate(
        [load(server, photo, _CONNECTIONS, plan.seconds, plan.load_cores) for _ in range(_ROUNDS)]
    )
