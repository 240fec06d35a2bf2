"""Refusals by the server itself, before the application gets a request: answer, metric and log line."""

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus

from service.api.problems import MEDIA_TYPE, problem_at
from service.errors import InvalidHttp, RequestError
from service.monitoring.logs import SERVICE_LOGGER, fields
from service.monitoring.metrics import REASONS, Metrics
from service.settings import LogRequests

Note = Callable[[RequestError, str | None], None]

_log = logging.getLogger(SERVICE_LOGGER)


def refusal(error: RequestError, path: str) -> bytes:
    """Return the whole answer to a request for `path` (empty if unknown); the connection then closes."""
    document = problem_at(path, error, str(uuid.uuid4())).model_dump_json().encode()
    head = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(document)}",
        "Connection: close",
    ]
    if error.retry_after_seconds is not None:
        head.append(f"Retry-After: {error.retry_after_seconds}")
    return "\r\n".join([*head, "", ""]).encode() + document


def noted(metrics: Metrics, logged: LogRequests) -> Note:
    """Return a function that counts a refusal, given its error and the client, if it is one of `REASONS`.

    It also logs invalid HTTP.
    """

    def note(error: RequestError, client: str | None) -> None:
        reason = REASONS.get(type(error))
        if reason is not None:
            metrics.rejected.labels(reason).inc()
        if isinstance(error, InvalidHttp) and logged is not LogRequests.NONE:
            _log.warning("Invalid HTTP request received.", extra=fields(client=client, reason=str(error)))

    return note
