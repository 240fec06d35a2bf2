"""What a real browser sends for pages over plain HTTP by a name that is not localhost."""

from playwright.sync_api import Browser

from tests.system.page.pages import DEADLINE_MS
from tests.system.processes import Service, wait_for

# What needs no preflight; it is no image. A page sees no status of an answer that CORS hides.
POST = """async ([url, mode]) => {
    const headers = { "Content-Type": "text/plain" };
    return (await fetch(url, { method: "POST", mode, headers, body: "text" })).status;
}"""
HIDDEN = 0


def test_its_own_page_may_send_and_pages_of_other_origins_may_not(browser: Browser, service: Service) -> None:
    # Without its policy, which keeps it from asking others.
    with browser.new_context(bypass_csp=True) as context:
        context.set_default_timeout(DEADLINE_MS)
        page = context.new_page()
        page.goto(f"http://board.test:{service.port}/")
        assert page.evaluate(POST, ["v1/classify", "cors"]) == 415
        assert page.evaluate(POST, [f"http://other.test:{service.port}/v1/classify", "no-cors"]) == HIDDEN
        wait_for(lambda: any(line.get("problem") == "foreign-origin" for line in list(service.log)))
