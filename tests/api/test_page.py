import re
from collections.abc import Iterator

import httpx
import pytest

from service.api.page import FOLDER, MEDIA_TYPES
from tests.api.running import samples

ADDRESSES = {"index.html": "/", "docs.html": "/docs"}
FILES = {path.name: ADDRESSES.get(path.name, f"/page/{path.name}") for path in FOLDER.iterdir()}
SWAGGER_UI = ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"]
REFERENCE = re.compile(r"""(?:src|href)="([^"]+)"|from "\./([^"]+)"|url\(([^)]+)\)""")

each_file = pytest.mark.parametrize("name", sorted(FILES))


def referenced(client: httpx.Client, address: str) -> Iterator[str]:
    """The addresses that a page, its scripts and its style sheets refer to."""
    response = client.get(address)
    assert response.status_code == 200, address
    if "swagger" in address:
        return
    for groups in REFERENCE.findall(response.text):
        yield str(response.url.join(next(filter(None, groups))).path)


def policy(response: httpx.Response) -> dict[str, str]:
    directives = response.headers["content-security-policy"].split("; ")
    return dict(directive.split(" ", 1) for directive in directives)


@each_file
def test_a_file_has_its_media_type_and_security_headers(client: httpx.Client, name: str) -> None:
    response = client.get(FILES[name])
    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["content-type"] == MEDIA_TYPES[(FOLDER / name).suffix]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


@each_file
def test_the_policy_allows_only_this_service(client: httpx.Client, name: str) -> None:
    directives = policy(client.get(FILES[name]))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["connect-src"] == "'self'"
    for directive in ("base-uri", "form-action", "frame-ancestors"):
        assert directives[directive] == "'none'"
    # Swagger UI writes inline styles.
    assert directives["style-src"] == ("'self' 'unsafe-inline'" if name == "docs.html" else "'self'")


@pytest.mark.parametrize("address", [*FILES.values(), *SWAGGER_UI])
def test_an_unchanged_file_is_answered_with_304(client: httpx.Client, address: str) -> None:
    first = client.get(address)
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f"W/{first.headers['etag']}", f'"other", {first.headers["etag"]}'):
        again = client.get(address, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("address", [*FILES.values(), *SWAGGER_UI])
def test_head_has_the_headers_and_no_body(client: httpx.Client, address: str) -> None:
    head, get = client.head(address), client.get(address)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("start", ["/", "/docs"])
def test_everything_that_a_page_refers_to_is_served(client: httpx.Client, start: str) -> None:
    seen: set[str] = set()
    unvisited = {start}
    while unvisited:
        address = unvisited.pop()
        seen.add(address)
        unvisited |= set(referenced(client, address)) - seen
    expected = {"/": {"/page/page.js", "/page/page.css", "/page/favicon.svg"}, "/docs": set(SWAGGER_UI)}
    assert expected[start] <= seen


@each_file
def test_no_file_names_another_host(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"\w+://|[\"'(]//", text) == []


@each_file
def test_no_file_has_scripts_or_styles_inline(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8")
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)|innerHTML", text) == []


def test_openapi_leaves_the_page_out(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/classify" in paths
    assert [path for path in paths if path in FILES.values() or path.startswith(("/docs", "/page"))] == []


def test_the_page_is_counted_under_its_own_routes(client: httpx.Client) -> None:
    def count(route: str) -> float:
        return samples(client).get(f'edgewise_requests_total{{route="{route}",status="200",variant=""}}', 0)

    before = count("/"), count("/docs/swagger-ui.css")
    client.get("/")
    client.get("/docs/swagger-ui.css")
    assert (count("/"), count("/docs/swagger-ui.css")) == (before[0] + 1, before[1] + 1)
