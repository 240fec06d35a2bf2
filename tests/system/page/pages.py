"""Open the page in a real browser and give it photos."""

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
def checked_page(browser: Browser, service: Service, path: str = "/", **context: Any) -> Iterator[Page]:
    """Open a page of the service; fail at the end if it logged errors or sent requests to other origins."""
    errors: list[str] = []
    requested: list[str] = []

    def record_error(message: ConsoleMessage) -> None:
        # The browser logs every error response; some tests provoke those of the API on purpose.
        from_api = message.text.startswith("Failed to load resource") and "/v1/" in message.location["url"]
        if message.type in ("error", "warning") and not from_api:
            errors.append(message.text)

    with browser.new_context(**context) as opened:
        opened.set_default_timeout(DEADLINE_MS)
        page = opened.new_page()
        page.on("console", record_error)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(service.url + path)
        yield page
    assert errors == []
    assert [url for url in requested if not url.startswith((service.url, "blob:"))] == []


def labels(service: Service, photo: Path, **query: str) -> list[str]:
    """Return the labels that the service gives the photo, without a browser."""
    with service.client() as client:
        answer = client.post("/v1/classify", content=photo.read_bytes(), params=query).json()
    return [prediction["label"] for prediction in answer["predictions"]]


def transfer(page: Page, *photos: Path) -> Any:
    """Return the DataTransfer of a drop or a paste of the photos."""
    return page.evaluate_handle(
        """(photos) => {
            const transfer = new DataTransfer();
            for (const [name, data] of photos) {
                const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
            }
            return transfer;
        }""",
        [[photo.name, base64.b64encode(photo.read_bytes()).decode()] for photo in photos],
    )


def pick(page: Page, photo: Path) -> None:
    page.set_input_files("#pick", photo)


def take(page: Page, photo: Path) -> None:
    page.set_input_files("#take", photo)
