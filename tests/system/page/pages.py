"""The page in a real browser, as tests open it and give it photos."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.system.processes import ROOT, Service

CAT = ROOT / "tests" / "data" / "cat.jpg"
TEXT = ROOT / "README.md"
DESKTOP = {"width": 1200, "height": 900}
TOKEN = "0123456789abcdef"  # noqa: S105
DEADLINE_MS = 60_000
CLASSIFY = re.compile(r"/v1/classify(\?|$)")


@contextmanager
def watched(browser: Browser, service: Service, path: str = "/", **context: Any) -> Iterator[Page]:
    """A page of the service, in a context of its own."""
    complaints: list[str] = []
    asked: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # A browser reports each answer that is an error; those of the routes are what some tests are about.
        of_a_route = message.text.startswith("Failed to load resource") and "/v1/" in message.location["url"]
        if message.type in ("error", "warning") and not of_a_route:
            complaints.append(message.text)

    with browser.new_context(**context) as opened:
        opened.set_default_timeout(DEADLINE_MS)
        page = opened.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(service.url + path)
        yield page
    assert complaints == []
    assert [url for url in asked if not url.startswith((service.url, "blob:"))] == []


def labels(service: Service, photo: Path, **query: str) -> list[str]:
    """What the service says to the photo, without a browser."""
    with service.client() as client:
        answer = client.post("/v1/classify", content=photo.read_bytes(), params=query).json()
    return [prediction["label"] for prediction in answer["predictions"]]


def transfer(page: Page, photo: Path) -> Any:
    """What a drop or a paste of the photo carries."""
    return page.evaluate_handle(
        """([name, data]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
            return transfer;
        }""",
        [photo.name, base64.b64encode(photo.read_bytes()).decode()],
    )


def pick(page: Page, photo: Path) -> None:
    page.set_input_files("#pick", photo)


def take(page: Page, photo: Path) -> None:
    page.set_input_files("#take", photo)
