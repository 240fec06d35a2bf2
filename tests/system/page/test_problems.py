"""How the page shows refusals and failures, and how it continues afterwards."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from service.bundle.folder import Bundle
from tests.system.page.pages import CAT, CLASSIFY, DESKTOP, TEXT, checked_page, pick, take
from tests.system.processes import Service, serving


def test_an_error_is_shown_in_the_services_words(page: Page, service: Service) -> None:
    with service.client() as client:
        problem = client.post("/v1/classify", content=TEXT.read_bytes()).json()
    pick(page, CAT)
    expect(page.locator(".classes li")).to_have_count(5)
    pick(page, TEXT)
    alert = page.get_by_role("alert").filter(has_text=problem["title"])
    expect(alert).to_contain_text(problem["detail"])
    expect(page.locator(".classes li")).to_have_count(0)
    expect(page.locator("#photo")).to_be_hidden()
    expect(page.locator("#invitation")).to_contain_text("can't show")
    pick(page, CAT)
    expect(page.locator(".classes li")).to_have_count(5)
    expect(page.locator("#problem")).to_be_empty()


def test_the_page_asks_for_the_api_key_before_showing_a_problem(
    browser: Browser, colours: Bundle, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-this-browser me\n")
    with (
        serving(bundle=colours.path, api_keys_file=keys) as guarded,
        checked_page(browser, guarded, viewport=DESKTOP) as page,
    ):
        expect(page.locator("#key")).to_be_focused()
        for problem in page.locator(".problem").all():
            expect(problem).to_be_empty()

        page.fill("#key", "another-key-altogether")
        page.keyboard.press("Enter")
        expect(page.locator("#variants-problem")).to_contain_text("needs a valid API key")

        page.fill("#key", "a-key-of-this-browser")
        page.keyboard.press("Enter")
        expect(page.locator("#variants table")).to_be_visible()
        expect(page.locator("#variants-problem")).to_be_empty()
        expect(page.locator("#key-form")).to_be_hidden()


def test_a_network_failure_is_shown_and_can_be_retried(page: Page) -> None:
    expect(page.locator("#variants table")).to_be_visible()
    page.route(CLASSIFY, lambda route: route.abort())
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("No answer")
    page.unroute(CLASSIFY)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".classes li")).to_have_count(5)


def test_a_photo_that_arrived_too_slowly_can_be_sent_again(page: Page) -> None:
    problem = {"type": "/problems/slow-body", "title": "The body took too long", "detail": "send it faster"}
    headers = {"Content-Type": "application/problem+json"}
    expect(page.locator("#variants table")).to_be_visible()
    page.route(CLASSIFY, lambda route: route.fulfill(status=408, headers=headers, body=json.dumps(problem)))
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("send it faster")
    page.unroute(CLASSIFY)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".classes li")).to_have_count(5)


def test_a_problem_is_scrolled_into_view(browser: Browser, service: Service) -> None:
    with checked_page(browser, service, viewport={"width": 320, "height": 568}) as page:
        expect(page.locator("#variants table")).to_be_visible()
        page.route(CLASSIFY, lambda route: route.fulfill(status=502))
        take(page, CAT)
        expect(page.get_by_role("button", name="Try again")).to_be_in_viewport(ratio=1)


def stop_the_clock(page: Page) -> None:
    """Pause the page's timers until the test advances the clock."""
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))


def refuse_photos(page: Page, seconds: int) -> list[str]:
    """Refuse photos because the queue is full; return a growing list of their requests' URLs."""
    problem = {"type": "/problems/queue-full", "title": "The queue is full", "detail": "all 16 are taken"}
    requests: list[str] = []

    def refuse(route: Route) -> None:
        requests.append(route.request.url)
        headers = {"Content-Type": "application/problem+json", "Retry-After": str(seconds)}
        route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    page.route(CLASSIFY, refuse)
    return requests


def test_a_full_queue_is_retried_once_automatically(page: Page) -> None:
    requests = refuse_photos(page, seconds=3)
    stop_the_clock(page)
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("Trying once more after 3 seconds")
    page.clock.run_for(3000)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#problem")).to_contain_text("all 16 are taken")
    assert len(requests) == 2
    page.unroute(CLASSIFY)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".classes li")).to_have_count(5)


def paste_text(page: Page) -> None:
    page.evaluate(
        """() => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text/plain", "no picture");
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }"""
    )


def test_an_answer_clears_the_problem_of_a_paste_made_while_waiting(page: Page) -> None:
    held: list[Route] = []
    page.route(CLASSIFY, lambda route: held.append(route))
    with page.expect_request(CLASSIFY):
        pick(page, CAT)
    paste_text(page)
    expect(page.locator("#problem")).to_contain_text("no picture on the clipboard")
    held[0].continue_()
    expect(page.locator(".classes li")).to_have_count(5)
    expect(page.locator("#problem")).to_be_empty()


def test_a_refused_paste_cancels_a_scheduled_retry(page: Page) -> None:
    requests = refuse_photos(page, seconds=1)
    stop_the_clock(page)
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("Trying once more after one second")
    paste_text(page)
    page.clock.run_for(2000)
    # A retry would be sent within this time.
    page.wait_for_timeout(500)
    expect(page.locator("#problem")).to_contain_text("no picture on the clipboard")
    assert len(requests) == 1
