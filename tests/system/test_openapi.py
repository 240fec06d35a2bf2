"""The service behaves as its OpenAPI document says: requests generated from the document show it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema
import pytest

from tests.system.processes import Service, serving

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of the default bundle, with an admin token."""
    token = tmp_path_factory.mktemp("admin") / "token"
    token.write_text("a-token-that-nobody-guesses")
    with serving(admin_token_file=token) as service:
        yield service


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    with service.client() as client:
        return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_generated_requests_are_answered_as_documented(service: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run", "--no-color"]
    # In its own process, so that pytest's warning filters and hypothesis' profile do not apply.
    result = subprocess.run(  # noqa: S603
        [*command, f"{service.url}/openapi.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with service.client() as client:
        assert client.get("/readyz").status_code == 200
    assert not [line for line in service.log if line["level"] == "error"]


def test_its_server_url_works_behind_a_proxy_with_a_path_prefix(document: dict[str, Any]) -> None:
    (server,) = document["servers"]
    assert urljoin("https://example.com/edge/openapi.json", server["url"]) == "https://example.com/edge/"


def test_every_operation_has_a_summary_and_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    missing = []
    for name, operation in operations(document):
        assert operation["summary"], name
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for content in body.get("content", {}).values():
                schema = content.get("schema", {})
                named = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
                binary = "binary" in str(schema)
                if not (binary or {"example", "examples"} & content.keys() or has_example(named, schemas)):
                    missing.append((name, schema))
    assert missing == []


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    root = {"components": document["components"]}
    found = [*examples(document)]
    assert len(found) > 100
    valid = jsonschema.Draft202012Validator
    assert [(schema, value) for schema, value in found if not valid(root | schema).is_valid(value)] == []


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    if isinstance(node, dict):
        given = node.get("examples", [])
        values = [one["value"] for one in given.values()] if isinstance(given, dict) else given
        for value in [*values, *([node["example"]] if "example" in node else [])]:
            yield node.get("schema", node), value
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from examples(child)


def has_example(schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    properties = schema.get("properties", {}).values()
    return "examples" in schema or (bool(properties) and all("examples" in p for p in properties))


def test_generated_clients_have_methods_with_short_names(document: dict[str, Any]) -> None:
    assert [operation["operationId"] for _, operation in operations(document)] == [
        *("classify", "classify_batch", "feedback", "variants", "switch_variant"),
        *("server_metadata", "server_live", "server_ready", "model_metadata", "version_metadata"),
        *("model_ready", "version_ready", "infer", "version_infer", "live", "ready", "metrics"),
    ]


def test_no_parameter_can_be_null(document: dict[str, Any]) -> None:
    found = [
        parameter for _, operation in operations(document) for parameter in operation.get("parameters", [])
    ]
    kinds = {parameter["name"]: parameter["schema"].get("type") for parameter in found}
    assert kinds["top_k"] == kinds["timeout_ms"] == "integer"
    assert kinds["min_probability"] == "number"
    assert "null" not in str(found)


def test_what_can_be_omitted_has_no_default(document: dict[str, Any]) -> None:
    assert "'default': None" not in str(document)


def test_no_member_of_an_inference_is_null(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "null" not in str([schemas["InferenceResponse"], schemas["ResponseOutput"]])


def test_there_is_no_operation_for_head(document: dict[str, Any]) -> None:
    assert {name.split()[0] for name, _ in operations(document)} == {"get", "post", "put"}
