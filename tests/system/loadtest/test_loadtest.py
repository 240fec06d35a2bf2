"""`python -m loadtest` against a real service; how fast anything is is not asserted here."""

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.bundle.folder import Bundle
from tests.certificates import OPENSSL, made
from tests.system.loadtest.loads import (
    LENIENT,
    SECONDS,
    answered,
    load,
    loading,
    told,
    write_photos,
)
from tests.system.processes import ROOT, Service, serving, wait_for


def test_without_a_host_it_serves_and_loads_the_default(tmp_path: Path) -> None:
    python = ("--python", sys.executable)
    result = load("--run-time", "4s", *python, *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| answers/s | p50 ms | p99 ms |" in result.stdout
    assert "late: " in result.stdout
    report = told(tmp_path)
    assert report["interrupted"] is False
    assert report["errors"] == {}
    assert report["settings"]["users"] == 8
    assert report["counts"]["answered"] > 10
    assert report["accuracy"]["qat"]["photos"] == 3
    assert report["accuracy"]["qat"]["top5"]["ratio"] == 1
    assert {"report.md", "report.html", "latency.png"} <= {path.name for path in tmp_path.iterdir()}


def test_every_photo_is_counted_once_and_so_by_the_service(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    before = answered(service.url)
    result = load("--host", service.url, "--photos", photos, "--passes", "2", *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    (measured,) = told(tmp_path)["accuracy"].values()
    assert (measured["answers"], measured["photos"], measured["correct"]) == (14, 7, 12)
    # And the one that was asked for the classes.
    assert answered(service.url) - before == 15
    (window,) = told(tmp_path)["window_accuracy"].values()
    assert window["labelled"] >= 14
    assert f"/{photos.name}" not in result.stderr


def test_the_truth_is_told_later(service: Service, photos: Path, tmp_path: Path) -> None:
    given = ("--photos", photos, "--passes", "1", "Inspector", "--users", "4")
    result = load("--host", service.url, *given, *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert told(tmp_path)["counts"]["truths"] == 7


@pytest.mark.parametrize(("name", "status"), [("0.png", 2), ("z.png", 1)])
def test_a_photo_that_cant_be_read_is_told(service: Service, tmp_path: Path, name: str, status: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    # A file that not even root can read.
    (write_photos(photos) / "c01" / name).symlink_to("/proc/self/mem")
    report = tmp_path / "report"
    given = ("Camera", "--photos", photos, "--passes", "1", *LENIENT, "--report", report)
    result = load("--host", service.url, *given)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    if status == 2:
        assert result.stderr == f"edgewise: {photos}/c01/{name} can't be read: Input/output error\n"
    else:
        assert told(report)["errors"] == {"a photo can't be read: Input/output error": 1}
        assert told(report)["error_ratio"] == pytest.approx(1 / 8)


def test_a_slash_behind_the_host_changes_nothing(service: Service, photos: Path, tmp_path: Path) -> None:
    given = ("--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
    result = load("--host", f"{service.url}/", *given)
    assert result.returncode == 0, result.stderr
    assert told(tmp_path)["counts"]["answered"] == 7


def test_goals_that_cant_be_held_are_named(service: Service, photos: Path, tmp_path: Path) -> None:
    given = ("--photos", photos, "--passes", "1", *LENIENT, "--slo-p99", "0.01", "--slo-top1", "0.99")
    result = load("--host", service.url, *given, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    failed = [line for line in result.stderr.splitlines() if line.startswith("edgewise: ")]
    assert len(failed) == 2
    assert re.fullmatch("edgewise: p99: .* ms, the goal is at most 0.01 ms: FAILED", failed[0])
    assert failed[1] == "edgewise: top1: 85.71 %, the goal is at least 99 %: FAILED"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--photos", "/nowhere"], "/nowhere can't be read: No such file or directory"),
        (["--host", "http://127.0.0.1:9"], "does not answer .* is the service running there"),
        (["--host", "http://[::1"], r"the host is 'http://\[::1', but it should be a URL"),
        (["--host", "http://board:port"], "the host is 'http://board:port', but it should be a URL"),
        (["--host", "board"], "the host is 'board', but it should be a URL"),
        (["--passes", "1", "--processes", "2"], "--passes is for one process"),
        (["--users", "-3"], "--users is -3, but it should be 1 or more"),
        (["--users", "0"], "--users is 0, but it should be 1 or more"),
        (["--run-time", "0s"], "--run-time is 0, but it should be 1 or more"),
        (["--report", "README.md"], "the report can't be written to README.md: File exists"),
        (["--report", "/proc"], "the report can't be written to /proc: .*"),
    ],
)
def test_what_keeps_it_from_beginning_is_one_line(
    service: Service, tmp_path: Path, arguments: list[str], line: str
) -> None:
    result = load("--host", service.url, "--report", tmp_path, *arguments)
    assert result.returncode == 2
    assert re.fullmatch(f"edgewise: .*{line}.*\n", result.stderr)


def test_a_key_that_is_needed_is_asked_for_by_the_option_that_names_it(
    photos: Path, colours: Bundle, tmp_path: Path
) -> None:
    keys, key = tmp_path / "keys", tmp_path / "key"
    keys.write_text("a-secret-key-0123456 camera\n")
    key.write_text("a-secret-key-0123456\n")
    with serving(bundle=colours.path, api_keys_file=keys) as service:
        given = ("--host", service.url, "--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
        without, keyed = load(*given), load(*given, "--api-key-file", key)
    assert without.returncode == 2
    assert re.fullmatch("edgewise: .* answers 401: .* name it with --api-key-file .*\n", without.stderr)
    assert keyed.returncode == 0, keyed.stderr
    assert told(tmp_path)["errors"] == {}


def test_a_place_for_reports_that_cant_be_written_to_is_told_before_the_test(
    service: Service, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Where no folder is named, it is one below the working directory.
    with loading("--host", service.url, "--photos", photos, folder=Path("/proc")) as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert re.fullmatch("edgewise: the report can't be written to runs: .*\n", errors)


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


@pytest.mark.parametrize("client", ["App", "Inspector"])
def test_a_service_that_hangs_to_the_end_fails_a_goal_without_cameras(
    photos: Path, colours: Bundle, tmp_path: Path, client: str
) -> None:
    with serving(bundle=colours.path) as service:
        given = (client, "--users", "8", "--run-time", "10s", "--slo-p50", "20000", "--slo-p99", "1000")
        with loading("--host", service.url, "--photos", photos, *given, "--report", tmp_path) as process:
            # More than the one that was asked for the classes: its users send.
            wait_for(lambda: answered(service.url) > 8)
            service.signal(signal.SIGSTOP)
            try:
                output, errors = process.communicate(timeout=SECONDS)
            finally:
                service.signal(signal.SIGCONT)
    assert process.returncode == 1, errors
    ((error, number),) = told(tmp_path)["errors"].items()
    assert error == "no answer when the test ended, after more than 4 s"
    assert 1 <= number <= 8
    assert re.search("^edgewise: errors: .*FAILED$", errors, re.MULTILINE)
    assert "- late: not judged: no camera sent a frame\n" in output
    assert "given up" not in output


def test_a_service_that_goes_away_is_told(photos: Path, colours: Bundle, tmp_path: Path) -> None:
    with serving(bundle=colours.path) as service:
        given = (
            "Camera",
            "--users",
            "4",
            "--fps",
            "10",
            "--run-time",
            "6s",
            *LENIENT[:4],
            "--slo-late",
            "0.1",
        )
        with loading("--host", service.url, "--photos", photos, *given, "--report", tmp_path) as process:
            before = answered(service.url)
            wait_for(lambda: answered(service.url) > before + 10)
            service.process.kill()
            _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    report = told(tmp_path)
    assert report["errors"].keys() <= {
        "ConnectionRefusedError",
        "ConnectionResetError",
        "HTTPConnectionClosed",
    }
    failed = sum(report["errors"].values())
    # A frame that has no answer is late.
    assert report["counts"]["late"] >= failed > 10
    assert "edgewise: late: " in errors


def test_overload_is_no_error_and_cameras_back_off(photos: Path, colours: Bundle, tmp_path: Path) -> None:
    # A queue of one, and far more at once than one worker takes.
    with serving(bundle=colours.path, workers=1, queue_size=1) as service:
        result = load(
            *("--host", service.url, "--photos", photos, "Camera", "--users", "40", "--fps", "40"),
            *("--run-time", "4s", *LENIENT, "--report", tmp_path),
        )
    report = told(tmp_path)
    counts = report["counts"]
    assert result.returncode == 0, result.stderr
    assert report["errors"] == {}
    assert counts["refused"] == counts["frames_refused"] > 0
    # Retry-After is a second at the least, in which a camera has 40 frames.
    assert counts["dropped"] > 10 * counts["refused"]
    assert counts["frames"] >= counts["answered"] + counts["refused"] + counts["dropped"]
    assert report["late_ratio"] > 0.5


@pytest.mark.parametrize(
    ("number", "processes"),
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGINT, ["--processes", "2"])],
)
def test_an_interrupted_test_leaves_its_report(
    service: Service, photos: Path, tmp_path: Path, number: signal.Signals, processes: list[str]
) -> None:
    before = answered(service.url)
    given = ("--photos", photos, "--run-time", "10m", *processes, *LENIENT)
    with loading("--host", service.url, *given, "--report", tmp_path) as process:
        wait_for(lambda: answered(service.url) >= before + 30)
        process.send_signal(number)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted" in output
    assert told(tmp_path)["interrupted"] is True
    assert told(tmp_path)["counts"]["answered"] >= 15


@pytest.mark.skipif(not OPENSSL, reason="openssl is absent")
def test_no_certificate_is_taken_but_the_named_one(
    colours: Bundle, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = made(tmp_path / "tls")
    with serving(bundle=colours.path, **pair.settings) as service:
        given = (
            "--host",
            service.url,
            "--photos",
            photos,
            "--passes",
            "1",
            *LENIENT,
            "--report",
            tmp_path / "r",
        )
        result = load(*given)
        assert result.returncode == 2, result.stderr
        assert re.fullmatch("edgewise: the certificate of .* set SSL_CERT_FILE to .*\n", result.stderr)

        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        result = load(*given)
        assert result.returncode == 0, result.stderr
        assert told(tmp_path / "r")["counts"]["answered"] == 7


def test_what_locust_does_not_take_is_no_goal_that_was_missed(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    # As an earlier test may have left it.
    (tmp_path / "report.json").write_text("{}")
    result = load("--host", service.url, "--photos", photos, "Nobody", "--report", tmp_path)
    assert result.returncode == 2, result.stderr
