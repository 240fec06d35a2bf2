"""The images in a request: pixels or encoded files."""

import base64
import math
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.open_inference.messages import INPUT, InferenceRequest, RequestInput
from service.api.open_inference.reading import elements
from service.bundle.manifest import Preprocessing
from service.errors import BadInferenceRequest, BatchTooLarge

Image = bytes | NDArray[np.uint8]


def images_of(
    request: InferenceRequest, binary: memoryview, preprocessing: Preprocessing, limit: int
) -> list[Image]:
    """Return the images of a request: each a file's bytes, or pixels uint8[height, width, 3].

    Raises:
        BadInferenceRequest: the input does not match the model, or its own data.
        BatchTooLarge: there are more than `limit`.
    """
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        raise BadInferenceRequest(f"the model has one input, named {INPUT}; send only that one")
    tensor = request.inputs[0]
    size = (preprocessing.height, preprocessing.width, 3)
    images = _count(tensor, size)
    if images > limit:
        raise BatchTooLarge(f"the shape exceeds the limit of {limit} images")
    data = _binary(tensor, binary)
    if tensor.datatype == "UINT8":
        values = _pixels(tensor, math.prod(tensor.shape)) if data is None else data
        if len(values) != math.prod(tensor.shape):
            raise BadInferenceRequest(
                f"{INPUT} has {len(values)} bytes, but the shape {tensor.shape} needs"
                f" {math.prod(tensor.shape)}"
            )
        # A copy: a view would keep the whole body in memory, with its JSON.
        return [*np.frombuffer(bytes(values), np.uint8).reshape(images, *size)]
    return [*(_files(tensor, images) if data is None else elements(data, images))]


def _count(tensor: RequestInput, size: tuple[int, ...]) -> int:
    """Return how many images the tensor's shape is for."""
    first, *rest = tensor.shape or [0]
    fitting = {"UINT8": [[*size]], "BYTES": [[], [1]]}.get(tensor.datatype)
    if fitting is None:
        raise BadInferenceRequest(f"the datatype of {INPUT} must be UINT8, for pixels, or BYTES, for files")
    if rest not in fitting or first < 1:
        expected = " or ".join(str(["n", *shape]).replace("'", "") for shape in fitting)
        raise BadInferenceRequest(
            f"the shape of {INPUT} is {_short(tensor.shape)}, but {tensor.datatype} must have {expected}"
        )
    return first


def _binary(tensor: RequestInput, binary: memoryview) -> memoryview | None:
    """Return the tensor's binary data, or None if its data is in the JSON."""
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if (size is None) == (tensor.data is None):
        raise BadInferenceRequest(f"{INPUT} must have either data or the parameter binary_data_size")
    if (size or 0) != len(binary):
        raise BadInferenceRequest(
            f"there are {len(binary)} bytes of binary data after the JSON, but binary_data_size is"
            f" {_short(size or 0)}"
        )
    return None if size is None else binary


def _pixels(tensor: RequestInput, count: int) -> bytes:
    values: list[Any] = tensor.data or []
    for size in tensor.shape[1:]:
        if not values or type(values[0]) is not list:
            break
        if any(type(row) is not list or len(row) != size for row in values):
            raise BadInferenceRequest(f"the data of {INPUT} is not nested like its shape")
        values = list(chain.from_iterable(values))
    expected = f"the data of {INPUT} must be {count} integers from 0 to 255"
    if bool in {*map(type, values)}:  # bytes() takes them for 0 and 1.
        raise BadInferenceRequest(expected)
    try:
        return bytes(values)
    except (TypeError, ValueError):
        raise BadInferenceRequest(expected) from None


def _files(tensor: RequestInput, count: int) -> list[bytes]:
    if tensor.parameters is None or tensor.parameters.content_type != "base64":
        raise BadInferenceRequest(
            "JSON can't hold bytes: send files in base64, with the input's parameter content_type"
            ' "base64", or as binary data'
        )
    texts: list[Any] = tensor.data or []
    if len(tensor.shape) == 2:
        texts = [row[0] if type(row) is list and len(row) == 1 else row for row in texts]
    if len(texts) != count:
        raise BadInferenceRequest(
            f"the data of {INPUT} has {len(texts)} elements, but its shape is for {count}"
        )
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (TypeError, ValueError):  # Something is not a string, or not base64.
        raise BadInferenceRequest(f"the data of {INPUT} is not base64") from None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:100] + "…"
