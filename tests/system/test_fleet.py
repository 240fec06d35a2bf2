"""A node of the simulated fleet starts behind its network link, and its fault is visible."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.fleet.__main__ import INTERRUPTED, _load
from tests.fleet.link import Missing, need_programs
from tests.fleet.node import Node, give_bad_bundle, ready_node
from tests.fleet.proxy import Proxy
from tests.system.classifying import CAT
from tests.system.processes import DEADLINE_SECONDS, ROOT, WITH_SIGNALS, wait_for


@pytest.fixture
def _programs() -> None:
    try:
        need_programs()
    except Missing as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("_programs")
def test_a_node_answers_through_its_link_until_its_bundle_is_bad(tmp_path: Path) -> None:
    with ready_node(99, tmp_path / "node") as node:
        url = f"http://127.0.0.1:{node.proxy.port}/v1/classify"
        assert httpx.post(url, content=CAT, timeout=30).status_code == 200
        give_bad_bundle(node)
        with pytest.raises(httpx.TransportError):
            httpx.post(url, content=CAT, timeout=30)
        assert node.services[-1].wait() == 2
        assert "is not the file that the manifest names" in node.last_error
        assert node.statuses == {"200": 1}
    assert node.proxy.unanswered == 0


@pytest.mark.usefixtures("_programs")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_removes_the_network(number: signal.Signals) -> None:
    command = [*WITH_SIGNALS, sys.executable, "-m", "tests.fleet", "--loadtest", sys.executable]
    with subprocess.Popen(command, cwd=ROOT) as process:  # noqa: S603
        network = Path("/run/netns/edgewise1")
        wait_for(network.exists)
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == INTERRUPTED
    assert not network.exists()


def test_an_interrupted_run_ends_its_load_test(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        Proxy("127.0.0.1", 1).running() as proxy,
        _load(Path(sys.executable), Node([], proxy, tmp_path), tmp_path / "report") as load,
    ):
        raise KeyboardInterrupt
    assert load.returncode is not None
