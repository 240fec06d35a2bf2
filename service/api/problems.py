"""Every error as a problem document (RFC 9457); all of them are made here."""

import json
import logging
from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    Draining,
    ForeignOrigin,
    InternalError,
    MethodNotAllowed,
    RequestError,
    UnknownRoute,
)
from service.monitoring.logs import SERVICE_LOGGER, fields

MEDIA_TYPE = "application/problem+json"
# Below it, clients of the Open Inference Protocol read problems too.
PROTOCOL_PATH = "/v2/"
# How many characters of what a client sent are repeated in the answer.
MAX_REPEATED = 100
# What every route that takes a body can answer, whatever the body is.
WRITING_ERRORS = (ForeignOrigin, InternalError, Draining)

_RETRY_AFTER = {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}

_log = logging.getLogger(SERVICE_LOGGER)


_EXAMPLE_ID = "61bd0968-517a-4475-aa3a-f0d98204c68b"
PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "/problems/corrupt-image",
    "title": "The image is damaged",
    "status": 422,
    "detail": "the JPEG is truncated: it ends within its picture",
    "instance": f"urn:uuid:{_EXAMPLE_ID}",
}


class Problem(BaseModel):
    """A problem document."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROBLEM_EXAMPLE]})

    type: str = Field(
        description="Stable identifier of this kind of problem", examples=["/problems/corrupt-image"]
    )
    title: str = Field(description="The same for every problem of this type")
    status: int
    detail: str = Field(description="What was wrong with this request, and what was expected")
    instance: str = Field(description="This occurrence; the log has the same id", examples=["urn:uuid:…"])
    retry_after: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        None,
        description="Seconds until the same request may succeed, if known: the same as `Retry-After`, which"
        " an image of a batch does not have",
        exclude_if=lambda seconds: seconds is None,
    )


class ProtocolProblem(Problem):
    """A problem document under `/v2`, with what clients of the Open Inference Protocol read."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**PROBLEM_EXAMPLE, "error": PROBLEM_EXAMPLE["detail"]}]}
    )

    error: str = Field(description="The same as `detail`")


def problem_type(error: type[RequestError]) -> str:
    """Return the URI reference by which clients recognize this error."""
    return f"/problems/{error.code}"


def problem_document(error: RequestError, id_: str) -> Problem:
    """Return the document for `error`, in the request with this id."""
    return Problem(
        type=problem_type(type(error)),
        title=error.title,
        status=error.status,
        detail=str(error),
        instance=f"urn:uuid:{id_}",
        retry_after=error.retry_after_seconds,
    )


def schema_at(path: str) -> type[Problem]:
    """Return what problems at this path are."""
    return ProtocolProblem if f"{path}/".startswith(PROTOCOL_PATH) else Problem


def problem_at(path: str, error: RequestError, id_: str) -> Problem:
    """Return the same for a request for `path`: under `/v2` with what the protocol's clients read."""
    problem = problem_document(error, id_)
    if schema_at(path) is ProtocolProblem:
        return ProtocolProblem(**problem.model_dump(), error=problem.detail)
    return problem


def unforeseen(error: Exception, id_: str) -> InternalError:
    """Log an unexpected error, and return what the client is told of it."""
    _log.error("a request failed", exc_info=error, extra=fields(id=id_))
    return InternalError("the service failed unexpectedly; its log says how")


def problem_response(
    request: Request, error: RequestError, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer for `error`."""
    # Its frames refer to it, the request and the image, and would keep them in memory for long.
    error.__traceback__ = error.__context__ = None
    request.state.error = error
    # Not `request.url`, which takes as long as the rest: refusing must cost next to nothing.
    problem = problem_at(request.scope["path"], error, request.state.id)
    all_headers = {**error.headers, **(headers or {})}
    if error.retry_after_seconds is not None:
        all_headers["Retry-After"] = str(error.retry_after_seconds)
    return Response(problem.model_dump_json(), error.status, all_headers, MEDIA_TYPE)


def documented(
    *errors: type[RequestError], schema: type[Problem] = Problem
) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that can answer with these errors, each described once."""
    by_status: dict[int | str, list[type[RequestError]]] = {}
    for error in dict.fromkeys(errors):
        by_status.setdefault(error.status, []).append(error)
    return {status: _documented(of_status, schema) for status, of_status in sorted(by_status.items())}


def _documented(errors: list[type[RequestError]], schema: type[Problem]) -> dict[str, Any]:
    examples = {}
    is_busy = errors[0].status in (429, 503)
    for error in errors:
        raised = error((error.__doc__ or "").splitlines()[0], retry_after_seconds=1 if is_busy else None)
        example = problem_document(raised, _EXAMPLE_ID).model_dump()
        if schema is ProtocolProblem:
            example["error"] = example["detail"]
        examples[error.code] = {"summary": error.title, "value": example}
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    headers = {"headers": {"Retry-After": _RETRY_AFTER}} if is_busy else {}
    return headers | {
        "description": "; or: ".join(f"{error.title} (`{problem_type(error)}`)" for error in errors),
        "content": {MEDIA_TYPE: {"schema": reference, "examples": examples}},
    }


def install(app: FastAPI) -> None:
    """Answer every error that a route raises, and every unknown route, with a problem document."""
    app.add_middleware(Problems)
    # Otherwise FastAPI itself answers unknown routes and wrong methods.
    app.add_exception_handler(HTTPException, _on_routing_error)


class Problems:
    """Middleware: answers the errors that routes raise; unexpected ones are logged and answered by a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect as gone:
            # There is nobody to answer; raised again, it would become a 500. Its frames hold the image, and
            # the future that holds the error: both would stay in memory for long.
            gone.__traceback__ = None
        except RequestError as error:
            await problem_response(Request(scope), error)(scope, receive, send)
        except Exception as error:
            request = Request(scope)
            failure = unforeseen(error, request.state.id)
            if started:
                raise
            await problem_response(request, failure)(scope, receive, send)


async def _on_routing_error(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    path = json.dumps(_cut(request.url.path))
    if error.status_code == UnknownRoute.status:
        return problem_response(request, UnknownRoute(f"there is nothing at {path}; /docs lists the routes"))
    if error.status_code == MethodNotAllowed.status:
        allow = (error.headers or {}).get("Allow", "")
        # Every GET route also answers HEAD, which reaches it as GET.
        if allow == "GET":
            allow = "GET, HEAD"
        detail = f"{path} does not take {_cut(request.method)}; it takes {allow}"
        return problem_response(request, MethodNotAllowed(detail), {"Allow": allow})
    raise error


def _cut(text: str) -> str:
    return text if len(text) <= MAX_REPEATED else text[:MAX_REPEATED] + "…"
