import logging
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, Request

from service import errors
from service.api.problems import problem_response, problem_type
from service.errors import CorruptImage, RequestError
from service.settings import Settings
from tests.api.running import running, samples

ROOT = Path(__file__).parents[2]
OF_SWITCHING = {"unauthorized", "switching-disabled", "switch-in-progress", "unusable-variant"}


def every_error(base: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    for error in base.__subclasses__():
        yield error
        yield from every_error(error)


def test_the_documentation_has_every_problem_and_no_other() -> None:
    text = (ROOT / "docs" / "http.md").read_text()
    table = re.findall(r"^\| `(/problems/[a-z-]+)` \| (\d+) \|", text, re.MULTILINE)
    assert sorted(table) == sorted((problem_type(error), str(error.status)) for error in every_error())


def test_types_are_unique() -> None:
    types = [problem_type(error) for error in every_error()]
    assert len(types) == len(set(types))


def raise_corrupt_image() -> None:
    try:
        bytes([256])
    except ValueError:
        raise CorruptImage("so") from None


def test_an_error_that_is_answered_holds_no_frames() -> None:
    request = Request({"type": "http", "path": "/", "headers": [], "server": None, "state": {"id": "1"}})
    with pytest.raises(CorruptImage) as caught:
        raise_corrupt_image()
    assert problem_response(request, caught.value).status_code == 422
    assert (caught.value.__traceback__, caught.value.__context__) == (None, None)


def test_the_tree_in_the_docstring_has_every_error() -> None:
    drawn = dict(re.findall(r"── (\w+) +(\d{3}) ", errors.__doc__ or ""))
    assert drawn == {error.__name__: str(error.status) for error in every_error()}


def test_openapi_documents_every_problem_of_a_route(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    responses = document["paths"]["/v1/classify"]["post"]["responses"]
    documented = {
        (type_, int(status))
        for status, response in responses.items()
        for type_ in re.findall(r"`(/problems/[a-z-]+)`", response["description"])
    }
    # These are raised before any route, or by other routes.
    others = OF_SWITCHING | {
        "unknown-route",
        "method-not-allowed",
        "too-many-connections",
        "head-too-large",
        "invalid-http",
        "batch-too-large",
        "bad-inference-request",
        "unknown-model",
        "unknown-answer",
        "truth-already-told",
    }
    assert documented == {(problem_type(e), e.status) for e in every_error() if e.code not in others}
    of_switch = str(document["paths"]["/v1/variants/active"]["put"]["responses"])
    assert all(f"`/problems/{code}`" in of_switch for code in OF_SWITCHING)
    reference = responses["422"]["content"]["application/problem+json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["required"]) == {"type", "title", "status", "detail", "instance"}
    retry_after = schema["properties"]["retry_after"]
    assert (retry_after["type"], retry_after["minimum"], "default" in retry_after) == ("integer", 1, False)
    examples = responses["429"]["content"]["application/problem+json"]["examples"].values()
    assert {example["value"]["retry_after"] for example in examples} == {1}


def test_openapi_documents_the_body_in_all_its_forms(client: httpx.Client) -> None:
    post = client.get("/openapi.json").json()["paths"]["/v1/classify"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
    }
    assert [p["name"] for p in post["parameters"]] == [
        "top_k",
        "variant",
        "crop",
        "timeout_ms",
        "min_probability",
        "label",
    ]


def test_the_documentation_page_is_served(client: httpx.Client) -> None:
    assert "openapi.json" in client.get("/docs").text


@pytest.mark.parametrize("path", ["/page", "/v1", "/v1/classify/", "/nope", '/"quoted"\n'])
def test_an_unknown_route_is_a_problem(client: httpx.Client, path: str) -> None:
    response = client.get(path.replace("\n", "%0A"))
    assert response.status_code == 404
    document = response.json()
    assert document["type"] == "/problems/unknown-route"
    assert "retry_after" not in document
    assert "/docs" in document["detail"]
    assert "\n" not in document["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/classify", "POST"),
        ("DELETE", "/v1/variants", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    client: httpx.Client, method: str, path: str, allow: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert response.json()["type"] == "/problems/method-not-allowed"
    assert response.json()["detail"] == f'"{path}" does not take {method}; it takes {allow}'


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/" + "x" * 60_000, "/docs lists the routes"),
        ("POST", "/livez", "it takes GET"),
        ("POST", "/v1/classify?top_k=" + "x" * 60_000, "but it should be a valid integer"),
        (
            "POST",
            f"/v1/classify?{'x' * 60_000}=1",
            "the parameters are top_k, variant, crop, timeout_ms, min_probability",
        ),
        ("POST", "/v1/classify?variant=" + "x" * 60_000, "but it should have at most 64 characters"),
        ("POST", "/v1/classify?" + "top_k=1&" * 7_000, "given more than once: 'top_k'"),
        ("POST", "/v1/classify?" + "".join(f"z{n}=1&z{n}=1&" for n in range(3000)), "more than once: 'z0'"),
        ("POST", f"/v1/classify?{'x' * 9_000}=1&{'x' * 9_000}=1", "given more than once: 'xxx"),
        ("GET", "/v2/models/colours/versions/" + "x" * 20_000, "has no variant 'xxx"),
    ],
)
def test_long_input_is_shortened_in_the_problem(
    client: httpx.Client, method: str, target: str, expected: str
) -> None:
    response = client.request(method, target)
    assert 400 <= response.status_code < 500
    assert expected in response.json()["detail"]
    assert len(response.content) < 1000


def test_an_unexpected_error_is_logged_and_reveals_no_internals(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def break_something(app: FastAPI) -> None:
        @app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError("a secret of the internals")

    with caplog.at_level(logging.INFO, "edgewise"), running(settings, break_something) as client:
        response = client.get("/broken")
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        document = response.json()
        assert document["type"] == "/problems/internal-error"
        assert not re.search(r"secret|Zero|Traceback|\.py", response.text)
        assert client.get("/livez").status_code == 200
        assert samples(client)['edgewise_requests_total{route="/broken",status="500",variant=""}'] == 1
    (failure,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failure.exc_info is not None
    assert "a secret of the internals" in str(failure.exc_info[1])
    assert document["instance"] == f"urn:uuid:{failure.fields['id']}"


def test_each_problem_has_its_own_instance(client: httpx.Client) -> None:
    instances = {client.get("/nope").json()["instance"] for _ in range(5)}
    assert len({UUID(instance) for instance in instances}) == 5
