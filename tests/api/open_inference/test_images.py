import base64
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.folder import Bundle
from service.inference.classifier import Classifier
from service.settings import Settings
from tests.api.open_inference.inference_requests import (
    MODEL,
    base64_input,
    binary,
    error_message,
    infer,
    labels_of,
    length_prefixed,
    pixel_input,
    pixels,
)
from tests.api.running import photo, running
from tests.colours import LABELS_OF, RGB, SIDE


def test_pixels_files_json_and_binary_are_answered_alike(client: httpx.Client, colours: Bundle) -> None:
    raw = np.full((SIDE, SIDE, 3), RGB["red"], np.uint8)
    file, image = raw.tobytes(), photo("red")
    framed = length_prefixed(image)
    responses = [
        infer(client, pixel_input("red")),
        infer(client, pixel_input("red", data=raw.ravel().tolist())),
        infer(client, binary("UINT8", [1, SIDE, SIDE, 3], file), tail=file),
        infer(client, base64_input(image)),
        infer(client, base64_input(image, shape=[1, 1], data=[[base64.b64encode(image).decode()]])),
        infer(client, binary("BYTES", [1], framed), tail=framed),
        client.post(f"{MODEL}/versions/fp32/infer", json={"inputs": [pixel_input("red")]}),
    ]
    expected = Classifier(colours, "fp32").probabilities(raw).tolist()
    for response in responses:
        assert response.status_code == 200, response.text
        document = response.json()
        assert (document["model_name"], document["model_version"]) == ("colours", "fp32")
        (output,) = document["outputs"]
        assert (output["shape"], output["data"]) == ([1, len(LABELS_OF)], expected)


def test_several_images_are_answered_in_order(client: httpx.Client) -> None:
    assert labels_of(infer(client, base64_input(*map(photo, RGB)))) == [*RGB]
    raw = np.array([pixels(colour) for colour in RGB], np.uint8)
    by_pixels = binary("UINT8", [*raw.shape], raw.tobytes())
    assert labels_of(infer(client, by_pixels, tail=raw.tobytes())) == [*RGB]


def test_pixels_of_several_images_must_be_binary(client: httpx.Client) -> None:
    assert "as binary data" in error_message(infer(client, pixel_input("red", "blue")), 400)


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"name": "pixels"}, 400, "one input, named image"),
        ({"datatype": "FP32"}, 400, "must be UINT8, for pixels, or BYTES"),
        ({"shape": [1, SIDE, SIDE, 4]}, 400, f"must have [n, {SIDE}, {SIDE}, 3]"),
        ({"shape": [-1, SIDE, SIDE, 3]}, 400, "must have"),
        ({"shape": [0, SIDE, SIDE, 3]}, 400, "must have"),
        ({"shape": []}, 400, "must have"),
        ({"shape": [1.0, SIDE, SIDE, 3]}, 400, "inputs.0.shape.0: should be a valid integer"),
        ({"shape": [2, SIDE, SIDE, 3]}, 400, "needs"),
        ({"shape": [10**4000, SIDE, SIDE, 3]}, 413, "the limit of 8 images"),
        ({"shape": [9, SIDE, SIDE, 3]}, 413, "the limit of 8 images"),
        ({"data": None}, 400, "either data or the parameter binary_data_size"),
        ({"data": [256] * (SIDE * SIDE * 3)}, 400, "integers from 0 to 255"),
        ({"data": [*[1] * (SIDE * SIDE * 3 - 1), True]}, 400, "integers from 0 to 255"),
        ({"data": [0.5] * (SIDE * SIDE * 3)}, 400, "integers from 0 to 255"),
        ({"data": ["x" * 1000, *[1] * (SIDE * SIDE * 3 - 1)]}, 400, "integers from 0 to 255"),
        ({"data": [[[[1, 2]]]]}, 400, "not nested like its shape"),
        ({"data": [[[[[1]]]]]}, 400, "not nested like its shape"),
        ({"data": []}, 400, "has 0 bytes"),
        ({"parameters": {"binary_data_size": 3}}, 400, "either data or"),
        ({"parameters": {"binary_data_size": -1}, "data": None}, 400, "greater than or equal to 0"),
        ({"parameters": {"binary_data_size": 3}, "data": None}, 400, "there are 0 bytes"),
        ({"parameters": []}, 400, "inputs.0.parameters"),
    ],
)
def test_bad_pixels_are_refused_with_the_reason(
    client: httpx.Client, change: dict[str, Any], status: int, expected: str
) -> None:
    code = "batch-too-large" if status == 413 else "bad-inference-request"
    message = error_message(infer(client, pixel_input("red", **change)), status, code)
    assert expected in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"parameters": None}, 'parameter content_type "base64"'),
        ({"data": ["é"]}, "not base64"),
        ({"data": ["a"]}, "not base64"),
        ({"data": [1]}, "not base64"),
        ({"data": [[None]]}, "not base64"),
        ({"data": ["", ""]}, "has 2 elements, but its shape is for 1"),
        ({"shape": [1, 2]}, "must have [n] or [n, 1]"),
    ],
)
def test_bad_files_are_refused_with_the_reason(
    client: httpx.Client, change: dict[str, Any], expected: str
) -> None:
    assert expected in error_message(infer(client, base64_input(photo("red"), **change)), 400)


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"no image", 415, "unsupported-image"),
        (b"", 415, "unsupported-image"),
        (photo("red")[:60], 422, "corrupt-image"),
    ],
)
def test_the_problem_says_which_image_cannot_be_read(
    client: httpx.Client, image: bytes, status: int, code: str
) -> None:
    error_message(infer(client, base64_input(image)), status, code)
    message = error_message(infer(client, base64_input(photo("red"), image)), status, code)
    assert message.startswith("image 1 of 2: ")


def test_the_problem_says_which_image_gives_nan(settings: Settings, logarithmic: Bundle) -> None:
    with running(settings.model_copy(update={"bundle": logarithmic.path})) as client:
        message = error_message(infer(client, base64_input(photo("red"), photo("black"))), 500, "no-answer")
        assert message.startswith("image 1 of 2: variant fp32 gives NaN")


def test_exactly_one_input_is_accepted(client: httpx.Client) -> None:
    assert "one input" in error_message(infer(client), 400)
    assert "one input" in error_message(infer(client, *[base64_input(photo("red"))] * 2), 400)
