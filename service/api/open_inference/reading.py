"""From a body to a request: JSON and, if the header says so, binary data after it."""

import json
from typing import Any

from pydantic import ValidationError

from service.api.open_inference.messages import InferenceRequest
from service.bundle.manifest import Preprocessing
from service.errors import BadInferenceRequest

# How many values a request may have besides its pixels: names, members, parameters.
_OTHER_VALUES = 1000
_LENGTH_BYTES = 4
_IF_BINARY = (
    "if binary data follows the JSON, Inference-Header-Content-Length must be the JSON's length in bytes"
)


def split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Split a body into its JSON, as long as `Inference-Header-Content-Length` says, and what follows.

    Raises:
        BadInferenceRequest: the header is not a length, or the body is shorter.
    """
    if header_length is None:
        return body, memoryview(b"")
    # isdigit() accepts digits of other scripts too, and very many digits take long to convert.
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        raise BadInferenceRequest("Inference-Header-Content-Length is not a number of bytes")
    length = int(header_length)
    if length > len(body):
        raise BadInferenceRequest(
            f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes"
        )
    return body[:length], memoryview(body)[length:]


def most_values(preprocessing: Preprocessing) -> int:
    """Return how many values JSON may have: those of one image's pixels, nested.

    Parsing more would take more memory than an edge node has, and hold up all other requests.
    """
    return _OTHER_VALUES + 1 + preprocessing.height * (1 + preprocessing.width * (1 + 3))


def parse(text: bytes, max_values: int) -> InferenceRequest:
    """Parse the JSON of a request.

    Parsed JSON takes up to thirty times its size in memory, so its values are counted first.

    Raises:
        BadInferenceRequest: it is not JSON, has more than `max_values` values, or is not a valid request.
    """
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if values > max_values or text.count(b'"') > 2 * _OTHER_VALUES:
        raise BadInferenceRequest(
            f"the JSON has more than {max_values} values or {_OTHER_VALUES} strings;"
            " send the pixels of several images as binary data"
        )
    try:
        document = json.loads(
            text.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise BadInferenceRequest(f"the JSON is not UTF-8 text; {_IF_BINARY}") from None
    except RecursionError:
        raise BadInferenceRequest("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadInferenceRequest(f"the body is not JSON: {error}; {_IF_BINARY}") from None
    except ValueError:
        raise BadInferenceRequest("the JSON has a number with too many digits") from None
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise BadInferenceRequest(_describe(error)) from None


def elements(data: memoryview, count: int) -> list[bytes]:
    """Return the `count` elements of a BYTES tensor: each follows its length, 4 bytes, little-endian.

    Raises:
        BadInferenceRequest: there are fewer, or there is more data after them.
    """
    found: list[bytes] = []
    offset = 0
    for number in range(count):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(data[offset:start], "little")
        if start > len(data) or offset > len(data):
            raise BadInferenceRequest(f"the binary data ends within element {number} of {count}")
        found.append(bytes(data[start:offset]))
    if offset != len(data):
        raise BadInferenceRequest(f"the binary data has {len(data) - offset} bytes more than its elements")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadInferenceRequest("the JSON has an object with a duplicate member")
    return members


def _refuse_constant(name: str) -> None:
    raise BadInferenceRequest(f"the JSON has {name}, which is not valid JSON")


def _describe(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the request"
    return f"{where}: {fault['msg'].removeprefix('Input ')}"
