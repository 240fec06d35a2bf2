import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.system.page.pages import DEADLINE_MS, DESKTOP, checked_page
from tests.system.processes import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is absent")
    # Scoped to a module: while it is open, no other test can run an event loop.
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--host-resolver-rules=MAP *.test 127.0.0.1"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """The page on a desktop; fails at the end if it logged errors or sent requests to other origins."""
    with checked_page(browser, service, viewport=DESKTOP) as page:
        yield page
