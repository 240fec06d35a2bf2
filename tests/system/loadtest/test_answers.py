"""How a load test handles answers that the project's service never gives."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.loadtest.loads import LENIENT, SECONDS, load, loading, read_report


class Truncating(BaseHTTPRequestHandler):
    """Truncates every answer except the one to the request for all classes."""

    def do_GET(self) -> None:
        self.answer({"bundle": "colours", "active": "fp32", "variants": [], "outputs": [{"shape": [-1, 5]}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        classes = [{"index": i, "class_id": f"c{i:02}", "label": str(i)} for i in range(5)]
        answer = {"id": "a", "variant": "fp32", "predictions": classes}
        self.answer(answer, missing=0 if "top_k" in self.path else 20)

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - missing])


class WrongType(Truncating):
    """Sends a variant that is not a string."""

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        super().answer({**document, "variant": []} if "variant" in document else document)


class Forgetful(Truncating):
    """Refuses each piece of feedback with 429, and its repetition with 404: the answer's id is unknown."""

    requests = 0

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        if self.path == "/v1/feedback":
            type(self).requests += 1
            status = 404 if self.requests % 2 == 0 else 429
        super().answer(document, 0, status)


class Full(Truncating):
    """Refuses a photo three times, after which the client gives it up, and never answers the next one."""

    refused = 0
    next_photo_sent = threading.Event()

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        if missing and self.refused == 3:
            self.next_photo_sent.set()
            return
        type(self).refused += bool(missing)
        super().answer(document, 0, 429 if missing else status)


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Yield the URL of a server with this request handler."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_refused_feedback_is_sent_again_and_an_unknown_id_is_an_error(photos: Path, tmp_path: Path) -> None:
    with answering(Forgetful) as host:
        args = ("--photos", photos, "--passes", "1", "Inspector", "--users", "1", *LENIENT)
        result = load("--host", host, *args, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    report = read_report(tmp_path)
    assert report["errors"] == {"/v1/feedback: 404": 7}
    counts = report["counts"]
    assert (counts["requests"], counts["answered"], counts["refused"], counts["truths"]) == (21, 7, 7, 0)
    assert report["error_ratio"] == pytest.approx(7 / 21)


def test_a_truncated_answer_is_an_error(photos: Path, tmp_path: Path) -> None:
    with answering(Truncating) as host:
        result = load("--host", host, "--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    assert read_report(tmp_path)["errors"] == {"200 without classes": 7}
    assert "Traceback" not in result.stderr


def test_an_unexpected_exception_is_an_error_and_ends_the_passes(photos: Path, tmp_path: Path) -> None:
    with answering(WrongType) as host:
        args = ("--photos", photos, "--passes", "1", "App", "--users", "1", *LENIENT)
        result = load("--host", host, *args, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    assert read_report(tmp_path)["errors"] == {"unexpected TypeError": 1}


def test_photos_that_were_given_up_are_in_the_table(photos: Path, tmp_path: Path) -> None:
    with answering(Full) as host:
        args = ("--photos", photos, "App", "--users", "1", "--run-time", "10m", *LENIENT)
        with loading("--host", host, *args, "--report", tmp_path) as process:
            assert Full.next_photo_sent.wait(SECONDS)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert read_report(tmp_path)["counts"]["given_up"] == 1
    assert "| dropped | given up |\n" in output
    assert "| 0 | 1 |\n" in output
