"""GET / and /docs: the page to try the service, and the OpenAPI document to read; all of it local."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

FOLDER: Final = Path(__file__).resolve().parent.parent / "page"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
ADDRESSES: Final = {"index.html": "/", "docs.html": "/docs"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI has icons as `data:` URLs in its style sheet, and writes its own inline styles.
DOCS_POLICY: Final = POLICY.replace("img-src 'self' blob:", "img-src 'self' data:").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
SWAGGER_UI: Final = ("swagger-ui-bundle.js", "swagger-ui.css")

_Route = Callable[[Request], Awaitable[Response]]


def make_router() -> APIRouter:
    """Return the routes of the page's files, read now and served from memory, and of Swagger UI's."""
    router = APIRouter()
    routes = {
        ADDRESSES.get(path.name, f"/page/{path.name}"): _file(path) for path in sorted(FOLDER.iterdir())
    }
    # They are large and rarely requested: they stay on disk.
    swagger_ui = StaticFiles(directory=str(files(fastapi_offline) / "static"))
    routes |= {f"/docs/{name}": _packaged(swagger_ui, name) for name in SWAGGER_UI}
    for address, route in routes.items():
        router.add_api_route(address, route, include_in_schema=False)
    return router


def _file(path: Path) -> _Route:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    policy = DOCS_POLICY if path.name == "docs.html" else POLICY
    headers = HEADERS | {"ETag": etag, "Content-Security-Policy": policy}
    media_type = MEDIA_TYPES[path.suffix]

    async def route(request: Request) -> Response:
        if etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return route


def _packaged(folder: StaticFiles, name: str) -> _Route:
    async def route(request: Request) -> Response:
        response = await folder.get_response(name, request.scope)
        response.headers.update(HEADERS)
        return response

    return route
