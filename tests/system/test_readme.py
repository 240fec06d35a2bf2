"""The README's curl commands work as pasted, against a server started as it says."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.processes import ROOT, serving

CURLS = re.findall(r"^curl .*$|(?<=`)curl [^`]*", (ROOT / "README.md").read_text(), re.MULTILINE)
FEEDBACK = [command for command in CURLS if "/v1/feedback" in command]
CLASSIFY = [command for command in CURLS if command not in FEEDBACK]
# WordNet's tabby, tiger cat and Egyptian cat.
CATS = {"n02123045", "n02123159", "n02124075"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as service:
        yield service.url
    assert service.process.returncode == 0


def test_the_readme_has_curls() -> None:
    assert len(CLASSIFY) == 2
    assert len(FEEDBACK) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
@pytest.mark.parametrize("command", CLASSIFY)
def test_a_curl_works_as_pasted(url: str, command: str) -> None:
    assert answer(url, command)["predictions"][0]["class_id"] in CATS


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
@pytest.mark.parametrize("command", FEEDBACK)
def test_feedback_works_with_the_id_of_an_answer(url: str, command: str) -> None:
    classified = answer(url, CLASSIFY[0])
    feedback = answer(url, re.sub(r'"id": "[^"]*"', f'"id": "{classified["id"]}"', command))
    assert feedback == {"id": classified["id"], "variant": "qat", "label": 281, "top1": False, "top5": True}


def answer(url: str, command: str) -> dict[str, Any]:
    words = shlex.split(command.replace("http://127.0.0.1:8000", url))
    result = subprocess.run([*words, "-sS"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    document: dict[str, Any] = json.loads(result.stdout)
    return document
