"""The server process: the port, the signals, and orderly shutdown."""

import asyncio
import contextlib
import functools
import gc
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
import uvloop

from service import VERSION
from service.api.context import Context
from service.api.drain import Drain
from service.app import Application, create_app
from service.errors import WorkerHung
from service.host.process import max_connections, resident_bytes, seconds_since_start
from service.inference.runtime import RUNTIME
from service.monitoring.certificate import CertificateExpiry
from service.monitoring.logs import (
    SERVICE_LOGGER,
    JsonFormatter,
    Output,
    TextFormatter,
    configure_logging,
    fields,
)
from service.renewed import Renewed, keep_renewed
from service.server.handshake import TlsListener
from service.server.hang import hung_worker
from service.server.listener import bind, explained
from service.server.protocol import Protocol, close_stalled
from service.server.refusal import noted
from service.server.signals import stop_signal
from service.server.tls import Tls, load_tls
from service.settings import LogFormat, Settings

BACKLOG = 2048
# Longer than a camera takes from one photo to the next.
KEEP_ALIVE_SECONDS = 60
# Pending TLS handshakes, which don't count as connections yet.
MAX_HANDSHAKES = 64
# New objects that trigger a garbage collection: a request makes about a hundred, and no image is in a cycle.
GARBAGE = 10_000
# How long answers that are already written have, at least, to reach their clients.
MIN_CLOSE_SECONDS = 1
# How long a slow reader of the log has at the end, so that stopping the service can't take forever.
LOG_SECONDS = 3

_log = logging.getLogger(SERVICE_LOGGER)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then finish every accepted request within `drain_seconds`.

    A second signal ends the process at once. The service also stops by itself if a worker hangs.

    Raises:
        WorkerHung: a worker hung.
        StartError: the bundle can't be served, the port can't be opened, or keys or certificate are unusable.
    """
    tls = load_tls(settings)
    log = configure_logging(JsonFormatter() if settings.log_format is LogFormat.JSON else TextFormatter())
    try:
        with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener, tls, log))
    finally:
        log.flush(MIN_CLOSE_SECONDS, LOG_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which close the port at once and end the process by the signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        tls: Tls | None,
        handshakes: int,
        on_listening: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._handshakes = handshakes
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            self.servers = [
                cast(asyncio.Server, self._listen(listener, self._tls)) for listener in sockets or []
            ]
            self.started = True
        self._on_listening()
        _spare_the_collector()

    def _listen(self, listener: socket.socket, tls: Tls) -> TlsListener:
        connection = functools.partial(
            cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return TlsListener(listener, lambda: tls.value.context, connection, self._handshakes)


async def _serve(settings: Settings, listener: socket.socket, tls: Tls | None, log: Output) -> None:
    app = create_app(settings)
    app.metrics.registry.register(CertificateExpiry(lambda: tls.value.expires if tls else None))
    log.on_drop = app.metrics.log_lines_dropped.inc
    # uvicorn would log a traceback if the lifespan can't start; here its errors propagate.
    async with app.router.lifespan_context(app):
        with explained(settings):
            listener.listen(BACKLOG)
        context: Context = app.state.context
        server = _server(app, settings, listener, tls, log)
        hang = asyncio.create_task(hung_worker(context.pool, settings.hang_seconds))
        renewed: list[Renewed[Any] | None] = [tls, app.keys, context.admin_token]
        beside = [
            hang,
            asyncio.create_task(_stop(stop_signal(), hang, server, app.drain, settings)),
            asyncio.create_task(keep_renewed(filter(None, renewed))),
        ]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in beside:
                task.cancel()
    if hang.done() and not hang.cancelled():
        raise WorkerHung(
            f"a worker has been stuck on an image for {settings.hang_seconds:g} seconds"
            " (EDGEWISE_HANG_SECONDS): check the delegate's device and restart the service"
        )


def _server(
    app: Application, settings: Settings, listener: socket.socket, tls: Tls | None, log: Output
) -> _Server:
    places = max_connections(settings.max_connections)
    connection = functools.partial(
        Protocol,
        max_connections=places,
        refused=noted(app.metrics, settings.log_requests),
    )
    config = uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], connection),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_notify=1,
    )
    scheme = "https" if tls else "http"
    handshakes = max(1, min(MAX_HANDSHAKES, places // 4))
    server = _Server(config, tls, handshakes, on_listening=lambda: _log_ready(app, listener, scheme))

    async def every_second() -> None:
        close_stalled(server.server_state)
        log.flush()

    config.callback_notify = every_second
    return server


async def _stop(
    stop: asyncio.Future[signal.Signals],
    hang: asyncio.Task[None],
    server: uvicorn.Server,
    drain: Drain,
    settings: Settings,
) -> None:
    first: list[asyncio.Future[Any]] = [stop, hang]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        _log.error("a worker hangs: stopping", extra=fields(hang_seconds=settings.hang_seconds))
    # At a terminal there are no probes that must notice first.
    at_once = stop.done() and stop.result() != signal.SIGTERM
    grace = 0.0 if at_once else settings.drain_grace_seconds
    _log.info("stopping: finishing accepted requests", extra=fields(requests=drain.owed, grace_seconds=grace))
    await drain.announce(grace, settings.drain_seconds)
    left = await drain.finish()
    if drain.owed:
        _log.warning(
            "not all requests were answered within EDGEWISE_DRAIN_SECONDS", extra=fields(requests=drain.owed)
        )
    server.config.timeout_graceful_shutdown = max(MIN_CLOSE_SECONDS, math.ceil(left))
    server.should_exit = True


def _spare_the_collector() -> None:
    """Make garbage collections rare, and have them skip what the start has created, which is never freed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _log_ready(app: Application, listener: socket.socket, scheme: str) -> None:
    context: Context = app.state.context
    active = context.variants.active
    if active.fallback:
        _log.warning(
            "not running on the requested delegate",
            extra=fields(variant=active.name, delegate=str(active.delegate), reason=active.fallback),
        )
    seconds = seconds_since_start()
    host, port = listener.getsockname()[:2]
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    _log.info(
        "ready: POST an image to %s/v1/classify",
        url,
        extra=fields(
            url=url,
            version=VERSION,
            bundle=context.bundle.manifest.name,
            variant=active.name,
            workers=context.pool.workers,
            runtime=RUNTIME,
            delegate=str(active.delegate),
            graph=str(active.share),
            seconds_since_start=seconds and round(seconds, 3),
            resident_bytes=resident_bytes(),
        ),
    )
