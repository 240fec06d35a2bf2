"""HTTP's rules for request heads that the parser does not check."""

import re
from collections.abc import Iterable

import httptools

from service.errors import InvalidHttp, RequestError

_VERSIONS = ("1.1", "1.0")
# What the parser says of a client that begins with HTTP/2, as gRPC's do.
_HTTP_2 = "Pause on PRI/Upgrade"
# A name or an address, and a port; each is optional.
_HOST = re.compile(rb"(\[[\w.:~!$&'()*+,;=%-]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?")


def broken_rule(error: httptools.HttpParserError) -> RequestError:
    """Return what the parser, or one of its callbacks, found wrong; no text of the client is in it."""
    if isinstance(error.__context__, RequestError):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return InvalidHttp("the request's target is not a URL")
    if str(error) == _HTTP_2:
        return _unsupported("2.0")
    return InvalidHttp(str(error))


def check_head(version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check a request's version and headers, whose names are in lower case.

    Raises:
        InvalidHttp: the head breaks a rule, has a `Transfer-Encoding` other than `chunked`,
            or has one at all in HTTP/1.0.
    """
    if version not in _VERSIONS:
        raise _unsupported(version)
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise InvalidHttp("Host must be a name or an address, optionally with a port")
        elif name == b"transfer-encoding":
            if version == "1.0":
                # HTTP/1.0 has no chunks: for a proxy in front, the body may end elsewhere (RFC 9112, 6.1).
                raise InvalidHttp("HTTP/1.0 has no Transfer-Encoding")
            if value.lower() != b"chunked":
                raise InvalidHttp("the only supported Transfer-Encoding is chunked")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidHttp(f"a request must have one Host header; this one has {hosts or 'none'}")


def _unsupported(version: str) -> InvalidHttp:
    return InvalidHttp(f"HTTP/{version} is not supported; use HTTP/1.1")
