"""Cross-origin requests of a real browser, for pages over plain HTTP at a host other than localhost."""

from playwright.sync_api import Browser

from tests.system.page.pages import DEADLINE_MS
from tests.system.processes import Service, wait_for

# A request that needs no preflight; its body is not an image. An opaque response has no status for a page.
POST = """async ([url, mode]) => {
    const headers = { "Content-Type": "text/plain" };
    return (await fetch(url, { method: "POST", mode, headers, body: "text" })).status;
}"""
OPAQUE = 0


def test_only_the_services_own_page_may_send(browser: Browser, service: Service) -> None:
    # Without the page's content security policy, which blocks requests to other origins.
    with browser.new_context(bypass_csp=True) as context:
        context.set_default_timeout(DEADLINE_MS)
        page = context.new_page()
        page.goto(f"http://board.test:{service.port}/")
        assert page.evaluate(POST, ["v1/classify", "cors"]) == 415
        assert page.evaluate(POST, [f"http://other.test:{service.port}/v1/classify", "no-cors"]) == OPAQUE
        wait_for(lambda: any(line.get("problem") == "foreign-origin" for line in list(service.log)))
