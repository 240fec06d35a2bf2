"""Answering before the whole body was read, so that the client sees the answer and not a reset."""

import asyncio
import contextlib
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_Headers = Mapping[bytes, bytes]

# How much is discarded after an answer, so that a client that sends everything before it reads can finish.
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 5.0
# Reading the rest of a body that is announced to be no longer than this costs less than a new connection.
KEEP_BYTES = 4 * 1024 * 1024


class UnreadBody:
    """Outermost middleware: discards the rest of a body that was answered before its end.

    It sends the whole answer at once, then discards the body up to a limit, then closes the connection:
    closing it with unread bytes would reset it, and a reset can overtake the answer. A body that is announced
    to be small is left to the server to discard, and the connection stays open: refusing must cost next to
    nothing under overload.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
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
                # If the service stops meanwhile, the answer has been sent: there is nothing to report.
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
    """Whether the client waits for "100 Continue" before it sends the body; HTTP/1.0 has no such thing."""
    return version != "1.0" and headers.get(b"expect", b"").lower() == b"100-continue"


def _stays(version: str, headers: _Headers) -> bool:
    """Whether the client wants the connection to outlive the answer."""
    return version == "1.1" and b"close" not in headers.get(b"connection", b"").lower()
