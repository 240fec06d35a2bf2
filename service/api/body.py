"""Reading images from a request's body, in memory only."""

from collections.abc import Callable

from fastapi import Request

from service.api.arrivals import Arrivals
from service.api.multipart import FormImages
from service.errors import (
    BadMultipart,
    BatchTooLarge,
    BodyTooLarge,
    EmptyBody,
    EncodedBody,
    QueueFull,
    SlowBody,
)

# Enough for a document with two short members.
MAX_DOCUMENT_BYTES = 4096
# What reading any body can raise.
READING_ERRORS = (EncodedBody, BodyTooLarge, SlowBody, QueueFull)


async def read_image(request: Request, arrivals: Arrivals) -> bytes:
    """Return the encoded image: the form's part named `image`, or the whole body if it is not a form.

    Raises:
        EmptyBody: the image is empty.
        BadMultipart: the form can't be parsed, or does not have exactly one part, `image`.
        EncodedBody, BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: see `read_body`.
    """
    if _is_form(request):
        several = BadMultipart("the form has more than one part named image; send them to /v1/classify/batch")
        (image,) = await _read_form(request, arrivals, 1, several)
    else:
        image = await read_body(request, arrivals)
    if not image:
        raise EmptyBody("the body is empty; send an image as the body, or as the part `image` of a form")
    return image


async def read_images(request: Request, arrivals: Arrivals, limit: int) -> list[bytes]:
    """Return the encoded images: the form's parts, all named `image`, in order; some may be empty.

    Raises:
        BadMultipart: the body is not a form, can't be parsed, has no part, or has one of another name.
        BatchTooLarge: there are more than `limit`.
        EncodedBody, BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: see `read_body`.
    """
    if not _is_form(request):
        raise BadMultipart("the body is not a form; send multipart/form-data whose parts are named image")
    several = BatchTooLarge(f"the form exceeds the limit of {limit} images")
    return await _read_form(request, arrivals, limit, several)


async def read_document(request: Request, arrivals: Arrivals) -> bytes:
    """Return the body, which must be a small JSON document, without parsing it.

    Large JSON with many errors takes seconds to validate, and fifty times its size in memory.

    Raises:
        BodyTooLarge: it has more than `MAX_DOCUMENT_BYTES`.
        EncodedBody, SlowBody, QueueFull, ClientDisconnect: see `read_body`.
    """
    body = await read_body(request, arrivals)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise BodyTooLarge(f"the body exceeds the limit of {MAX_DOCUMENT_BYTES} bytes for this route")
    return body


async def read_body(request: Request, arrivals: Arrivals) -> bytes:
    """Return the whole body.

    Raises:
        EncodedBody: its `Content-Encoding` is not `identity`.
        BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: see `Arrivals.read`.
    """
    chunks: list[bytes] = []
    await _receive(request, arrivals, chunks.append)
    return b"".join(chunks)


def _is_form(request: Request) -> bool:
    return request.headers.get("Content-Type", "").lower().startswith("multipart/form-data")


async def _read_form(
    request: Request, arrivals: Arrivals, limit: int, several: BadMultipart | BatchTooLarge
) -> list[bytes]:
    form = FormImages(request.headers["Content-Type"], limit, several)
    await _receive(request, arrivals, form.feed)
    return form.finish()


async def _receive(request: Request, arrivals: Arrivals, take: Callable[[bytes], None]) -> None:
    # Image files hardly shrink, and decompression would need its own limits.
    codings = ",".join(request.headers.getlist("Content-Encoding"))
    if codings.strip().lower() not in ("", "identity"):
        raise EncodedBody(f"the body has the Content-Encoding {codings[:64]!a}; send it unencoded")
    await arrivals.read(request, take)
