"""The Open Inference Protocol, with requests built here; tests/system uses Triton's own client."""

import base64
import json
import re
import tracemalloc
from collections.abc import Iterable
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import Request
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.api.open_inference import routes
from service.api.work import each_classified
from service.bundle.folder import Bundle
from service.errors import RequestError
from service.inference.classifier import Classifier
from service.inference.job import Answer, Job
from service.inference.pool import Pool
from service.settings import Settings
from tests.api.running import blocked_worker, photo, running, samples
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


def test_an_id_is_echoed(client: httpx.Client) -> None:
    assert infer(client, base64_input(photo("red")), id="my own").json()["id"] == "my own"
    assert "id" not in infer(client, base64_input(photo("red"))).json()
    assert infer(client, base64_input(photo("red")), id="é" * 256).json()["id"] == "é" * 256


def test_members_outside_the_protocol_are_ignored(client: httpx.Client) -> None:
    image = base64_input(photo("red"), more=1)
    assert infer(client, image, parameters={"priority": 3}, other={}, outputs=None).status_code == 200


def test_outputs_have_the_requested_form(client: httpx.Client) -> None:
    image = base64_input(photo("red"), photo("blue"))
    top = {"name": "probabilities", "parameters": {"classification": 2}}
    (output,) = infer(client, image, outputs=[top]).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    value, index, label = output["data"][0].split(":")
    assert (float(value) > 0.5, int(index), label) == (True, LABELS_OF.index("red"), "red")
    assert output["data"][2].endswith(":blue")

    all_binary = infer(client, image, parameters={"binary_data_output": True})
    assert all_binary.headers["content-type"] == "application/octet-stream"
    length = int(all_binary.headers[LENGTH])
    (output,) = json.loads(all_binary.content[:length])["outputs"]
    tail = all_binary.content[length:]
    assert output["parameters"]["binary_data_size"] == len(tail)
    assert np.frombuffer(tail, "<f4").reshape(output["shape"]).argmax(axis=1).tolist() == [3, 1]

    in_json = {"name": "probabilities", "parameters": {"binary_data": False}}
    response = infer(client, image, parameters={"binary_data_output": True}, outputs=[in_json])
    assert labels_of(response) == ["red", "blue"]


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


def test_an_enormous_timeout_is_accepted(client: httpx.Client) -> None:
    members = {"parameters": {"timeout": 10**400}}
    assert infer(client, base64_input(photo("red")), **members).status_code == 200


def test_an_image_waits_no_longer_than_the_requests_timeout(settings: Settings) -> None:
    with blocked_worker(settings) as (client, _):
        response = infer(client, base64_input(photo("red")), parameters={"timeout": 50_000})
    (seconds,) = re.findall(r"within the (\S+) seconds", error_message(response, 504, "deadline-exceeded"))
    assert float(seconds) <= 0.05


FILE = photo("red", "BMP", (200, 180))
PIXELS = np.full((SIDE, SIDE, 3), RGB["red"], np.uint8).tobytes()


@pytest.mark.parametrize(
    ("image", "tail"),
    [
        (base64_input(FILE), b""),
        (binary("UINT8", [1, SIDE, SIDE, 3], PIXELS), PIXELS),
    ],
    ids=["base64", "pixels"],
)
def test_waiting_images_hold_no_memory_that_the_queue_does_not_count(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, image: dict[str, Any], tail: bytes
) -> None:
    uncounted_bytes: list[int] = []

    async def classified(
        request: Request, pool: Pool, jobs: Iterable[Job], *, are_checked: bool
    ) -> list[Answer | RequestError]:
        jobs = list(jobs)
        uncounted_bytes.append(tracemalloc.get_traced_memory()[0] - sum(job.size for job in jobs))
        return await each_classified(request, pool, jobs, are_checked=are_checked)

    monkeypatch.setattr(routes, "each_classified", classified)
    padding = "x" * (190_000 - len(json.dumps(image)) - len(tail))
    text = json.dumps({"inputs": [image], "padding": padding}).encode()
    body = text + tail
    # What the first request loads stays in memory.
    infer(client, image, tail=tail)
    uncounted_bytes.clear()
    tracemalloc.start()
    try:
        response = client.post(INFER, content=body, headers={LENGTH: str(len(text))})
    finally:
        tracemalloc.stop()
    assert response.status_code == 200, response.text
    # The client holds some of what it sends, too.
    assert uncounted_bytes[0] < 160_000


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"outputs": [{"name": "logits"}]}, "one output, named probabilities"),
        ({"outputs": [{"name": "probabilities"}] * 2}, "one output, named probabilities"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}, "classification"),
        ({"parameters": {"timeout": -1}}, "parameters.timeout"),
        ({"parameters": {"timeout": True}}, "parameters.timeout"),
        ({"parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({"id": 7}, "id: should be a valid string"),
        ({"id": "x" * 257}, "id: String should have at most 256 characters"),
    ],
)
def test_bad_members_are_refused_with_the_reason(
    client: httpx.Client, members: dict[str, Any], expected: str
) -> None:
    assert expected in error_message(infer(client, base64_input(photo("red")), **members), 400)


def test_exactly_one_input_is_accepted(client: httpx.Client) -> None:
    assert "one input" in error_message(infer(client), 400)
    assert "one input" in error_message(infer(client, *[base64_input(photo("red"))] * 2), 400)


