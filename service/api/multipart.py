"""The images of a multipart form, parsed as its bytes arrive and never written to disk.

This is not a library's parser: python_multipart's goes byte by byte over anything that resembles the boundary
or pads it, so a form made of that blocks the event loop for seconds. This one only searches.
"""

import re

from python_multipart.multipart import parse_options_header

from service.errors import BadMultipart, RequestError

FIELD = b"image"

# The limit of RFC 2046.
_MAX_BOUNDARY_BYTES = 70
# Of all headers of a part, which are a name, a file name and a type.
_MAX_HEADERS_BYTES = 8192
_HEADER = re.compile(rb"([!-9;-~]+):([^\r\n]*)")
# What to say of headers whose end is not found.
_ENDS = "their lines must end in CRLF, and an empty one must follow them"


class FormImages:
    """Takes the bytes of a `multipart/form-data` body whose parts are all named `image`."""

    def __init__(self, content_type: str, limit: int, beyond: RequestError) -> None:
        """`beyond` is raised if there are more than `limit` parts.

        Raises:
            BadMultipart: `content_type` has no usable boundary.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadMultipart("the Content-Type names no boundary")
        if len(boundary) > _MAX_BOUNDARY_BYTES:
            raise BadMultipart(f"the boundary has more than {_MAX_BOUNDARY_BYTES} characters")
        self._limit = limit
        self._beyond = beyond
        self._delimiter = b"\r\n--" + boundary
        # Bytes not parsed yet. At first a line's end, since the body may begin with the first delimiter.
        self._held = b"\r\n"
        self._in_headers = False
        self._complete = False
        # Chunks of the part that is being read; None in the preamble, which is ignored.
        self._part: list[bytes] | None = None
        self._images: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Parse the body's next bytes.

        Raises:
            BadMultipart: they can't be parsed, or begin a part that is not named `image`.
            RequestError: `beyond`, if they begin one part too many.
        """
        if self._complete:  # What follows the closing delimiter is ignored.
            return
        data = self._held + chunk  # With nothing held it is the chunk itself, not a copy.
        self._held = b""
        position: int | None = 0
        while position is not None:
            position = self._read_headers(data, position) if self._in_headers else self._read(data, position)

    def finish(self) -> list[bytes]:
        """Return the images in order, at least one, after the whole body was fed.

        Raises:
            BadMultipart: the form has no part, or ends before its closing boundary.
        """
        if self._in_headers and self._held and not self._complete:
            raise BadMultipart(f"the form ends in a part's headers; {_ENDS}")
        if not self._complete:
            raise BadMultipart("the form ends before the closing boundary that the Content-Type names")
        if not self._images:
            raise BadMultipart("the form has no part; it must have one, named image")
        return self._images

    def _read(self, data: bytes, start: int) -> int | None:
        """Read a part, or the preamble, from `start` to its end; return the position after the delimiter."""
        delimiter = data.find(self._delimiter, start)
        end = self._unsure(data, start) if delimiter == -1 else delimiter
        if self._part is not None:
            self._part.append(data[start:end])
        if delimiter == -1:
            self._held = data[end:]
            return None
        if self._part is not None:
            self._images.append(b"".join(self._part))
            self._part = None
        self._in_headers = True
        return delimiter + len(self._delimiter)

    def _unsure(self, data: bytes, start: int) -> int:
        """Return where in `data` the beginning of a delimiter may start; if nowhere, the end of `data`."""
        # A delimiter has one CR only, its first byte.
        begins = data.rfind(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        return begins if begins != -1 and self._delimiter.startswith(data[begins:]) else len(data)

    def _read_headers(self, data: bytes, start: int) -> int | None:
        """Read the rest of a delimiter's line and the headers; return the position after the empty line."""
        if data.startswith(b"--", start):
            self._complete = True
            return None
        end = data.find(b"\r\n\r\n", start, start + _MAX_HEADERS_BYTES)
        if end == -1:
            if len(data) - start >= _MAX_HEADERS_BYTES:
                raise BadMultipart(
                    f"a part of the form has more than {_MAX_HEADERS_BYTES} bytes of headers; {_ENDS}"
                )
            self._held = data[start:]
            return None
        padding, *headers = data[start:end].split(b"\r\n")
        if padding.strip(b" \t"):
            raise BadMultipart("a line of the form begins with the boundary, but continues after it")
        self._begin_part(_name(headers))
        self._in_headers = False
        return end + 4

    def _begin_part(self, name: bytes) -> None:
        if name != FIELD:
            text = ascii(name[:64].decode("utf-8", "replace"))
            raise BadMultipart(
                f"the form has a part named {text}; name images image, and put parameters in the query"
            )
        if len(self._images) == self._limit:
            raise self._beyond
        self._part = []


def _name(headers: list[bytes]) -> bytes:
    """Return a part's name from its Content-Disposition header; empty if there is none."""
    disposition = b""
    for line in headers:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadMultipart("a part of the form has a header line that is not `name: value`")
        if header[1].lower() == b"content-disposition":
            disposition = header[2]
    return parse_options_header(disposition.decode("latin-1").strip())[1].get(b"name", b"")
