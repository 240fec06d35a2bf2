"""One log line and one count per request."""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.correlation import REQUEST_ID, correlation
from service.api.stages import milliseconds
from service.errors import RequestError
from service.monitoring.logs import ACCESS_LOGGER, fields
from service.monitoring.metrics import CLIENT_GONE, REASONS, Metrics
from service.settings import LogRequests

# Key in the scope's state: the status that the server itself answered with if it could not parse the rest.
ANSWERED = "answered"
# Not in any standard, but in many logs: the client went away before it had an answer.
GONE_STATUS = 499
# Requested every few seconds by several clients: their successes would fill the log.
PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})

BATCH_SECONDS = 0.1

# Log collectors split longer lines.
MAX_PATH = 512

_log = logging.getLogger(ACCESS_LOGGER)


@dataclass(frozen=True, slots=True)
class _Done:
    """An answered request; `ended` is in seconds since 1970."""

    scope: Scope
    status: int
    ended: float
    seconds: float


class AccessLog:
    """Counts and logs answered requests in small batches, soon after their answers.

    One by one this would take twice as long, since each inference pushes the code for it out of the
    processor's caches. `logged` says which requests get a line; probes only ever get one if they fail.

    Routes set these in `request.state`: `variant`; `stages`, the seconds that each stage took, for each
    image; `key`, the name of the API key; `bytes_in`, how much of a body arrived; `error`; and `errors`,
    why single images have no answer.
    """

    def __init__(self, metrics: Metrics, logged: LogRequests) -> None:
        self._metrics = metrics
        self._logged = logged
        self._done: list[_Done] = []
        self._ending = False

    def enter(self, scope: Scope, status: int, seconds: float) -> None:
        """Record a request that has just been answered."""
        self._done.append(_Done(scope, status, time.time(), seconds))
        if self._ending:
            self.write()
        elif len(self._done) == 1:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self.write)

    def end(self) -> None:
        """Write what is left, and from now on each request at once: there may be no later."""
        self._ending = True
        self.write()

    def write(self) -> None:
        """Count and log the requests answered since the last call."""
        done, self._done = self._done, []
        for request in done:
            self._count(request)
            if self._is_logged(request):
                self._log(request)
        for handler in logging.getLogger().handlers:
            handler.flush()

    def _count(self, done: _Done) -> None:
        state = done.scope["state"]
        variant: str = state.get("variant", "")
        self._metrics.requests.labels(_route(done.scope), str(done.status), variant).inc()
        reasons = [REASONS[type(error)] for error in _errors(state) if type(error) in REASONS]
        for reason in [CLIENT_GONE] if done.status == GONE_STATUS else reasons:
            self._metrics.rejected.labels(reason).inc()
        for stages in state.get("stages", ()):
            self._metrics.observe_stages(variant, **stages)

    def _is_logged(self, done: _Done) -> bool:
        if not _log.isEnabledFor(logging.INFO):
            return False
        if done.status >= HTTPStatus.BAD_REQUEST or done.scope["state"].get("errors"):
            return self._logged is not LogRequests.NONE
        return self._logged is LogRequests.ALL and _route(done.scope) not in PROBES

    def _log(self, done: _Done) -> None:
        scope, state = done.scope, done.scope["state"]
        stages: list[dict[str, float]] = state.get("stages", [])
        line = (scope["method"], _route(scope), done.status)
        details = fields(
            id=state["id"],
            path=scope["path"][:MAX_PATH],
            client=scope["client"][0] if scope.get("client") else None,
            seconds=round(done.seconds, 6),
            bytes_in=state.get("bytes_in"),
            timing_ms=milliseconds(stages[0]) if len(stages) == 1 else None,
            variant=state.get("variant") or None,
            key=state.get("key"),
            problem=_problem(_errors(state)),
            **state["correlation"],
        )
        record = _log.makeRecord(
            ACCESS_LOGGER, logging.INFO, __file__, 0, "%s %s %d", line, None, extra=details
        )
        record.created = done.ended
        _log.handle(record)


class Access:
    """Middleware: gives each request an ID, and logs it when it is answered.

    The ID, which can't be guessed, is `request.state.id`. The answer's `X-Request-ID` is the client's own, or
    else this ID.
    """

    def __init__(self, app: ASGIApp, log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state["id"] = str(uuid.uuid4())
        ids = state["correlation"] = correlation(scope["headers"])
        request_id = (REQUEST_ID, ids.get("request_id", state["id"]).encode())
        status, entered = GONE_STATUS, False

        def enter() -> None:
            nonlocal entered
            if not entered:
                entered = True
                self._log.enter(scope, state.get(ANSWERED, status), time.perf_counter() - started)

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), request_id]}
            elif not message.get("more_body", False):
                # Not after sending, which can take seconds while the rest of the request's body is discarded.
                enter()
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            enter()


def _errors(state: dict[str, Any]) -> list[RequestError]:
    """Return why the request has no answer, or else why images of it have none."""
    error: RequestError | None = state.get("error")
    return [error] if error else state.get("errors", [])


def _problem(errors: list[RequestError]) -> str | None:
    # A fault of the service among those of clients is the one that somebody looks for.
    server = (error for error in errors if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    error = next(server, errors[0] if errors else None)
    return error.code if error else None


def _route(scope: Scope) -> str:
    path: str = getattr(scope.get("route"), "path", "unmatched")
    return path
