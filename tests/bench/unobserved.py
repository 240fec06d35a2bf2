"""`python -m tests.bench.unobserved`: the service with an empty registry, to see what observing costs.

Its metrics take what is counted and do nothing, and so do the methods of `service.monitoring` that are called
with each answer.
"""

import pkgutil
import sys
from importlib import import_module
from inspect import getmembers, isclass, isfunction
from typing import Self

import prometheus_client

import service.monitoring

# What the names of the methods begin with that are called with each answer, and that return nothing.
_WITH_EACH_ANSWER = ("observe", "remember")


class Silent:
    """In place of any metric."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def labels(self, *_: object, **__: object) -> Self:
        return self

    def ignore(self, *_: object, **__: object) -> None: ...

    inc = dec = set = observe = set_function = clear = remove = ignore


def be_silent() -> None:
    """Take the metrics away; only what is imported afterwards goes without them."""
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
