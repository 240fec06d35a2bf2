"""The images out of a request's body, in memory only."""

from collections.abc import Callable

from fastapi import Request

from service.api.arrivals import Arrivals
from service.api.multipart import FormImages
from service.errors import BadMultipart, BatchTooLarge, BodyTooLarge, EmptyBody, EncodedBody

# Of a document of two short members.
MAX_DOCUMENT_BYTES = 4096


async def read_image(request: Request, arrivals: Arrivals) -> bytes:
    """The encoded image: the form's part named `image`, or the whole body where it is no form.

    Raises:
        EmptyBody: there are no bytes.
        BadMultipart: it is a form, but can't be parsed or has not exactly one part, `image`.
        EncodedBody, BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: as `read_body` says.
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
    """The encoded images: the form's parts, all named `image`, in their order; one may have no bytes.

    Raises:
        BadMultipart: it is no form, or can't be parsed, or has no part, or one of another name.
        BatchTooLarge: there are more than `limit`.
        EncodedBody, BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: as `read_body` says.
    """
    if not _is_form(request):
        raise BadMultipart("the body is no form; send multipart/form-data whose parts are named image")
    several = BatchTooLarge(f"the form has more than {limit} images, which is the most that is taken")
    return await _read_form(request, arrivals, limit, several)


async def read_document(request: Request, arrivals: Arrivals) -> bytes:
    """A body that is a small JSON document, not parsed.

    Much JSON with much that is wrong takes seconds to check, and fifty times its size.

    Raises:
        BodyTooLarge: it has more than `MAX_DOCUMENT_BYTES`.
        EncodedBody, SlowBody, QueueFull, ClientDisconnect: as `read_body` says.
    """
    body = await read_body(request, arrivals)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise BodyTooLarge(
            f"the body has more than {MAX_DOCUMENT_BYTES} bytes, which is the most that is taken here"
        )
    return body


async def read_body(request: Request, arrivals: Arrivals) -> bytes:
    """The body as it is.

    Raises:
        EncodedBody: its `Content-Encoding` is another than `identity`.
        BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: as `Arrivals.read` says.
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
    # Images don't shrink, and what inflates would need bounds of its own.
    codings = ",".join(request.headers.getlist("Content-Encoding"))
    if codings.strip().lower() not in ("", "identity"):
        raise EncodedBody(
            f"the body has the Content-Encoding {codings[:64]!a}; send it as it is, without one"
        )
    await arrivals.read(request, take)
