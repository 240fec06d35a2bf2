"""What a client says its request belongs to: its own request ID, a trace."""

import re
from collections.abc import Iterable

REQUEST_ID = b"x-request-id"
TRACE_PARENT = b"traceparent"
_NAMES = frozenset({REQUEST_ID, TRACE_PARENT})

_PRINTABLE = re.compile(rb"[ -~]{1,128}")
# https://www.w3.org/TR/trace-context/: version, trace id, parent's span id, flags; more from version 01 on.
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def correlation(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return `request_id`, `trace_id` and `span_id` if the headers have them; malformed ones are omitted."""
    given = [header for header in headers if header[0] in _NAMES]
    return _read(dict(given)) if given else {}


def _read(given: dict[bytes, bytes]) -> dict[str, str]:
    ids = {}
    if _PRINTABLE.fullmatch(request_id := given.get(REQUEST_ID, b"")):
        ids["request_id"] = request_id.decode()
    trace = _TRACE.fullmatch(given.get(TRACE_PARENT, b""))
    if trace and not (trace[0].startswith(b"00") and trace[3]):
        ids |= {"trace_id": trace[1].decode(), "span_id": trace[2].decode()}
    return ids
