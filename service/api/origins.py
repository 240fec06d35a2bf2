"""Which web pages may send requests: the service's own, and those of the listed origins."""

from collections.abc import Awaitable, Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import ForeignOrigin

# Browsers let any page send these, too, but they change nothing, and its scripts don't see the answer.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Browsers leave them out, but other clients and proxies may not.
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class Origins:
    """Middleware: refuses what a web page of another origin sends, before its body is read.

    CORS alone only hides the answer from the page: a POST that needs no preflight is sent, and would be
    processed. Clients other than browsers send no `Origin`, and are not concerned.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """`allowed`: origins as browsers send them, besides the service's own."""
        self._app = app
        self._allowed = frozenset(origin.encode() for origin in allowed)

    # Not a coroutine of its own, which would cost every request as much as all else here.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one ASGI request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            origin = headers.get(b"origin")
            if origin is not None and origin not in self._allowed and not _is_own(origin, headers):
                error = ForeignOrigin(
                    f"pages of {origin[:64].decode('latin-1')!a} may not send requests to this service;"
                    " EDGEWISE_CORS_ORIGINS lists the origins that may"
                )
                return problem_response(Request(scope), error)(scope, receive, send)
        return self._app(scope, receive, send)


def _is_own(origin: bytes, headers: dict[bytes, bytes]) -> bool:
    """Whether the page came from this service, as far as the browser or the `Host` can tell."""
    # It is right even if a proxy changes `Host`, but over plain HTTP browsers send it to localhost only.
    # `none` is what the user did without a page.
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    # The scheme may differ, because a proxy in front has the certificate.
    scheme, _, address = origin.lower().partition(b"://")
    host = headers.get(b"host", b"").lower()
    port = _DEFAULT_PORTS.get(scheme, b"")
    return bool(address) and address.removesuffix(port) == host.removesuffix(port)
