import os
import re
import subprocess
import sys

import pytest

from service.bundle.folder import Bundle
from tests.full import needs_full
from tests.system.processes import ROOT, environment, interrupted, run


def test_a_long_command_can_be_interrupted(colours: Bundle) -> None:
    command = [sys.executable, "-m", "service", "benchmark", "--variants", "ptq", "--runs", "100000000"]
    status, rest = interrupted(command, b"round/s", bundle=colours.path)
    assert status == 130
    assert b"Traceback" not in rest


def test_slow_imports_come_after_interrupts_are_handled() -> None:
    code = "import sys, service.__main__; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"asyncio", "ssl", "pydantic", "numpy"} & set(result.stdout.split()) == set()


def check(
    bundle: Bundle, redirection: str = "", output: int | None = None
) -> "subprocess.CompletedProcess[bytes]":
    command = f'exec "$0" -m service check {redirection}'
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", command, sys.executable],
        cwd=ROOT,
        env={**os.environ, "EDGEWISE_BUNDLE": str(bundle.path)},
        stdout=output,
        stderr=subprocess.PIPE,
        check=False,
    )


@needs_full
def test_a_full_output_device_is_an_error(colours: Bundle) -> None:
    result = check(colours, ">/dev/full")
    assert result.returncode == 2
    assert result.stderr.endswith(b"edgewise: standard output can't be written: No space left on device\n")
    assert b"Traceback" not in result.stderr


def test_a_closed_standard_output_is_not_an_error(colours: Bundle) -> None:
    result = check(colours, ">&-")
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr


def test_a_broken_output_pipe_is_an_error(colours: Bundle) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = check(colours, output=writer)
    os.close(writer)
    assert result.returncode == 2
    assert result.stderr.endswith(b"edgewise: standard output can't be written: Broken pipe\n")
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("errors", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
@pytest.mark.parametrize(
    ("command", "variant", "status"),
    [
        ("benchmark --variants ptq --runs 20", "ptq", 0),
        ("check", "nope", 2),
        ("nope", "ptq", 2),
    ],
)
def test_an_unwritable_standard_error_changes_nothing(
    errors: str, command: str, variant: str, status: int, colours: Bundle
) -> None:
    result = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'exec "$0" -m service {command} {errors}', sys.executable],
        cwd=ROOT,
        env=environment(bundle=colours.path, variant=variant),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status
    assert ("\nptq " in result.stdout) is (status == 0)


def test_results_are_escaped_on_an_ascii_terminal(colours: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run("profile", "--variants", "ptq", "--runs", "1", bundle=colours.path)
    assert result.returncode == 0, result.stderr
    assert re.search(r" 1\\xd7\d+\\xd7\d+\\xd73 ", result.stdout)


def test_a_missing_package_is_named() -> None:
    # Without site-packages, like a Python without the requirements.
    result = subprocess.run(
        [sys.executable, "-S", "-m", "service"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert re.fullmatch(
        r"edgewise: \w+ is missing; run it with `make serve` or \.venv-serve/bin/python\n", result.stderr
    )
