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
    return _bound(settings, settings.port)


def check_host(settings: Settings) -> None:
    """Check that this machine can listen on the host; a service that runs there is not disturbed.

    Raises:
        StartError: it is neither an address nor a name that resolves, or it is another machine's.
    """
    # Any free port: the settings' own may be that of the running service.
    _bound(settings, 0).close()


def _bound(settings: Settings, port: int) -> socket.socket:
    with explained(settings):
        family, kind, protocol, _, address = _resolve(settings.host, port)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    return listener


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
