"""The files, settings and commands that the documents name exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.arrivals import GRACE_SECONDS
from service.api.unread import KEEP_BYTES
from service.inference.shadow import IDLE_SECONDS
from service.renewed import RENEWAL_SECONDS
from service.server.handshake import HANDSHAKE_SECONDS
from service.server.protocol import (
    ANSWER_SECONDS,
    HEAD_SECONDS,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    MAX_UNTAKEN_BYTES,
    MAX_WAITING_HEADERS,
)
from service.server.run import KEEP_ALIVE_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_linked_files_exist(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them: lower case, hyphens for spaces, no punctuation."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_linked_headings_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text())
    assert [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in anchors(document.parent / target if target else document)
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_settings_exist(document: Path) -> None:
    known = {f"EDGEWISE_{field.upper()}" for field in Settings.model_fields}
    assert set(re.findall(r"\bEDGEWISE_[A-Z0-9_]+\b", document.read_text())) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_make_targets_exist(document: Path) -> None:
    existing = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z]+)|`make ([a-z]+)", document.read_text(), re.MULTILINE)
    assert {first or second for first, second in used} <= existing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_example_writes_a_secret_where_git_would_add_it(document: Path) -> None:
    text = document.read_text()
    commands = [line for line in re.findall("^.*openssl .*$", text, re.MULTILINE) if line[0] not in "#|"]
    written = {file for command in commands for file in re.findall(r"(?:> |-out )([^ )]+)", command)}
    assert {file for file in written if not file.startswith(("~/", "models/"))} == set()


@pytest.mark.parametrize("package", ["service", "build"])
def test_named_subcommands_exist(package: str) -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    subcommands = set(re.findall(rf'(?:-m {package}|make {package} ARGS=") *([a-z]+)', text))
    assert subcommands
    command = [sys.executable, "-m", package, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    assert subcommands <= set(re.findall(r"^ +([a-z]+)\b", result.stdout, re.MULTILINE))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is absent")
def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    command = ["make", "--no-print-directory", "help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    listed = {line.split()[1] for line in result.stdout.splitlines()}
    assert listed == {target for target in phony if not target.startswith(".")}


@pytest.mark.parametrize(
    ("document", "words", "constant", "value"),
    [
        ("http.md", "checks both every 10 seconds", RENEWAL_SECONDS, 10),
        ("settings.md", "has had no image for 10 ms", IDLE_SECONDS, 0.01),
        ("http.md", "An idle connection is closed after a minute", KEEP_ALIVE_SECONDS, 60),
        ("http.md", "can have 64 KiB together", MAX_HEAD_BYTES, 64 * 1024),
        ("http.md", "A request can have 128 headers", MAX_HEADERS, 128),
        ("http.md", "must arrive within 10 seconds, as must a TLS handshake", HEAD_SECONDS, 10),
        ("http.md", "must arrive within 10 seconds, as must a TLS handshake", HANDSHAKE_SECONDS, 10),
        ("http.md", "takes nothing of its answer for 20 seconds", ANSWER_SECONDS, 20),
        ("http.md", "if all clients together leave more than 32 MiB", MAX_UNTAKEN_BYTES, 32 * 1024 * 1024),
        ("http.md", "Clients can pipeline up to 32 requests", MAX_PIPELINED, 32),
        ("http.md", "32 requests, with 1024 headers together", MAX_WAITING_HEADERS, 1024),
        ("http.md", "If `Content-Length` announces 4 MiB or less", KEEP_BYTES, 4 * 1024 * 1024),
        ("settings.md", "minimum rate of a body after its first five seconds", GRACE_SECONDS, 5),
    ],
)
def test_limits_without_a_setting_are_those_of_the_code(
    document: str, words: str, constant: float, value: float
) -> None:
    assert words in " ".join((ROOT / "docs" / document).read_text().split())
    assert constant == value
