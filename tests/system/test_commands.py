import signal
import subprocess
import sys

from service.bundle import Bundle
from tests.system.processes import ROOT, environment


def test_a_long_command_can_be_interrupted(colours: Bundle) -> None:
    command = [sys.executable, "-m", "service", "benchmark", "--variants", "ptq", "--runs", "100000000"]
    with subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, env=environment(bundle=colours.path), stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        shown = b""
        while b"round/s" not in shown:
            more = process.stderr.read(1)
            assert more, shown
            shown += more
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in rest
