"""How much of what was written to clients they have not taken yet."""

import contextlib
import fcntl
import socket
import sys
import termios
from asyncio import Transport


def queued_bytes(connection: socket.socket) -> int:
    """Bytes in the kernel that the client has not acknowledged yet.

    Raises:
        OSError, ValueError: the connection is closed.
    """
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def untaken_bytes(transport: Transport) -> int:
    """Bytes waiting for the client: in the transport's buffer and, if there are any, also in the kernel's.

    The kernel accepts more only when a third of its buffer, which can have megabytes, is free.
    """
    unsent = transport.get_write_buffer_size()
    if unsent:
        with contextlib.suppress(OSError, ValueError):  # It has just been closed.
            unsent += queued_bytes(transport.get_extra_info("socket"))
    return unsent
