"""HTTP's rules for the head of a request."""

import httptools
import pytest

from service.errors import InvalidHttp
from service.server.rules import broken_rule, check_head


def breaks(version: str, *headers: tuple[bytes, bytes]) -> bool:
    try:
        check_head(version, headers)
    except InvalidHttp:
        return True
    return False


@pytest.mark.parametrize(
    "host",
    [b"", b"a", b"127.0.0.1:8000", b"edgewise.default.svc", b"a_b.local", b"[::1]", b"[fe80::1%25eth0]:80"],
)
def test_a_host_is_a_name_or_an_address(host: bytes) -> None:
    assert not breaks("1.1", (b"host", host), (b"accept", b"*/*"))


@pytest.mark.parametrize("host", [b"[", b"a b", b"a, b", b"a/b", b"user@a", b"a:b", b"a:1:2", b"\xe9"])
def test_anything_else_is_no_host(host: bytes) -> None:
    assert breaks("1.1", (b"host", host))
    assert breaks("1.0", (b"host", host))


def test_exactly_one_host_is_required_or_none_before_http_1_1() -> None:
    assert breaks("1.1")
    assert not breaks("1.0")
    for version in ("1.1", "1.0"):
        assert breaks(version, (b"host", b"a"), (b"host", b"a"))


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_other_http_versions_are_refused(version: str) -> None:
    assert breaks(version, (b"host", b"a"))


def test_http_2_is_refused_by_its_name() -> None:
    with pytest.raises(httptools.HttpParserError) as caught:
        httptools.HttpRequestParser(object()).feed_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert str(broken_rule(caught.value)) == "HTTP/2.0 is not supported; use HTTP/1.1"


def test_chunked_is_the_only_transfer_encoding() -> None:
    host = (b"host", b"a")
    for value in (b"chunked", b"Chunked"):
        assert not breaks("1.1", host, (b"transfer-encoding", value))
    assert breaks("1.1", host, (b"transfer-encoding", b"gzip, chunked"))
    assert breaks("1.1", host, (b"transfer-encoding", b"gzip"), (b"transfer-encoding", b"chunked"))


def test_transfer_encoding_is_refused_before_http_1_1() -> None:
    host = (b"host", b"a")
    for value in (b"chunked", b"gzip", b""):
        assert breaks("1.0", host, (b"transfer-encoding", value))
        assert breaks("1.0", (b"content-length", b"4"), (b"transfer-encoding", value))
    assert not breaks("1.0", host, (b"content-length", b"4"))
