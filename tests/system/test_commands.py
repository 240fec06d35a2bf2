import sys

from service.bundle.folder import Bundle
from tests.system.processes import interrupted


def test_a_long_command_can_be_interrupted(colours: Bundle) -> None:
    command = [sys.executable, "-m", "service", "benchmark", "--variants", "ptq", "--runs", "100000000"]
    status, rest = interrupted(command, b"round/s", bundle=colours.path)
    assert status == 130
    assert b"Traceback" not in rest
