"""The images out of a multipart form, parsed as its bytes arrive and never on disk."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadMultipart, RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = b"image"


class FormImages:
    """Takes the bytes of a `multipart/form-data` body whose parts are all named `image`."""

    def __init__(self, content_type: str, limit: int, beyond: RequestError) -> None:
        """`beyond` is raised where there are more than `limit` parts.

        Raises:
            BadMultipart: `content_type` has no usable boundary.
        """
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadMultipart("the Content-Type names no boundary")
        # They don't know the parser, which knows them: in a circle, images would stay for long.
        self._parts = _Parts(limit, beyond)
        try:
            self._parser = MultipartParser(boundary, self._parts.callbacks())
        except FormParserError as error:
            raise BadMultipart(f"the boundary can't be used: {error}") from None

    def feed(self, chunk: bytes) -> None:
        """Take the body's next bytes.

        Raises:
            BadMultipart: they can't be parsed, or begin a part that is not named `image`.
            RequestError: `beyond`, where they begin one part too many.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadMultipart(f"the form can't be parsed: {error}") from None

    def finish(self) -> list[bytes]:
        """The images in their order, at least one, when the whole body was fed.

        Raises:
            BadMultipart: the form has no part, or ends before its closing boundary.
        """
        if not self._parts.complete:
            raise BadMultipart("the form ends before its closing boundary")
        if not self._parts.images:
            raise BadMultipart("the form has no part; it must have one, named image")
        return self._parts.images


class _Parts:
    """What the parser finds: `images`, and whether it came to the form's end, `complete`."""

    def __init__(self, limit: int, beyond: RequestError) -> None:
        self._limit = limit
        self._beyond = beyond
        self.images: list[bytes] = []
        self._part: list[bytes] = []
        self._header_name: list[bytes] = []
        self._header_value: list[bytes] = []
        self._disposition = b""
        self.complete = False

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser is to call."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_begin": self._on_header_begin,
            "on_header_field": lambda data, start, end: self._header_name.append(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.append(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._part.append(data[start:end]),
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        if len(self.images) == self._limit:
            raise self._beyond
        self._disposition = b""

    def _on_header_begin(self) -> None:
        self._header_name.clear()
        self._header_value.clear()

    def _on_header_end(self) -> None:
        if b"".join(self._header_name).lower() == b"content-disposition":
            self._disposition = b"".join(self._header_value)

    def _on_headers_finished(self) -> None:
        name = parse_options_header(self._disposition.decode("latin-1"))[1].get(b"name", b"")
        if name != FIELD:
            text = ascii(name[:64].decode("utf-8", "replace"))
            raise BadMultipart(
                f"the form has a part named {text}; its images are named image, parameters go in the query"
            )

    def _on_part_end(self) -> None:
        self.images.append(b"".join(self._part))
        self._part.clear()

    def _on_end(self) -> None:
        self.complete = True
