"""Who may use the routes: if there are API keys, those who have one."""

from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import documented, problem_response, schema_at
from service.errors import Unauthorized
from service.keys import Keys
from service.renewed import Renewed

_GUARDED = ("/v1/", "/v2/")
# The Open Inference Protocol's probes, open like the service's own.
_OPEN = "/v2/health/"
# It requires the admin token, in the same header.
_ADMIN = ("PUT", "/v1/variants/active")

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class ApiKeys:
    """Middleware: refuses requests without a key, before their body is read.

    The key's name is `request.state.key`.
    """

    def __init__(self, app: ASGIApp, keys: Renewed[Keys]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] == "http" and needs_key(scope["method"], scope["path"]):
            name = self._name(scope)
            if name is None:
                error = Unauthorized(
                    "this route needs a valid API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"
                )
                await problem_response(Request(scope), error)(scope, receive, send)
                return
            scope["state"]["key"] = name
        await self._app(scope, receive, send)

    def _name(self, scope: Scope) -> str | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        keys = (headers.get(b"x-api-key", b""), token.strip() if scheme.lower() == b"bearer" else b"")
        known = self._keys.value
        return next((name for key in keys if key and (name := known.name(key))), None)


def needs_key(method: str, path: str) -> bool:
    """Whether a request needs a key, if there are keys."""
    folder = path + "/"
    return folder.startswith(_GUARDED) and not folder.startswith(_OPEN) and (method, path) != _ADMIN


def describe(document: dict[str, Any]) -> None:
    """Mark the operations of an OpenAPI document that need a key."""
    document["components"].setdefault("securitySchemes", {}).update(_SCHEMES)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if needs_key(method.upper(), path):
                operation["security"] = [{scheme: []} for scheme in _SCHEMES]
                operation["responses"]["401"] = documented(Unauthorized, schema=schema_at(path))[401]
