"""Which cores of this machine a local service and its load run on."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """Empty sets: the service is not on this machine, and the load is not pinned."""

    service: frozenset[int] = frozenset()
    load: frozenset[int] = frozenset()

    @property
    def are_shared(self) -> bool:
        """Whether service and load have to share the machine's only core."""
        return bool(self.service) and self.service == self.load


def divide_cores() -> Cores:
    """Give the service one core and the load the others; on a single core, both share it."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores(frozenset({first}), frozenset(others or {first}))
