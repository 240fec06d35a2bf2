"""The page is readable and usable: on a phone, in both colour schemes, with a screen reader."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.system.page.pages import CAT, DESKTOP, TEXT, checked_page, pick, take
from tests.system.processes import Service

PHONES = [{"width": 320, "height": 568}, {"width": 412, "height": 839}]


@pytest.mark.parametrize("viewport", PHONES, ids=lambda viewport: str(viewport["width"]))
def test_the_page_fits_a_phone(browser: Browser, service: Service, viewport: dict[str, int]) -> None:
    with checked_page(browser, service, viewport=viewport, is_mobile=True, has_touch=True) as page:
        expect(page.locator("#variants table")).to_be_visible()
        expect(page.get_by_text("Take a photo")).to_be_visible()
        expect(page.locator("#take")).to_have_attribute("capture", "environment")
        take(page, CAT)
        expect(page.locator(".classes li")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, service: Service, scheme: Any) -> None:
    with checked_page(browser, service, viewport=DESKTOP, color_scheme=scheme) as page:
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


def contrast(text: str, background: str) -> float:
    """Return the contrast ratio of two CSS colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(text), luminance(background)))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_control_has_a_name(page: Page) -> None:
    expect(page.locator("#variants table")).to_be_visible()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button")]
            .filter((control) => !control.labels?.length && !control.textContent.trim())
            .map((control) => control.id)"""
    )
    assert unnamed == []


def test_a_screen_reader_meets_each_part_of_the_page_once(page: Page) -> None:
    expect(page.locator("#variants table")).to_be_visible()
    for name in ("What is in the photo?", "Answer", "Variants"):
        expect(page.get_by_role("region", name=name)).to_have_count(1)


def test_without_javascript_the_page_has_a_sentence_instead(browser: Browser, service: Service) -> None:
    with checked_page(browser, service, viewport=DESKTOP, java_script_enabled=False) as page:
        commands = page.locator("noscript code")
        expect(commands).to_have_text(["curl --data-binary @photo.jpg", "/v1/classify"])
        # Side by side, as words of one line are.
        assert len({box["y"] for box in map(Locator.bounding_box, commands.all()) if box}) == 1


def test_the_api_documentation_works_offline(browser: Browser, service: Service) -> None:
    with checked_page(browser, service, "/docs", viewport=DESKTOP) as page:
        operation = page.locator("#operations-default-classify")
        operation.locator(".opblock-summary-control").click()
        expect(operation).to_contain_text("min_probability")
