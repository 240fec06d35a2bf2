"""One image as a request for each route that classifies, for tests of what all of them do alike."""

import base64

import httpx

ROUTES = ("/v1/classify", "/v1/classify/batch", "/v2/models/colours/infer")


def request(route: str, image: bytes, timeout_ms: int | None = None) -> httpx.Request:
    """A request whose body is there to be read; `timeout_ms`: how long it says that it can wait."""
    url, query = f"http://test{route}", {} if timeout_ms is None else {"timeout_ms": timeout_ms}
    if route == "/v1/classify":
        return httpx.Request("POST", url, params=query, content=image)
    if route == "/v1/classify/batch":
        form = httpx.Request("POST", url, params=query, files={"image": image})
        form.read()
        return form
    parameters = {} if timeout_ms is None else {"timeout": 1000 * timeout_ms}
    encoded = base64.b64encode(image).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
    content_type = {"parameters": {"content_type": "base64"}}
    return httpx.Request("POST", url, json={"inputs": [tensor | content_type], "parameters": parameters})
