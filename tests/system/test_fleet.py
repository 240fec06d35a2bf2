"""A node of the fleet in miniature comes up behind its link, and a fault of it shows."""

from pathlib import Path

import httpx
import pytest

from tests.fleet.link import Missing, need_programs
from tests.fleet.node import give_bad_bundle, ready_node
from tests.system.processes import ROOT

PHOTO = (ROOT / "tests" / "data" / "cat.jpg").read_bytes()


def test_a_node_answers_through_its_link_until_its_bundle_is_bad(tmp_path: Path) -> None:
    try:
        need_programs()
    except Missing as error:
        pytest.skip(str(error))
    with ready_node(99, tmp_path / "node") as node:
        url = f"http://127.0.0.1:{node.proxy.port}/v1/classify"
        assert httpx.post(url, content=PHOTO, timeout=30).status_code == 200
        give_bad_bundle(node)
        with pytest.raises(httpx.TransportError):
            httpx.post(url, content=PHOTO, timeout=30)
        assert node.services[-1].wait() == 2
        assert "is not the file that the manifest names" in node.last_words
        assert node.statuses == {"200": 1}
    assert node.proxy.unanswered == 0
