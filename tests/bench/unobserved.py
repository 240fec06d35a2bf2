"""`python -m tests.bench.unobserved`: the service without metrics, to measure what they cost.

Metrics accept values and do nothing, as do the methods of `service.monitoring` that are called for each
answer.
"""

import pkgutil
import sys
from importlib import import_module
from inspect import getmembers, isclass, isfunction
from typing import Self

import prometheus_client

import service.monitoring

# Prefixes of the methods that are called for each answer, and return nothing.
_WITH_EACH_ANSWER = ("observe", "remember")


class Silent:
    """Replaces any metric."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def labels(self, *_: object, **__: object) -> Self:
        return self

    def ignore(self, *_: object, **__: object) -> None: ...

    inc = dec = set = observe = set_function = clear = remove = ignore


def be_silent() -> None:
    """Replace the metrics; this affects only modules imported afterwards."""
    for kind in ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"):
        setattr(prometheus_client, kind, Silent)
    prometheus_client.CollectorRegistry.register = Silent.ignore
    for module in pkgutil.iter_modules(service.monitoring.__path__, "service.monitoring."):
        for _, observer in getmembers(import_module(module.name), isclass):
            if observer.__module__ == module.name:
                for name, _ in getmembers(observer, isfunction):
                    if name.startswith(_WITH_EACH_ANSWER):
                        setattr(observer, name, Silent.ignore)


if __name__ == "__main__":
    be_silent()
    from service.__main__ import main

    sys.exit(main())
