"""Reading the image out of a request's body: bounded in bytes and in time, and in memory only."""

import asyncio
from collections.abc import Callable

from fastapi import Request

from service.api.multipart import FormImage
from service.errors import BodyTooLarge, EmptyBody, SlowBody


async def read_image(request: Request, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The encoded image: the form's part named `image`, or the whole body where it is no form.

    Raises:
        EmptyBody: there are no bytes.
        BadMultipart: it is a form, but can't be parsed or has not exactly one part, `image`.
        BodyTooLarge: the body has, or announces, more than `max_bytes`.
        SlowBody: it took longer than `timeout_seconds` to arrive.
        ClientDisconnect: the client went away.
    """
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        form = FormImage(content_type)
        await _receive(request, form.feed, max_bytes, timeout_seconds)
        image = form.finish()
    else:
        chunks: list[bytes] = []
        await _receive(request, chunks.append, max_bytes, timeout_seconds)
        image = b"".join(chunks)
    if not image:
        raise EmptyBody("the body is empty; send an image as the body, or as the part `image` of a form")
    return image


async def _receive(
    request: Request, take: Callable[[bytes], None], max_bytes: int, timeout_seconds: float
) -> None:
    too_large = BodyTooLarge(f"the body has more than {max_bytes} bytes, which is the most that is taken")
    if int(request.headers.get("Content-Length", 0)) > max_bytes:
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(timeout_seconds):
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                take(chunk)
    except TimeoutError:
        raise SlowBody(
            f"the body did not arrive within {timeout_seconds:g} seconds; {received} bytes of it did"
        ) from None
