"""The answer that the server itself gives, before there is a request for the application."""

import uuid
from http import HTTPStatus

from service.api.problems import MEDIA_TYPE, problem_at
from service.errors import RequestError


def refusal(error: RequestError, path: str) -> bytes:
    """The whole answer to a request for `path`, empty where that is not known; then the connection closes."""
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
