"""The log when nobody reads it, and what it contains."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo, samples
from tests.system.connections import exchange
from tests.system.processes import DEADLINE_SECONDS, ROOT, environment, serving, serving_unread
from tests.system.prometheus import free_port

CLASSIFY = "/v1/classify"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def stops_cleanly(process: subprocess.Popen[bytes]) -> bool:
    process.terminate()
    status = process.wait(DEADLINE_SECONDS)
    assert process.stderr is not None
    return status == 0 and b"Error" not in process.stderr.read()


def read_more(log: IO[bytes]) -> bytes:
    """Read what comes next in a log; fail if nothing does."""
    assert select.select([log], [], [], 60)[0]
    return os.read(log.fileno(), 65536)


def dropped_lines(client: httpx.Client) -> float:
    return samples(client)["edgewise_log_lines_dropped_total"]


def test_a_closed_log_pipe_does_not_stop_the_service(colours: Bundle) -> None:
    with (
        serving_unread(bundle=colours.path) as (process, log, url),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        log.close()
        for _ in range(5):
            assert client.post(CLASSIFY, content=photo("red")).status_code == 200
        assert dropped_lines(client) >= 5
        assert stops_cleanly(process)


def test_a_full_log_pipe_stops_nothing_and_can_be_read_again(colours: Bundle) -> None:
    with (
        serving_unread(bundle=colours.path) as (process, log, url),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        path = "/" + "x" * 400
        # A pipe buffers 64 KiB, and the service itself half a megabyte.
        for _ in range(1000):
            assert client.get(path).status_code == 404
        assert dropped_lines(client) > 0
        content = b""
        while len(content) <= 512 * 1024:
            content += read_more(log)
        client.get("/v1/variants")
        while b"GET /v1/variants 200" not in content or not content.endswith(b"\n"):
            content += read_more(log)
        assert all(json.loads(line) for line in content.splitlines())
        assert stops_cleanly(process)


def test_it_serves_with_all_standard_streams_closed(colours: Bundle) -> None:
    port = free_port()
    command = f"exec {sys.executable} -m service >&- 2>&- <&-"
    with subprocess.Popen(  # noqa: S602
        command, shell=True, cwd=ROOT, env=environment(bundle=colours.path, port=port)
    ) as process:
        try:
            transport = httpx.HTTPTransport(retries=8)
            with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                for _ in range(3):
                    assert client.post(CLASSIFY, content=photo("red")).status_code == 200
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()


def test_invalid_http_is_logged_and_counted(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, service.client() as client:
        exchange(service.url, b"\x16\x03\x01 no HTTP\r\n\r\n")
        exchange(service.url, b"GET /v1/variants?token=secret HTTP/1.1\r\n\r\n")
        exchange(service.url, b"CONNECT secret:80 HTTP/1.1\r\nHost: secret\r\n\r\n")
        metrics = samples(client)
        service.signal(signal.SIGTERM)
        service.wait()
    lines = [line for line in service.log if line["message"] == "Invalid HTTP request received."]
    assert {(line["level"], line["logger"], line["client"]) for line in lines} == {
        ("warning", "edgewise", "127.0.0.1")
    }
    assert [line["reason"] for line in lines] == [
        "Invalid method encountered",
        "a request must have one Host header; this one has none",
        "the request's target is not a URL",
    ]
    assert metrics['edgewise_rejected_total{reason="invalid_http"}'] == 3
    assert "secret" not in json.dumps(service.log)


def test_invalid_http_is_not_logged_if_requests_are_not(colours: Bundle) -> None:
    with serving(bundle=colours.path, log_requests="none") as service, service.client() as client:
        exchange(service.url, b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert samples(client)['edgewise_rejected_total{reason="invalid_http"}'] == 1
    assert [line["message"].partition(":")[0] for line in service.log] == ["ready", "stopping"]


def test_every_field_of_a_request_line_is_documented(colours: Bundle, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-secret-key-0123456 camera\n")
    expected = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/logs.md").read_text(), re.MULTILINE))
    with serving(bundle=colours.path, api_keys_file=keys) as service, service.client() as client:
        headers = {"X-API-Key": "a-secret-key-0123456", "X-Request-ID": "mine", "traceparent": TRACE}
        client.post(f"{CLASSIFY}?top_k=1", content=photo("red"), headers=headers)
        client.post(CLASSIFY, content=b"no image", headers=headers)
        client.get("/v1/variants")
        service.wait_for_lines(3)
    lines = [line for line in service.log if line["logger"] == "edgewise.access"]
    assert {name for line in lines for name in line} == set(expected)
    for line in lines:
        assert set(expected) - set(line) <= {"request_id", "trace_id", "span_id"}
    assert lines[0]["bytes_in"] == len(photo("red"))
    assert set(lines[0]["timing_ms"]) == {"read", "queue", "decode", "inference", "total"}
    types = {"text": str, "number": (int, float), "object": dict}
    for name, type_ in expected.items():
        values = [line[name] for line in lines if line.get(name) is not None]
        assert values
        assert all(isinstance(value, types[type_]) for value in values)
    whole = json.dumps(service.log)
    assert "secret" not in whole
    assert "top_k" not in whole


@pytest.mark.parametrize("format_", ["json", "text"])
def test_the_log_contains_no_secret(colours: Bundle, tmp_path: Path, format_: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-secret-key-0123456\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environment(bundle=colours.path, port=0, api_keys_file=keys, log_format=format_),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        while "ready" not in first:
            first = process.stdout.readline()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", first)[:1]
        for key in ("a-secret-key-0123456", "another-secret-value"):
            for path in ("/v1/variants?token=secret", "/v1/variants"):
                httpx.get(url + path, headers={"Authorization": f"Bearer {key}"}, timeout=60)
        process.terminate()
        assert "secret" not in first + process.stdout.read()
