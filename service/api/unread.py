"""Answering before the whole body was read, so that the client sees the answer and not a reset."""

import asyncio
import contextlib
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_Headers = Mapping[bytes, bytes]

# What is read and thrown away behind an answer, so that a client that sends all before it reads gets there.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 5.0
# The rest of a body that is announced to be no longer costs less than a new connection.
KEEP_BYTES = 4 * 1024 * 1024


class UnreadBody:
    """Outermost middleware: where an answer comes before the end of the body, sends it whole at once, then
    discards a bounded amount of the body, then closes the connection.

    A connection that is closed with bytes unread is reset, and a reset can overtake the answer. A body
    that is announced to be small is left to the server to discard, and the connection stays: refusing
    must cost next to nothing where there is too much to do already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI has it."""
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        if not _has_body(headers) or _is_left_to_the_server(scope["http_version"], headers):
            await self._app(scope, receive, send)
            return
        unread = True
        held_back = _is_held_back(scope["http_version"], headers)

        async def watch() -> Message:
            nonlocal unread, held_back
            held_back = False
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def discard() -> None:
            nonlocal unread
            discarded = 0
            while unread and discarded < DISCARD_BYTES:
                message = await watch()
                discarded += len(message.get("body", b""))

        async def answer(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            elif unread and not held_back and not message.get("more_body", False):
                await send({**message, "more_body": True})
                # Where the service ends meanwhile, the answer is given: there is nothing to be said of it.
                with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(discard(), DISCARD_SECONDS)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, watch, answer)


def _has_body(headers: _Headers) -> bool:
    return headers.get(b"content-length", b"0") not in (b"", b"0") or bool(headers.get(b"transfer-encoding"))


def _is_left_to_the_server(version: str, headers: _Headers) -> bool:
    short = 0 < int(headers.get(b"content-length") or 0) <= KEEP_BYTES
    return short and not _is_held_back(version, headers) and _stays(version, headers)


def _is_held_back(version: str, headers: _Headers) -> bool:
    """Until its first byte is asked for, a client that expects "100 Continue" sends none; but in HTTP/1.0."""
    return version != "1.0" and headers.get(b"expect", b"").lower() == b"100-continue"


def _stays(version: str, headers: _Headers) -> bool:
    """Whether the connection outlives the answer, as far as the client is concerned."""
    return version == "1.1" and b"close" not in headers.get(b"connection", b"").lower()
