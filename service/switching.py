"""Switches the active variant without interrupting requests."""

import asyncio
import contextlib
import functools
import logging
import time
import weakref
from collections.abc import Callable

from service.bundle.folder import Bundle
from service.errors import StartError, SwitchInProgress, UnusableVariant
from service.host.process import give_back_memory
from service.host.threads import in_daemon
from service.inference.loading import LoadedVariant
from service.inference.runtime import RUNTIME
from service.inference.variants import Variants
from service.monitoring.logs import SERVICE_LOGGER, fields
from service.monitoring.metrics import LoadedInfo, Metrics

_log = logging.getLogger(SERVICE_LOGGER)


class Switch:
    """Switches the active variant, one switch at a time; for the event loop's thread only."""

    def __init__(
        self, bundle: Bundle, variants: Variants, load: Callable[[str], LoadedVariant], metrics: Metrics
    ) -> None:
        """`load` loads a variant by name; it is called in another thread."""
        self._bundle = bundle
        self._variants = variants
        self._load = load
        self._metrics = metrics
        self._loading: str | None = None
        for name in bundle.manifest.variants:
            for outcome in ("done", "failed"):
                # A counter that first appears with a failure shows no increase to Prometheus.
                metrics.switches.labels(name, outcome)
        show_loaded(metrics, bundle, variants)

    async def to(self, name: str, client: str | None) -> None:
        """Load `name` and make it the active variant; until then the previous one continues to answer.

        `client`, for the log: the address that the request came from.

        Raises:
            UnknownVariant: the bundle has no such variant.
            SwitchInProgress: another one is being loaded.
            UnusableVariant: it can't be loaded on this device.
        """
        self._variants.check_known(name)
        if self._loading is not None:
            raise SwitchInProgress(f"{self._loading} is being loaded; try again once that is done")
        before = self._variants.active
        if name == before.name:
            return
        details = {"from": before.name, "to": name, "client": client}
        started = time.monotonic()
        self._loading = name
        try:
            variant = self._variants.loaded(name)
            if variant is None:
                variant = await in_daemon(functools.partial(self._load, name))
        except StartError as error:
            _log.error("the variant can't be used", extra=fields(**details, reason=str(error)))
            self._metrics.switches.labels(name, "failed").inc()
            raise UnusableVariant(
                f"{before.name} stays active, because {name} can't be used: {error}"
            ) from None
        finally:
            self._loading = None
        self._variants.activate(variant)
        if self._variants.loaded(before.name) is None:
            weakref.finalize(before, _is_gone, asyncio.get_running_loop()).atexit = False
        show_loaded(self._metrics, self._bundle, self._variants)
        self._metrics.switches.labels(name, "done").inc()
        seconds = round(time.monotonic() - started, 3)
        logged = fields(**details, seconds=seconds, delegate=str(variant.delegate), fallback=variant.fallback)
        _log.log(
            logging.WARNING if variant.fallback else logging.INFO, "another variant is active", extra=logged
        )


def _is_gone(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed, so the service has ended.
        loop.call_soon_threadsafe(loop.run_in_executor, None, give_back_memory)


def show_loaded(metrics: Metrics, bundle: Bundle, variants: Variants) -> None:
    """Set the metrics of exactly the variants that are loaded."""
    infos = [
        LoadedInfo(
            loaded.name,
            bundle.variant(loaded.name),
            RUNTIME,
            str(loaded.delegate),
            loaded.share.partitions,
            is_fallback=loaded.fallback is not None,
        )
        for loaded in variants.all
    ]
    metrics.show_variants(bundle.manifest.name, variants.active.name, infos)
