"""What the page says when something is refused or fails, and how it goes on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from service.bundle.folder import Bundle
from tests.system.page.pages import CAT, CLASSIFY, DESKTOP, TEXT, pick, watched
from tests.system.processes import Service, serving


def test_an_error_is_told_in_the_words_of_the_service(page: Page, service: Service) -> None:
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


def test_the_key_is_asked_for_before_anything_is_a_problem(
    browser: Browser, colours: Bundle, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-this-browser me\n")
    with (
        serving(bundle=colours.path, api_keys_file=keys) as guarded,
        watched(browser, guarded, viewport=DESKTOP) as page,
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


def test_a_network_that_fails_is_told_and_tried_again(page: Page) -> None:
    expect(page.locator("#variants table")).to_be_visible()
    page.route(CLASSIFY, lambda route: route.abort())
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("No answer")
    page.unroute(CLASSIFY)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".classes li")).to_have_count(5)


def stop_the_clock(page: Page) -> None:
    """Have the page's timers wait until the test lets time pass."""
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))


def test_a_full_queue_is_tried_once_more_by_itself(page: Page) -> None:
    problem = {"type": "/problems/queue-full", "title": "The queue is full", "detail": "all 16 are taken"}
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        headers = {"Content-Type": "application/problem+json", "Retry-After": "3"}
        route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    page.route(CLASSIFY, refuse)
    stop_the_clock(page)
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("Trying once more after 3 seconds")
    page.clock.run_for(3000)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#problem")).to_contain_text("all 16 are taken")
    assert len(asked) == 2
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


def test_what_is_refused_while_an_answer_is_awaited_is_no_problem_of_the_answer(page: Page) -> None:
    held: list[Route] = []
    page.route(CLASSIFY, lambda route: held.append(route))
    with page.expect_request(CLASSIFY):
        pick(page, CAT)
    paste_text(page)
    expect(page.locator("#problem")).to_contain_text("no picture on the clipboard")
    held[0].continue_()
    expect(page.locator(".classes li")).to_have_count(5)
    expect(page.locator("#problem")).to_be_empty()


def test_what_is_refused_while_a_retry_is_due_calls_it_off(page: Page) -> None:
    problem = {"type": "/problems/queue-full", "title": "The queue is full", "detail": "all 16 are taken"}
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
        route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    page.route(CLASSIFY, refuse)
    stop_the_clock(page)
    pick(page, CAT)
    expect(page.locator("#problem")).to_contain_text("Trying once more after one second")
    paste_text(page)
    page.clock.run_for(2000)
    # Were it asked, that would come now.
    page.wait_for_timeout(500)
    expect(page.locator("#problem")).to_contain_text("no picture on the clipboard")
    assert len(asked) == 1
