"""What was written to clients, and they have not taken yet: how much it is, and discarding it."""

import contextlib
import fcntl
import socket
import struct
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
    """Bytes waiting for the client: in the transport's buffer, and in the kernel's, often megabytes."""
    unsent = transport.get_write_buffer_size()
    with contextlib.suppress(OSError, ValueError):  # It has just been closed.
        unsent += queued_bytes(transport.get_extra_info("socket"))
    return unsent


def reset(transport: Transport) -> None:
    """Close a connection at once, and discard what its client has not taken.

    Otherwise the kernel would keep its part for as long as it tries to deliver it.
    """
    with contextlib.suppress(OSError, ValueError):  # It has just been closed.
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.abort()
