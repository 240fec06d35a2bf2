"""TLS on a connection: the handshake, before there is a connection to speak of.

A server for TLS of asyncio's own, as uvicorn starts it, gives a client a minute for it and bounds
nothing: those that connect and say nothing would take every descriptor.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

HANDSHAKE_SECONDS = 10.0
# What a client gets to say that it, too, is done.
SHUTDOWN_SECONDS = 1.0


def over_tls(
    connection: Callable[..., asyncio.Protocol], context: ssl.SSLContext, places: int
) -> Callable[..., asyncio.Protocol]:
    """What makes connections over TLS, as uvicorn asks for them; `places` are for handshakes as well."""
    # The oldest one first.
    under_way: dict[asyncio.Transport, None] = {}

    def make_room(connections: int) -> None:
        if len(under_way) > 1 and len(under_way) + connections > places:
            oldest = next(iter(under_way))
            del under_way[oldest]
            oldest.abort()

    def make(*, server_state: ServerState, **options: Any) -> asyncio.Protocol:
        secured = connection(server_state=server_state, **options)

        async def shake(transport: asyncio.Transport) -> None:
            under_way[transport] = None
            make_room(len(server_state.connections))
            try:
                await _secure(transport, context, secured)
            finally:
                under_way.pop(transport, None)

        return _Accepted(shake)

    return make


class _Accepted(asyncio.Protocol):
    """A connection that nothing was said on yet; what happens then is up to `shake`."""

    def __init__(self, shake: Callable[[asyncio.Transport], Any]) -> None:
        self._shake = shake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Else what comes before the task runs would not reach it.
        cast(asyncio.Transport, transport).pause_reading()
        # Kept, since the loop holds tasks weakly.
        self._task = asyncio.get_running_loop().create_task(self._shake(cast(asyncio.Transport, transport)))


async def _secure(
    transport: asyncio.Transport, context: ssl.SSLContext, connection: asyncio.Protocol
) -> None:
    """Shake hands, and let `connection` speak where that succeeds."""
    try:
        secured = await asyncio.get_running_loop().start_tls(
            transport,
            # Not the connection: it would be told of the end of what never began.
            asyncio.Protocol(),
            context,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
    except OSError:  # What strangers send; TLS itself tells them what was wrong.
        return
    if secured is not None and not secured.is_closing():
        secured.set_protocol(connection)
        connection.connection_made(secured)
