"""The socket that the service listens on."""

import contextlib
import functools
import socket
from collections.abc import Iterator

from service.errors import StartError
from service.settings import Settings

_resolve = functools.partial(socket.getaddrinfo, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def bind(settings: Settings) -> socket.socket:
    """Bind the socket; this comes before anything is loaded, so that a port in use is reported at once.

    Raises:
        StartError: the host has no such address, or the port is in use or reserved.
    """
    with explained(settings):
        family, kind, protocol, _, address = _resolve(settings.host, settings.port)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    return listener


def check_host(settings: Settings) -> None:
    """Check that the host is one.

    Raises:
        StartError: it is neither an address nor a name that resolves.
    """
    with explained(settings):
        _resolve(settings.host, settings.port)


@contextlib.contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Raise StartError, with what to do, if the body fails to open the port."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise StartError(
            f"can't listen on {settings.host}:{settings.port}: {reason};"
            " set EDGEWISE_HOST and EDGEWISE_PORT to a free address"
        ) from None
