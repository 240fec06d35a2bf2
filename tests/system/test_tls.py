"""HTTPS, with a self-signed certificate from openssl."""

import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from service.monitoring.certificate import NAME as CERTIFICATE_EXPIRY
from tests.api.running import photo, samples
from tests.certificates import Pair, make_pair, needs_openssl
from tests.system.connections import connected, read_all
from tests.system.processes import Service, one_line, run, serving, wait_for

pytestmark = needs_openssl

CLASSIFY = "/v1/classify"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(colours: Bundle, pair: Pair) -> Iterator[Service]:
    with serving(bundle=colours.path, **pair.settings) as service:
        yield service


def test_it_is_served_over_https(secure: Service, pair: Pair) -> None:
    assert secure.url.startswith("https://127.0.0.1:")
    with httpx.Client(base_url=secure.url, verify=pair.client_context(), timeout=60) as client:
        for _ in range(3):
            assert client.post(CLASSIFY, content=photo("red", "BMP", (600, 400))).status_code == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_sent_along_with_the_handshake_is_answered(
    secure: Service, pair: Pair, version: ssl.TLSVersion
) -> None:
    context = pair.client_context()
    context.minimum_version = context.maximum_version = version
    with (
        connected(secure.url) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_older_versions_of_tls_are_refused(secure: Service, pair: Pair) -> None:
    context = pair.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connected(secure.url) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_plain_http_and_garbage_cause_no_errors(colours: Bundle, pair: Pair) -> None:
    with serving(bundle=colours.path, **pair.settings) as service:
        for sent in (b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n", bytes(2000), b"\x16\x03\x01"):
            with connected(service.url) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                assert b"HTTP/" not in connection.recv(65536)
        assert httpx.get(f"{service.url}/livez", verify=pair.client_context(), timeout=60).status_code == 200
    assert {line["level"] for line in service.log} == {"info"}


def test_clients_that_never_finish_the_handshake_are_disconnected(colours: Bundle, pair: Pair) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with (
            serving(bundle=colours.path, max_connections=64, **pair.settings) as service,
            httpx.Client(base_url=service.url, verify=pair.client_context(), timeout=60) as client,
            ExitStack() as stack,
        ):
            assert client.get("/livez").status_code == 200
            before = descriptors(service)
            assert before < 64
            silent = [stack.enter_context(connected(service.url)) for _ in range(600)]
            # In addition to 64 connections, a quarter as many handshakes may be pending.
            for connection in silent[:-16]:
                assert connection.recv(1) == b""
            wait_for(lambda: descriptors(service) <= before + 16, 5)
            assert client.get("/livez").status_code == 200
            new = httpx.get(f"{service.url}/livez", verify=pair.client_context(), timeout=60)
            assert new.status_code == 200
            # uvicorn's own limit would be a minute.
            wait_for(lambda: descriptors(service) <= before + 1, 45)
        assert {line["level"] for line in service.log} == {"info"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def test_idle_connections_are_closed_at_once_for_new_ones(colours: Bundle, pair: Pair) -> None:
    with serving(bundle=colours.path, max_connections=8, **pair.settings) as service, ExitStack() as stack:
        before = descriptors(service)
        context = pair.client_context()
        for _ in range(40):
            plain = stack.enter_context(connected(service.url))
            stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        # One more may be in its handshake.
        wait_for(lambda: descriptors(service) <= before + 9, 45)
        assert httpx.get(f"{service.url}/livez", verify=context, timeout=60).status_code == 200


def test_open_connections_do_not_delay_the_stop(colours: Bundle, pair: Pair) -> None:
    # If it waited for them, it would do so for longer than the test waits.
    with serving(bundle=colours.path, drain_seconds=600, **pair.settings) as service, ExitStack() as stack:
        context = pair.client_context()
        plain = stack.enter_context(connected(service.url))
        stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        stack.enter_context(connected(service.url))
        service.process.terminate()
        assert service.wait() == 0


def test_a_renewed_certificate_is_served_without_a_restart(colours: Bundle, tmp_path: Path) -> None:
    first, second = make_pair(tmp_path / "first"), make_pair(tmp_path / "second", days=90)
    # As Kubernetes mounts a Secret: it replaces the link to the folder.
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "..data").symlink_to(first.certificate.parent)
    for file in ("cert.pem", "key.pem"):
        (mounted / file).symlink_to(Path("..data") / file)
    pair = Pair(mounted / "cert.pem", mounted / "key.pem")
    with serving(bundle=colours.path, **pair.settings) as service, ExitStack() as stack:
        limits = httpx.Limits(keepalive_expiry=60)
        connect = partial(httpx.Client, base_url=service.url, limits=limits, timeout=60)
        early = stack.enter_context(connect(verify=first.client_context()))
        assert days_left(early) == pytest.approx(2, abs=0.1)
        link = tmp_path / "..data"
        link.symlink_to(second.certificate.parent)
        link.rename(mounted / "..data")
        line = service.line("the new certificate is used")
        assert datetime.fromisoformat(line["expires"]) > datetime.now(UTC) + timedelta(days=89)
        late = stack.enter_context(connect(verify=second.client_context()))
        assert days_left(late) == pytest.approx(90, abs=0.1)
        with connect(verify=first.client_context()) as new, pytest.raises(httpx.ConnectError):
            new.get("/livez")
        # An existing connection stays open.
        assert early.get("/livez").status_code == 200
        second.key.write_bytes(first.key.read_bytes())
        line = service.line("the new certificate can't be used")
        assert line["level"] == "error"
        assert "(key values mismatch)" in line["reason"]
        with connect(verify=second.client_context()) as new:
            assert new.post(CLASSIFY, content=photo("red")).status_code == 200


def days_left(client: httpx.Client) -> float:
    return (samples(client)[CERTIFICATE_EXPIRY] - time.time()) / 86_400


def test_without_a_certificate_there_is_no_expiry_metric(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, service.client() as client:
        assert CERTIFICATE_EXPIRY not in samples(client)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_unusable_tls_files_stop_the_start_in_one_line(
    colours: Bundle, pair: Pair, tmp_path: Path, command: str
) -> None:
    settings = {**pair.settings, "tls_key_file": make_pair(tmp_path / "other").key}
    result = run(command, bundle=colours.path, port=0, **settings)
    assert result.returncode == 2
    assert "(key values mismatch)" in one_line(result.stderr)
