"""Two services that take turns on the same core: what a feature that only one has costs clients."""

from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.measured import Measured
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.server import SERVICE, Server, serving
from tests.bench.throughput import WARM_UP_SECONDS
from tests.bench.wrk import load

UNOBSERVED = "tests.bench.unobserved"
_SHADOW = "fp32"


@dataclass(frozen=True)
class Paired:
    """All rounds `without` and `having` the feature; a round's two measurements follow each other.

    `connections`: of the load.
    """

    photo: str
    what: str
    connections: int
    without: list[Measured]
    having: list[Measured]

    @property
    def rates(self) -> list[float]:
        """Each round's requests/s with the feature, as a fraction of those without."""
        return [b.rate / a.rate for a, b in zip(self.without, self.having, strict=True)]

    @property
    def cpu(self) -> list[float]:
        """Each round's processor time per request with the feature, as a fraction of that without."""
        return [b.cpu_per_answer / a.cpu_per_answer for a, b in zip(self.without, self.having, strict=True)]


def measure_shadow(plan: Plan, photo: Photo) -> list[Paired]:
    """Compare a service that shadows every answer with `fp32` when it is idle to one that does not."""
    settings = {**plan.settings, "shadow_variant": _SHADOW}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(plan.folder, plan.server_cores, {**settings, "shadow_ratio": ratio}))
            for ratio in (0, 1)
        ]
        return _measure(plan, photo, "shadow", *servers)


def measure_observing(plan: Plan, photo: Photo) -> list[Paired]:
    """Compare the service with one whose metrics do nothing."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(plan.folder, plan.server_cores, plan.settings, program=program))
            for program in (UNOBSERVED, SERVICE)
        ]
        return _measure(plan, photo, "observing", *servers)


def _measure(plan: Plan, photo: Photo, what: str, without: Server, having: Server) -> list[Paired]:
    results = [Paired(photo.name, what, connections, [], []) for connections in plan.connections]
    plan.say(f"{what}: warming up")
    for server in (without, having):
        load(server, photo, plan.connections[0], WARM_UP_SECONDS, plan.load_cores)
    for number in range(plan.rounds):
        plan.say(f"{what}: round {number + 1} of {plan.rounds}")
        for result in results:
            turns = [(without, result.without), (having, result.having)]
            # In alternating order, since other work on the machine may affect the second differently.
            for server, rounds in turns if number % 2 == 0 else reversed(turns):
                rounds.append(load(server, photo, result.connections, plan.seconds, plan.load_cores))
    return results
