"""One log line and one count per request."""

import logging
import time
import uuid

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Draining, QueueFull, RequestError, SlowBody
from service.monitoring.logs import ACCESS_LOGGER, fields
from service.monitoring.metrics import Metrics

# Not in any standard, but in many logs: the client went away before it had an answer.
CLIENT_GONE = 499

# Longer lines are split on their way by what collects logs.
MAX_PATH = 512
MAX_METHOD = 32

_REJECTIONS: dict[type[RequestError], str] = {
    QueueFull: "queue_full",
    Draining: "draining",
    SlowBody: "slow_body",
}
_log = logging.getLogger(ACCESS_LOGGER)


class AccessLog:
    """Outermost middleware: names each request, and when it is done counts and logs it.

    The name, unguessable, is `request.state.id`. Routes leave `request.state.variant` behind.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state["id"] = str(uuid.uuid4())
        status = CLIENT_GONE

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            pass
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        error: RequestError | None = state.get("error")
        variant: str = state.get("variant", "")
        route: str = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, str(status), variant).inc()
        reason = "client_gone" if status == CLIENT_GONE else error and _REJECTIONS.get(type(error))
        if reason:
            self._metrics.rejected.labels(reason).inc()
        _log.info(
            "%s %s %d",
            scope["method"][:MAX_METHOD],
            route,
            status,
            extra=fields(
                id=state["id"],
                path=scope["path"][:MAX_PATH],
                client=scope["client"][0] if scope.get("client") else None,
                seconds=round(seconds, 6),
                variant=variant or None,
                problem=error.code if error else None,
            ),
        )
