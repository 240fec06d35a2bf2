"""Damaged, unusual and malicious files: each gets an answer or a problem, never a 5xx."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.images.encoded import encode, png
from tests.system.processes import Service

CLASSIFY = "/v1/classify"
MEBIBYTE = 2**20
# How much all of these files together may add to the service's memory.
MAX_GROWTH = 64 * MEBIBYTE


def sixteen_bit_png(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L"), np.uint16) * 257
    return encode(Image.fromarray(grey), "PNG")


def accepted(cat: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield unusual but valid images."""
    small = cat.resize((200, 150))
    yield "gif", encode(small, "GIF")
    yield "animated webp", encode(small, "WEBP", save_all=True, append_images=[small.rotate(90)] * 5)
    yield "cmyk jpeg", encode(cat.convert("CMYK"), "JPEG")
    yield "16-bit png", sixteen_bit_png(cat)
    yield "one pixel", encode(small.resize((1, 1)), "PNG")
    yield "one pixel wide", encode(small.resize((1, 5000)), "PNG")
    yield "progressive", encode(cat, "JPEG", progressive=True)
    yield "with transparency", encode(cat.convert("RGBA"), "PNG")


def refused(cat: Image.Image) -> Iterator[tuple[str, bytes, int]]:
    """Yield bodies that are not images, truncated images and images that are too large."""
    bomb = png(30_000, 30_000, bytes(30_000 * (1 + 30_000 // 8)), bits=1, colour=0)
    assert len(bomb) < 200_000
    yield "a 30,000 × 30,000 png", bomb, 413
    yield "random bytes", np.random.default_rng(0).bytes(100_000), 415
    yield "an empty body", b"", 400
    yield "a 50 MB body", bytes(50_000_000), 413
    yield "a text", b"GIF is a format", 415
    yield "a PNG's signature and no more", b"\x89PNG\r\n\x1a\n", 422
    for format_ in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        whole = encode(cat, format_)
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
