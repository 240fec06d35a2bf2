import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.api.open_inference.inference_requests import (
    INFER,
    LENGTH,
    base64_input,
    binary,
    error_message,
    infer,
    length_prefixed,
)
from tests.api.running import photo
from tests.colours import SIDE


def test_members_outside_the_protocol_are_ignored(client: httpx.Client) -> None:
    image = base64_input(photo("red"), more=1)
    assert infer(client, image, parameters={"priority": 3}, other={}, outputs=None).status_code == 200


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


@pytest.mark.parametrize("off", [None, 1, -1])
def test_binary_data_that_no_header_announces_rightly_is_refused_with_the_header(
    client: httpx.Client, off: int | None
) -> None:
    data = length_prefixed(photo("red"))
    text = json.dumps({"inputs": [binary("BYTES", [1], data)]}).encode()
    headers = {} if off is None else {LENGTH: str(len(text) + off)}
    response = client.post(INFER, content=text + data, headers=headers)
    assert f"if binary data follows the JSON, {LENGTH} must be" in error_message(response, 400)


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
