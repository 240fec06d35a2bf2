"""Routes that FastAPI describes but does not run: the hot path.

What FastAPI does for a request, from its middlewares to resolving dependencies, takes as long as a tenth
of an int8 inference. A direct route is declared like any other, and is in the OpenAPI document, but its
function is called directly with the request.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import MAX_REPEATED, Problems
from service.errors import BadParameter


class DirectRoute(APIRoute):
    """A route whose function takes `request`, `parameters` (a model of its query) and `shared`.

    The function returns a Response; what else it declares about answers only affects the OpenAPI document.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._parameters: type[BaseModel] = get_type_hints(endpoint)["parameters"]
        self._defaults = self._parameters()
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        parameters = _read(request, self._parameters) if scope["query_string"] else self._defaults
        response: Response = await self.endpoint(
            request=request, parameters=parameters, shared=request.app.state.context
        )
        await response(scope, receive, send)


class Shortcut:
    """Middleware: lets requests for direct routes bypass FastAPI's middlewares and router."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        direct = [route for route in routes if isinstance(route, DirectRoute)]
        self._direct = {route.path: (route, Problems(route.app)) for route in direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        route, app = self._direct.get(scope.get("path", ""), (None, self._app))
        if route is None or scope["method"] not in (route.methods or ()):
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        await app(scope, receive, send)


def _read(request: Request, parameters: type[BaseModel]) -> BaseModel:
    query = request.query_params
    given = dict(query)
    if len(given) != len(query.multi_items()):
        counts = Counter(name for name, _ in query.multi_items())
        repeated = next(name for name in given if counts[name] > 1)
        raise BadParameter(f"given more than once: {repeated[:64]!a}")
    try:
        return parameters.model_validate(given)
    except ValidationError as error:
        raise BadParameter("; ".join(map(_describe, error.errors()))) from None


def _describe(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    name = problem["loc"][-1]
    if problem["type"] == "int_parsing_size":
        expected = "has too many digits"
    else:
        expected = re.sub("^(Input|String) |, unable to parse .*", "", problem["msg"])
    return f"{name} is {problem['input'][:MAX_REPEATED]!a}, but it {expected}"
