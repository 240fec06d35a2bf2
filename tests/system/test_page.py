"""The page in a real browser, before a real service."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright

from service.bundle.folder import Bundle
from tests.system.processes import ROOT, Service, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CAT = ROOT / "tests" / "data" / "cat.jpg"
TEXT = ROOT / "README.md"
DESKTOP = {"width": 1200, "height": 900}
PHONES = [{"width": 320, "height": 568}, {"width": 412, "height": 839}]
STAGES = ["read", "queue", "decode", "inference", "network and the rest"]
TOKEN = "0123456789abcdef"  # noqa: S105
DEADLINE_MS = 60_000
CLASSIFY = re.compile(r"/v1/classify(\?|$)")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is absent")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Of this module alone: while it is open, no other test could run an event loop.
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """The page, on a desktop; in the end nothing was complained of, and nothing was asked of others."""
    with watched(browser, service, viewport=DESKTOP) as page:
        yield page


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


def drop(page: Page, photo: Path) -> None:
    page.dispatch_event("#frame", "drop", {"dataTransfer": transfer(page, photo)})


def paste(page: Page, photo: Path, place: str = "body") -> None:
    page.evaluate(
        "([clipboardData, place]) => document.querySelector(place).dispatchEvent("
        "new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))",
        [transfer(page, photo), place],
    )


def paste_at_the_button(page: Page, photo: Path) -> None:
    """As from the keyboard, after a photo was chosen by it."""
    paste(page, photo, "#pick")


def press(page: Page, photo: Path) -> None:
    # So that Chromium asks us, and not the desktop, before the key is pressed.
    page.on("filechooser", lambda _: None)
    expect(page.locator("#variants table")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#pick")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)


@pytest.mark.parametrize("give", [pick, take, drop, paste, paste_at_the_button, press])
def test_a_photo_is_shown_and_answered(page: Page, service: Service, give: Callable[..., None]) -> None:
    expected = labels(service, CAT)
    give(page, CAT)
    lines = page.locator(".classes li")
    expect(lines.locator(".name")).to_contain_text(expected)
    expect(page.locator(".top")).to_have_text(expected[0])
    expect(page.locator("#status")).to_contain_text(f"qat: {expected[0]}")
    shown = [float(text.split()[0]) for text in lines.locator(".number").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    assert 0 < sum(shown) <= 100
    widths = [box["width"] for box in map(Locator.bounding_box, lines.locator(".bar").all()) if box]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]
    photo = page.locator("img#photo")
    expect(photo).to_be_visible()
    assert photo.evaluate("image => image.naturalWidth") == 451


def test_the_time_of_each_stage_is_told(page: Page) -> None:
    pick(page, CAT)
    items = page.locator(".times li")
    expect(items).to_have_count(len(STAGES))
    texts = [re.fullmatch(r"(.+) ([\d.]+)\sms", text) for text in items.all_inner_texts()]
    told = {found[1]: float(found[2]) for found in texts if found}
    assert list(told) == STAGES
    total = float(page.locator(".by .number, .by strong").last.inner_text().split()[0])
    assert sum(told.values()) == pytest.approx(total, abs=1)


def test_which_variant_answers_and_how_to_see_two(page: Page, default_bundle: Bundle) -> None:
    rows = page.locator("#variants tbody tr")
    expect(rows).to_have_count(len(default_bundle.manifest.variants))
    active = rows.filter(has=page.locator(".tag", has_text="active"))
    expect(active).to_have_text(re.compile(r"qat.*int8.*8\.4.MB.*83\.8.%.*80\.8–86\.5"))
    expect(page.locator("#answering")).to_contain_text("qat of imagenet-1k answers: int8")
    expect(page.locator("#choice")).to_be_hidden()
    expect(page.locator("#notes")).to_contain_text("EDGEWISE_LOADED_VARIANTS=fp32,qat")


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
    expect(page.locator("#problem")).to_contain_text("No answer came")
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


def test_a_list_that_comes_during_a_switch_leaves_no_other_to_be_begun(
    browser: Browser, colours: Bundle, photos: dict[str, Path], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"bundle": colours.path, "variant": "fp32", "admin_token_file": token}
    with serving(**settings) as switchable, watched(browser, switchable, viewport=DESKTOP) as page:
        held: list[Route] = []
        page.route(re.compile("/v1/variants/active$"), lambda route: held.append(route))
        buttons = page.locator("[data-variant]")
        page.locator("[data-variant=ptq]").click()
        page.fill("#token", TOKEN)
        with page.expect_request(re.compile("/v1/variants/active$")):
            page.keyboard.press("Enter")

        def answer_by_another(route: Route) -> None:
            response = route.fetch()
            route.fulfill(response=response, json={**response.json(), "variant": "int8"})

        page.route(CLASSIFY, answer_by_another)
        with page.expect_response(re.compile("/v1/variants$")):
            pick(page, photos["flower"])
        expect(page.locator("#result")).to_contain_text("int8")
        page.wait_for_timeout(200)
        assert [button.is_enabled() for button in buttons.all()] == [False] * 3
        expect(page.locator("[data-variant=ptq]")).to_have_text("Loading …")
        page.unroute(CLASSIFY)
        held[0].continue_()
        expect(page.locator("#answering")).to_contain_text("ptq")
        assert [button.is_enabled() for button in buttons.all()] == [True] * 3
        expect(page.locator("#variants")).not_to_contain_text("Loading")


@pytest.fixture
def switchable(colours: Bundle, tmp_path: Path) -> Iterator[Service]:
    """A service with one variant beside the active one, that TOKEN switches."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"variant": "ptq", "loaded_variants": "int8", "admin_token_file": token}
    with serving(bundle=colours.path, **settings) as service:
        yield service


