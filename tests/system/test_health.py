"""`python -m service.health` against real services."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.settings import Settings
from tests.certificates import make_pair, needs_openssl
from tests.system.processes import ROOT, one_line, run, serving, wait_for
from tests.system.prometheus import free_port


def check_health(**settings: object) -> subprocess.CompletedProcess[str]:
    return run(module="service.health", **settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104
def test_a_ready_service_is_healthy(colours: Bundle, host: str) -> None:
    with serving(bundle=colours.path, host=host) as service:
        result = check_health(bundle=colours.path, host=host, port=service.port)
    assert (result.returncode, result.stderr) == (0, "")


def test_it_checks_over_ipv6_too(colours: Bundle) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no address ::1")
    with serving(bundle=colours.path, host="::") as service:
        assert check_health(host="::", port=service.port).returncode == 0


@needs_openssl
def test_it_checks_over_tls_if_the_service_uses_it(colours: Bundle, tmp_path: Path) -> None:
    settings = make_pair(tmp_path / "tls").settings
    with serving(bundle=colours.path, **settings) as service:
        assert check_health(port=service.port, **settings).returncode == 0
        plain = check_health(port=service.port)
    assert plain.returncode == 1
    assert one_line(plain.stderr).startswith("no answer from /readyz on 127.0.0.1, port ")


def test_a_stopping_service_is_unhealthy(colours: Bundle) -> None:
    with serving(bundle=colours.path, drain_grace_seconds=60) as service:
        port = service.port
        service.signal(signal.SIGTERM)
        wait_for(lambda: check_health(port=port).returncode == 1)
        assert one_line(check_health(port=port).stderr) == "not ready: /readyz answered 503"
        service.signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("port", "message"),
    [(None, "Connection refused"), ("tcp://10.0.0.1:8000", "invalid literal for int()")],
)
def test_a_missing_answer_is_reported_in_one_line(port: str | None, message: str) -> None:
    result = check_health(port=port or free_port())
    assert result.returncode == 1
    assert message in one_line(result.stderr)


def test_it_imports_little_and_has_the_services_defaults() -> None:
    program = "import sys, service.health as it; print(it.DEFAULT_HOST, it.DEFAULT_PORT, *sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    host, port, *modules = result.stdout.split()
    assert (host, int(port)) == (Settings().host, Settings().port)
    assert {"numpy", "pydantic", "service.settings"} & set(modules) == set()


def test_ports_are_read_as_the_service_reads_them(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service:
        for port in (f" {service.port} ", f"+{service.port}", f"{service.port:_}"):
            result = check_health(port=port)
            assert (result.returncode, result.stderr) == (0, ""), port


@pytest.mark.parametrize("settings", [{"host": "a..b"}, {"port": 10**30}])
def test_an_impossible_address_is_reported_in_one_line(settings: dict[str, object]) -> None:
    result = check_health(**settings)
    assert result.returncode == 1
    assert one_line(result.stderr).startswith("no answer from /readyz on ")
