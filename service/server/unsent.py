"""What clients have not taken yet of what was written to them."""

import contextlib
import fcntl
import socket
import sys
import termios
from asyncio import Transport


def queued_bytes(connection: socket.socket) -> int:
    """Bytes in the kernel that the client has not taken yet.

    Raises:
        OSError, ValueError: it is closed.
    """
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def untaken_bytes(transport: Transport) -> int:
    """What waits to be taken by the client: here, and where some is left here, in the kernel.

    The kernel takes the next bytes only when a third of its own, up to megabytes, are gone.
    """
    unsent = transport.get_write_buffer_size()
    if unsent:
        with contextlib.suppress(OSError, ValueError):  # It was closed just now.
            unsent += queued_bytes(transport.get_extra_info("socket"))
    return unsent