def offered(page: Page, select: str) -> list[str]:
    return page.locator(f"{select} option").all_inner_texts()


def test_what_somebody_else_switched_meanwhile_is_told_and_offered_no_more(
    browser: Browser, switchable: Service, photos: dict[str, Path]
) -> None:
    with watched(browser, switchable, viewport=DESKTOP) as page:
        pick(page, photos["flower"])
        page.locator("#first").select_option("int8")
        expect(page.locator("#status")).to_contain_text("int8: ")
        with switchable.client() as client:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            changed = client.put("/v1/variants/active", json={"variant": "fp32"}, headers=headers)
            assert changed.status_code == 200
        page.locator("#second").select_option("ptq")
        expect(page.locator("#problem")).to_contain_text("'ptq' is not loaded")
        expect(page.locator("#answering")).to_contain_text("fp32 of colours answers")
        assert offered(page, "#first") == ["fp32 (active)", "int8"]
        assert offered(page, "#second") == ["none", "fp32"]
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".classes li")).to_have_count(5)
        expect(page.locator("#status")).to_contain_text("int8: ")
        expect(page.locator("#problem")).to_be_empty()


@pytest.fixture
def compared(browser: Browser, switchable: Service, photos: dict[str, Path]) -> Iterator[Page]:
    """A page with what the active variant and int8, beside it, say of a photo."""
    with watched(browser, switchable, viewport=DESKTOP) as page:
        pick(page, photos["flower"])
        page.locator("#second").select_option("int8")
        expect(page.locator(".compared")).to_be_visible()
        yield page


def test_no_variant_is_shown_beside_itself(compared: Page) -> None:
    assert offered(compared, "#second") == ["none", "int8"]
    compared.locator("[data-variant=int8]").click()
    compared.fill("#token", TOKEN)
    compared.keyboard.press("Enter")
    expect(compared.locator("#status")).to_contain_text(re.compile("^int8: [^:]*$"))
    expect(compared.locator(".classes li")).to_have_count(5)
    assert offered(compared, "#second") == ["none"]


def test_what_answers_is_not_offered_beside(compared: Page) -> None:
    compared.locator("#first").select_option("int8")
    expect(compared.locator(".classes li")).to_have_count(5)
    assert offered(compared, "#second") == ["none", "ptq"]


def test_the_latest_photo_wins(page: Page, service: Service, photos: dict[str, Path]) -> None:
    latest = labels(service, photos["flower"])[0]
    assert latest != labels(service, CAT)[0]
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route(CLASSIFY, hold_the_first)
    with page.expect_request(CLASSIFY):
        pick(page, CAT)
    with page.expect_event("requestfailed") as failed:
        pick(page, photos["flower"])
    assert failed.value.failure == "net::ERR_ABORTED"
    expect(page.locator(".top")).to_have_text(latest)
    expect(page.locator("#file")).to_contain_text("flower.jpg")
    expect(page.locator("#answer")).not_to_have_attribute("aria-busy", "true")


@pytest.mark.parametrize("viewport", PHONES, ids=lambda viewport: str(viewport["width"]))
def test_it_fits_a_phone(browser: Browser, service: Service, viewport: dict[str, int]) -> None:
    with watched(browser, service, viewport=viewport, is_mobile=True, has_touch=True) as page:
        expect(page.locator("#variants table")).to_be_visible()
        expect(page.get_by_text("Take a photo")).to_be_visible()
        expect(page.locator("#take")).to_have_attribute("capture", "environment")
        take(page, CAT)
        expect(page.locator(".classes li")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, service: Service, scheme: Any) -> None:
    with watched(browser, service, viewport=DESKTOP, color_scheme=scheme) as page:
        pick(page, TEXT)
        expect(page.locator("#problem")).to_contain_text("not supported")
        colours = page.evaluate(
            """() => ["body", ".muted", ".card .muted", ".primary", ".problem", ".problem strong", ".tag"]
                .map((selector) => {
                    const element = document.querySelector(selector);
                    const opaque = (node) => getComputedStyle(node).backgroundColor;
                    let ground = element;
                    while (opaque(ground) === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
                    return [selector, getComputedStyle(element).color, opaque(ground)];
                })"""
        )
    assert {name: ratio for name, *pair in colours if (ratio := contrast(*pair)) < 4.5} == {}


def contrast(text: str, ground: str) -> float:
    """The contrast of two CSS colours, as WCAG 2 has it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(text), luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_control_has_a_name(page: Page) -> None:
    expect(page.locator("#variants table")).to_be_visible()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button")]
            .filter((control) => !control.labels?.length && !control.textContent.trim())
            .map((control) => control.id)"""
    )
    assert unnamed == []


def test_the_interface_is_documented_without_the_internet(browser: Browser, service: Service) -> None:
    with watched(browser, service, "/docs", viewport=DESKTOP) as page:
        operation = page.locator("#operations-default-classify_v1_classify_post")
        operation.locator(".opblock-summary-control").click()
        expect(operation).to_contain_text("min_probability")


def test_a_variant_that_answers_in_place_of_the_active_one_is_asked_once(
    page: Page, photos: dict[str, Path]
) -> None:
    # As under load, by EDGEWISE_VARIANT_UNDER_LOAD.
    asked: list[str] = []

    def answer_by_another(route: Route) -> None:
        asked.append(route.request.url)
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "variant": "int8"})

    page.route(CLASSIFY, answer_by_another)
    pick(page, photos["flower"])
    expect(page.locator("#result")).to_contain_text("int8")
    page.wait_for_timeout(1000)
    assert len(asked) == 1
