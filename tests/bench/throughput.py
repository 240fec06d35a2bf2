"""The service's throughput and processor time, compared with a bare loop that does the same work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain

from tests.bench.loop import BareLoop, bare_loop
from tests.bench.measured import Decoder, Measured
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.server import Server, serving
from tests.bench.wrk import load

# Two workers use both cores, and share one with the load.
TWO_WORKERS_CONNECTIONS = 8
WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Subject:
    """What is measured in every round: a loop, or the service under load.

    `measure` takes the number of seconds.
    """

    photo: str
    name: str
    workers: int
    connections: int | None
    measure: Callable[[int], Measured]


@dataclass(frozen=True)
class Result:
    """All rounds of a subject."""

    photo: str
    name: str
    workers: int
    connections: int | None
    rounds: list[Measured]


LOOP, PILLOW, LEAST, SERVICE = "bare loop", "plain Pillow loop", "least server", "service"


def measure_throughput(plan: Plan, photos: Sequence[Photo]) -> list[Result]:
    """Measure every subject in each round, so that a passing disturbance slows all of them."""
    with _subjects(plan, photos) as subjects:
        plan.say("throughput: warming up")
        for subject in subjects:
            subject.measure(WARM_UP_SECONDS)
        rounds: list[list[Measured]] = [[] for _ in subjects]
        for number in range(plan.rounds):
            plan.say(f"throughput: round {number + 1} of {plan.rounds}")
            for subject, measured in zip(subjects, rounds, strict=True):
                measured.append(subject.measure(plan.seconds))
    return [
        Result(s.photo, s.name, s.workers, s.connections, measured)
        for s, measured in zip(subjects, rounds, strict=True)
    ]


@contextmanager
def _subjects(plan: Plan, photos: Sequence[Photo]) -> Iterator[list[Subject]]:
    with ExitStack() as stack:
        loop = stack.enter_context(bare_loop(plan.variant, plan.server_cores))
        least = stack.enter_context(
            serving(plan.folder, plan.server_cores, plan.settings, program="tests.bench.least")
        )
        one = stack.enter_context(serving(plan.folder, plan.server_cores, plan.settings, workers=1))
        two = stack.enter_context(serving(plan.folder, plan.all_cores, plan.settings, workers=2))
        yield list(chain.from_iterable(_of_photo(plan, photo, loop, least, one, two) for photo in photos))


def _of_photo(
    plan: Plan, photo: Photo, loop: BareLoop, least: Server, one: Server, two: Server
) -> list[Subject]:
    def looping(name: str, decoder: Decoder) -> Subject:
        return Subject(photo.name, name, 1, None, lambda seconds: loop.measure(photo.path, decoder, seconds))

    def under_load(name: str, server: Server, workers: int, connections: int) -> Subject:
        return Subject(
            photo.name,
            name,
            workers,
            connections,
            lambda seconds: load(server, photo, connections, seconds, plan.load_cores),
        )

    return [
        looping(LOOP, Decoder.SERVICE),
        looping(PILLOW, Decoder.PILLOW),
        *(under_load(LEAST, least, 1, connections) for connections in plan.connections),
        *(under_load(SERVICE, one, 1, connections) for connections in plan.connections),
        under_load(SERVICE, two, 2, TWO_WORKERS_CONNECTIONS),
    ]
