"""What the kernel still has of what was written to a connection."""

import fcntl
import socket
import sys
import termios


def queued_bytes(connection: socket.socket) -> int:
    """Bytes that the client has not taken yet.

    Raises:
        OSError, ValueError: it is closed.
    """
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
