"""What a load test makes of answers that no service of the project gives."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.loadtest.loads import LENIENT, SECONDS, load, loading, told


class Cutting(BaseHTTPRequestHandler):
    """Answers that name all classes come whole, and all others cut short."""

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


class Confused(Cutting):
    """Names its variant by what no name is."""

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        super().answer({**document, "variant": []} if "variant" in document else document)


class Forgetful(Cutting):
    """Refuses each truth once, and then tells it that its answer is unknown."""

    asked = 0

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        if self.path == "/v1/feedback":
            type(self).asked += 1
            status = 404 if self.asked % 2 == 0 else 429
        super().answer(document, 0, status)


class Full(Cutting):
    """Refuses a photo until it is given up, after three times, and says nothing to the next one."""

    refused = 0
    asked_again = threading.Event()

    def answer(self, document: dict[str, Any], missing: int = 0, status: int = 200) -> None:
        if missing and self.refused == 3:
            self.asked_again.set()
            return
        type(self).refused += bool(missing)
        super().answer(document, 0, 429 if missing else status)


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server whose answers are the handler's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_a_truth_that_is_refused_is_told_again_and_one_that_is_not_taken_is_an_error(
    photos: Path, tmp_path: Path
) -> None:
    with answering(Forgetful) as host:
        given = ("--photos", photos, "--passes", "1", "Inspector", "--users", "1", *LENIENT)
        result = load("--host", host, *given, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    report = told(tmp_path)
    assert report["errors"] == {"/v1/feedback: 404": 7}
    counts = report["counts"]
    assert (counts["requests"], counts["answered"], counts["refused"], counts["truths"]) == (21, 7, 7, 0)
    assert report["error_ratio"] == pytest.approx(7 / 21)


def test_an_answer_that_is_cut_short_is_an_error(photos: Path, tmp_path: Path) -> None:
    with answering(Cutting) as host:
        result = load("--host", host, "--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    assert told(tmp_path)["errors"] == {"200 without classes": 7}
    assert "Traceback" not in result.stderr


def test_what_nobody_foresaw_is_an_error_and_ends_a_test_of_passes(photos: Path, tmp_path: Path) -> None:
    with answering(Confused) as host:
        given = ("--photos", photos, "--passes", "1", "App", "--users", "1", *LENIENT)
        result = load("--host", host, *given, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    assert told(tmp_path)["errors"] == {"unexpected TypeError": 1}


def test_photos_that_were_given_up_are_in_the_table(photos: Path, tmp_path: Path) -> None:
    with answering(Full) as host:
        given = ("--photos", photos, "App", "--users", "1", "--run-time", "10m", *LENIENT)
        with loading("--host", host, *given, "--report", tmp_path) as process:
            assert Full.asked_again.wait(SECONDS)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert told(tmp_path)["counts"]["given_up"] == 1
    assert "| dropped | given up |\n" in output
    assert "| 0 | 1 |\n" in output
