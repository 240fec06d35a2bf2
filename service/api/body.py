"""The image out of a request's body, in memory only."""

from fastapi import Request

from service.api.arrivals import Arrivals
from service.api.multipart import FormImage
from service.errors import EmptyBody


async def read_image(request: Request, arrivals: Arrivals) -> bytes:
    """The encoded image: the form's part named `image`, or the whole body where it is no form.

    Raises:
        EmptyBody: there are no bytes.
        BadMultipart: it is a form, but can't be parsed or has not exactly one part, `image`.
        BodyTooLarge, SlowBody, QueueFull, ClientDisconnect: as `Arrivals.read` says.
    """
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        form = FormImage(content_type)
        await arrivals.read(request, form.feed)
        image = form.finish()
    else:
        chunks: list[bytes] = []
        await arrivals.read(request, chunks.append)
        image = b"".join(chunks)
    if not image:
        raise EmptyBody("the body is empty; send an image as the body, or as the part `image` of a form")
    return image
