"""Damaged, unusual and malicious files: each gets an answer or a problem, never a 5xx."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.system.processes import Service

CLASSIFY = "/v1/classify"
MEBIBYTE = 2**20
# How much all of these files together may add to the service's memory.
MAX_GROWTH = 64 * MEBIBYTE

_INVERSE = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def turned(image: Image.Image, orientation: int, format_: str) -> bytes:
    """Return the image turned, with the EXIF orientation that makes it upright again."""
    for step in _INVERSE[orientation]:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, format_, exif=exif)


def png_of(width: int, height: int) -> bytes:
    """Return a PNG with many pixels in a small file: one bit per pixel, all the same."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def sixteen_bit_png(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def accepted(cat: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield unusual but valid images."""
    small = cat.resize((200, 150))
    yield "gif", encoded(small, "GIF")
    yield "animated webp", encoded(small, "WEBP", save_all=True, append_images=[small.rotate(90)] * 5)
    yield "cmyk jpeg", encoded(cat.convert("CMYK"), "JPEG")
    yield "16-bit png", sixteen_bit_png(cat)
    yield "one pixel", encoded(small.resize((1, 1)), "PNG")
    yield "one pixel wide", encoded(small.resize((1, 5000)), "PNG")
    yield "progressive", encoded(cat, "JPEG", progressive=True)
    yield "with transparency", encoded(cat.convert("RGBA"), "PNG")


def refused(cat: Image.Image) -> Iterator[tuple[str, bytes, int]]:
    """Yield bodies that are not images, truncated images and images that are too large."""
    bomb = png_of(30_000, 30_000)
    assert len(bomb) < 200_000
    yield "a 30,000 × 30,000 png", bomb, 413
    yield "random bytes", np.random.default_rng(0).bytes(100_000), 415
    yield "an empty body", b"", 400
    yield "a 50 MB body", bytes(50_000_000), 413
    yield "a text", b"GIF is a format", 415
    yield "a PNG's signature and no more", b"\x89PNG\r\n\x1a\n", 422
    for format_ in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        whole = encoded(cat, format_)
        for tenth in range(1, 10):
            yield f"{format_} truncated at {tenth}/10", whole[: len(whole) * tenth // 10], 422


@pytest.fixture(scope="module")
def cat(photos: dict[str, Path]) -> Image.Image:
    return Image.open(photos["cat"]).convert("RGB")


def test_hostile_files_get_their_answer_and_memory_stays_bounded(service: Service, cat: Image.Image) -> None:
    before = service.memory("VmRSS")
    with service.client() as client:
        for name, image in accepted(cat):
            for response in both_ways(client, image):
                assert response.status_code == 200, name
                assert response.json()["predictions"], name
        for name, image, status in refused(cat):
            for response in both_ways(client, image):
                assert response.status_code == status, (name, response.text)
                assert response.headers["content-type"] == "application/problem+json", name
        assert client.get("/readyz").status_code == 200
    assert service.memory("VmHWM") - before < MAX_GROWTH
    assert not [line for line in service.log if line["level"] == "error"]


def both_ways(client: httpx.Client, image: bytes) -> Iterator[httpx.Response]:
    yield client.post(CLASSIFY, content=image)
    yield client.post(CLASSIFY, files={"image": image})


def test_an_image_in_eight_orientations_gets_one_answer(service: Service, cat: Image.Image) -> None:
    with service.client() as client:
        lossless = [classify(client, turned(cat, orientation, "PNG")) for orientation in _INVERSE]
        lossy = [classify(client, turned(cat, orientation, "JPEG")) for orientation in _INVERSE]
    assert lossless == [lossless[0]] * 8
    # A turned JPEG has different blocks, so its pixels differ a little.
    assert len({answer[0]["index"] for answer in lossy}) == 1


def classify(client: httpx.Client, image: bytes) -> list[dict[str, object]]:
    predictions: list[dict[str, object]] = client.post(CLASSIFY, content=image).json()["predictions"]
    return predictions
