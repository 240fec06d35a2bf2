"""Requests of the Open Inference Protocol, built here, and readers of their answers.

tests/system uses Triton's own client.
"""

import base64
import json
from typing import Any

import httpx
import numpy as np

from tests.colours import LABELS_OF, RGB, SIDE

MODEL = "/v2/models/colours"
INFER = f"{MODEL}/infer"
LENGTH = "Inference-Header-Content-Length"


def pixels(colour: str) -> list[Any]:
    return np.full((SIDE, SIDE, 3), RGB[colour]).tolist()


def base64_input(*images: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "name": "image",
        "shape": [len(images)],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(image).decode() for image in images],
        **changes,
    }


def pixel_input(*colours: str, **changes: Any) -> dict[str, Any]:
    shape = [len(colours), SIDE, SIDE, 3]
    return {
        "name": "image",
        "shape": shape,
        "datatype": "UINT8",
        "data": [*map(pixels, colours)],
        **changes,
    }


def binary(datatype: str, shape: list[int], data: bytes, size: int | None = None) -> dict[str, Any]:
    parameters = {"binary_data_size": len(data) if size is None else size}
    return {"name": "image", "datatype": datatype, "shape": shape, "parameters": parameters}


def infer(client: httpx.Client, *inputs: dict[str, Any], tail: bytes = b"", **members: Any) -> httpx.Response:
    text = json.dumps({"inputs": inputs, **members}).encode()
    return client.post(INFER, content=text + tail, headers={LENGTH: str(len(text))} if tail else {})


def error_message(response: httpx.Response, status: int, code: str = "bad-inference-request") -> str:
    """The message of a problem."""
    assert response.status_code == status, response.text
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"/problems/{code}"
    assert document["error"] == document["detail"]
    return str(document["error"])


def length_prefixed(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def labels_of(response: httpx.Response) -> list[str]:
    (output,) = response.json()["outputs"]
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    probabilities = np.array(output["data"]).reshape(output["shape"])
    return [LABELS_OF[index] for index in probabilities.argmax(axis=1)]
