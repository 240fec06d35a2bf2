import errno
import socket

import pytest
import zmq

from loadtest.locusts import LOOPBACK, meeting_place


def test_the_port_of_a_test_is_for_nobody_but_its_master() -> None:
    with meeting_place(["--processes=2"]) as options, zmq.Context() as context:
        port = int(options[options.index("--master-bind-port") + 1])
        with socket.socket() as other, pytest.raises(OSError, match="in use") as refused:
            other.bind((LOOPBACK, port))
        assert refused.value.errno == errno.EADDRINUSE
        # As Locust binds it.
        with context.socket(zmq.ROUTER) as master, context.socket(zmq.DEALER) as worker:
            master.bind(f"tcp://{LOOPBACK}:{port}")
            worker.connect(f"tcp://{LOOPBACK}:{port}")
            worker.send(b"ready")
            assert master.recv_multipart()[1] == b"ready"


def test_a_test_of_one_process_meets_nobody() -> None:
    with meeting_place(["--users", "2"]) as options:
        assert options == []
