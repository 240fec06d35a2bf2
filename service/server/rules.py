"""HTTP's rules for a head that the parser does not see to."""

import re
from collections.abc import Iterable

import httptools

from service.errors import InvalidHttp, RequestError

_VERSIONS = ("1.1", "1.0")
# A name or an address, and a port: each may be missing.
_HOST = re.compile(rb"(\[[\w.:~!$&'()*+,;=%-]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?")


def broken_rule(error: httptools.HttpParserError) -> RequestError:
    """What the parser, or what it calls, found wrong; nothing that the client sent is in it."""
    if isinstance(error.__context__, RequestError):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return InvalidHttp("the request's target is no URL")
    return InvalidHttp(str(error))


def check_head(version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check a request's version and headers, whose names are in lower case.

    Raises:
        InvalidHttp: the head breaks a rule; or its body is in an encoding beside `chunked`,
            or in HTTP/1.0 in any.
    """
    if version not in _VERSIONS:
        raise InvalidHttp(f"HTTP/{version} is not spoken here; HTTP/1.1 is")
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value.rstrip()):
                raise InvalidHttp("Host is neither a name nor an address, with or without a port")
        elif name == b"transfer-encoding":
            if version == "1.0":
                # It has no chunks: a proxy in front may have seen the body end elsewhere (RFC 9112, 6.1).
                raise InvalidHttp("HTTP/1.0 has no Transfer-Encoding")
            if value.rstrip().lower() != b"chunked":
                raise InvalidHttp("Transfer-Encoding must be chunked alone")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidHttp(f"a request has one header Host, this one has {hosts or 'none'}")