@pytest.mark.parametrize(
    ("data", "size", "expected"),
    [
        (length_prefixed(b"some")[:-1], None, "ends within element 0 of 1"),
        (b"\xff\xff\xff\xff", None, "ends within element 0 of 1"),
        (b"\x01", None, "ends within element 0 of 1"),
        (length_prefixed(b"some", b"more"), None, "8 bytes more than its elements"),
        (length_prefixed(b"some"), 10**30, "binary_data_size is 1000"),
        (length_prefixed(b"some"), 7, "there are 8 bytes"),
    ],
)
def test_wrong_lengths_are_refused_with_the_reason(
    client: httpx.Client, data: bytes, size: int | None, expected: str
) -> None:
    assert expected in error_message(infer(client, binary("BYTES", [1], data, size), tail=data), 400)


@pytest.mark.parametrize("length", ["-1", "x", "", "1" * 5000, "99999999", "1e3", "²"])
def test_a_wrong_length_header_is_refused(client: httpx.Client, length: str) -> None:
    response = client.post(INFER, content=b"{}", headers={LENGTH: length.encode("latin-1", "replace")})
    assert LENGTH in error_message(response, 400)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 20_000, "JSON"),
        (b"[" * 100_000, "more than"),
        (b'{"a":' * 900, "JSON"),
        (b'{"id": NaN}', "NaN"),
        (b'{"id": -Infinity}', "-Infinity"),
        (b'{"id": "a", "id": "b"}', "a duplicate member"),
        (b'{"id": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"inputs": [' + b"1," * 6000 + b"1]}", "more than"),
        (b"[" + b'"ab",' * 2000 + b'""]', "1000 strings"),
        (b"[]", "the request: should be"),
        (b"null", "the request: should be"),
        (b"{}", "inputs: Field required"),
        (b'{"inputs": {}}', "inputs: should be a valid list"),
        (b'{"inputs": [1]}', "inputs.0"),
        (b'{"inputs": [' + b"1," * 4000 + b"1]}", "at most 8 items"),
        (photo("red"), "not UTF-8"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_bad_json_is_refused_with_the_reason(client: httpx.Client, body: bytes, expected: str) -> None:
    assert expected in error_message(client.post(INFER, content=body), 400)


def test_a_lone_surrogate_is_answered_with_a_problem(client: httpx.Client) -> None:
    surrogate = "\ud800"
    assert error_message(infer(client, base64_input(photo("red"), name=surrogate)), 400)
    assert error_message(infer(client, base64_input(photo("red"), datatype=surrogate)), 400)
    assert "valid string" in error_message(infer(client, base64_input(photo("red")), id=surrogate), 400)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("image") | json_values,
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]) | json_values,
        "shape": st.lists(st.sampled_from([-1, 0, 1, 2, 3, SIDE, 2**63, 2**200]), max_size=5) | json_values,
        "data": json_values,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-2, 40) | json_values, "content_type": json_values}
        ),
    },
)
messages = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=2) | json_values},
    optional={"id": json_values, "outputs": json_values, "parameters": json_values},
)


@given(message=messages, tail=st.binary(max_size=40), off=st.integers(-3, 3))
@hypothesis_settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_request_is_answered_or_refused(
    client: httpx.Client, message: dict[str, Any], tail: bytes, off: int
) -> None:
    text = json.dumps(message).encode()
    response = client.post(INFER, content=text + tail, headers={LENGTH: str(max(0, len(text) + off))})
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/models/other{}", "unknown-model"),
        (f"{MODEL}/versions/nope{{}}", "unknown-variant"),
        (f"{MODEL}/versions/1/nope{{}}", "unknown-route"),
    ],
)
def test_unknown_models_variants_and_routes_are_404(
    client: httpx.Client, method: str, path: str, code: str
) -> None:
    error_message(client.request(method, path.format("/infer" if method == "post" else "")), 404, code)


def test_a_variant_that_is_not_loaded_is_known_but_not_ready(client: httpx.Client) -> None:
    assert client.get(f"{MODEL}/versions/ptq").json()["versions"] == ["fp32", "ptq", "int8", "softmax"]
    error_message(client.get(f"{MODEL}/versions/ptq/ready"), 409, "variant-not-loaded")
    error_message(client.post(f"{MODEL}/versions/ptq/infer", content=b"{}"), 409, "variant-not-loaded")
    assert client.get(f"{MODEL}/versions/fp32/ready").json() == {"name": "colours", "ready": True}


def test_problems_elsewhere_have_no_error_member(client: httpx.Client) -> None:
    assert "error" not in client.get("/v1/nope").json()
    assert "error" not in client.get("/v2nope").json()
    error_message(client.delete("/v2"), 405, "method-not-allowed")


def test_the_model_may_have_another_name(settings: Settings) -> None:
    with running(settings.model_copy(update={"model_name": "birds"})) as client:
        assert client.get("/v2/models/birds").json()["name"] == "birds"
        error_message(client.get(MODEL), 404, "unknown-model")
        body = {"inputs": [base64_input(photo("red"))]}
        assert client.post("/v2/models/birds/infer", json=body).json()["model_name"] == "birds"


def test_each_image_is_measured(settings: Settings) -> None:
    with running(settings) as client:
        infer(client, base64_input(photo("red"), photo("blue")))
        assert samples(client)['edgewise_stage_seconds_count{stage="inference",variant="fp32"}'] == 2


def test_more_images_than_the_queue_takes_get_no_retry_after(settings: Settings) -> None:
    with running(settings.model_copy(update={"queue_size": 2})) as client:
        assert infer(client, base64_input(*[photo("red")] * 2)).status_code == 200
        response = infer(client, base64_input(*[photo("red")] * 3))
        error_message(response, 413, "batch-too-large")
        assert "retry-after" not in response.headers
