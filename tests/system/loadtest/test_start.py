"""Errors that keep a load test from starting, and their messages."""

import re
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.certificates import make_pair, needs_openssl
from tests.system.loadtest.loads import LENIENT, SECONDS, load, loading, read_report
from tests.system.processes import ROOT, Service, serving


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--photos", "/nowhere"], "/nowhere can't be read: No such file or directory"),
        # It was not asked about a photo yet.
        (["--host", "http://127.0.0.1:9"], r"does not answer .* is the service running there\?$"),
        (["--variant", "no"], r"the bundle has no variant 'no'.* \(asked about .*cat.jpg\)$"),
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
def test_an_error_at_the_start_is_one_line(
    service: Service, tmp_path: Path, arguments: list[str], line: str
) -> None:
    result = load("--host", service.url, "--report", tmp_path, *arguments)
    assert result.returncode == 2
    assert re.fullmatch(f"edgewise: .*{line}.*\n", result.stderr)


def test_a_missing_api_key_is_reported_with_the_option_for_it(
    photos: Path, colours: Bundle, tmp_path: Path
) -> None:
    keys, key = tmp_path / "keys", tmp_path / "key"
    keys.write_text("a-secret-key-0123456 camera\n")
    key.write_text("a-secret-key-0123456\n")
    with serving(bundle=colours.path, api_keys_file=keys) as service:
        args = ("--host", service.url, "--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
        without, keyed = load(*args), load(*args, "--api-key-file", key)
    assert without.returncode == 2
    assert re.fullmatch("edgewise: .* answers 401: .* name it with --api-key-file\n", without.stderr)
    assert keyed.returncode == 0, keyed.stderr
    assert read_report(tmp_path)["errors"] == {}


def test_an_unwritable_report_folder_is_reported_before_the_test(
    service: Service, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The default report folder is in the working directory.
    with loading("--host", service.url, "--photos", photos, folder=Path("/proc")) as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert re.fullmatch("edgewise: the report can't be written to runs: .*\n", errors)


@needs_openssl
def test_a_self_signed_certificate_is_accepted_only_if_named(
    colours: Bundle, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path / "tls")
    with serving(bundle=colours.path, **pair.settings) as service:
        args = (
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
        result = load(*args)
        assert result.returncode == 2, result.stderr
        assert re.fullmatch("edgewise: the certificate of .* set SSL_CERT_FILE to .*\n", result.stderr)

        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        result = load(*args)
        assert result.returncode == 0, result.stderr
        assert read_report(tmp_path / "r")["counts"]["answered"] == 7


def test_an_argument_that_locust_refuses_is_not_a_missed_goal(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    # An earlier test may have left a report.
    (tmp_path / "report.json").write_text("{}")
    result = load("--host", service.url, "--photos", photos, "Nobody", "--report", tmp_path)
    assert result.returncode == 2, result.stderr
