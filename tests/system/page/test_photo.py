"""The page accepts a photo and shows the answer."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.system.page.pages import CAT, CLASSIFY, labels, pick, take, transfer
from tests.system.processes import Service

STAGES = ["read", "queue", "decode", "inference", "network and the rest"]


def drop(page: Page, *photos: Path) -> None:
    page.dispatch_event("#frame", "drop", {"dataTransfer": transfer(page, *photos)})


def paste(page: Page, photo: Path, place: str = "body") -> None:
    page.evaluate(
        "([clipboardData, place]) => document.querySelector(place).dispatchEvent("
        "new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))",
        [transfer(page, photo), place],
    )


def paste_at_the_button(page: Page, photo: Path) -> None:
    """Paste while the button has the focus, as it has after choosing a photo with the keyboard."""
    paste(page, photo, "#pick")


def choose_by_keyboard(page: Page, photo: Path) -> None:
    # Registered before the key press, so that Chromium opens no dialog of the desktop.
    page.on("filechooser", lambda _: None)
    expect(page.locator("#variants table")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#pick")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)


@pytest.mark.parametrize("give", [pick, take, drop, paste, paste_at_the_button, choose_by_keyboard])
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


def test_the_time_of_each_stage_is_shown(page: Page) -> None:
    pick(page, CAT)
    items = page.locator(".times li")
    expect(items).to_have_count(len(STAGES))
    texts = [re.fullmatch(r"(.+) ([\d.]+)\sms", text) for text in items.all_inner_texts()]
    shown = {found[1]: float(found[2]) for found in texts if found}
    assert list(shown) == STAGES
    total = float(page.locator(".by .number, .by strong").last.inner_text().split()[0])
    assert sum(shown.values()) == pytest.approx(total, abs=1)


def test_of_several_files_the_page_says_which_one_it_took(
    page: Page, service: Service, photos: dict[str, Path]
) -> None:
    drop(page, CAT, photos["flower"])
    expect(page.locator("#file")).to_contain_text("cat.jpg, 35\u202fkB, the first of 2 files")
    expect(page.locator(".top")).to_have_text(labels(service, CAT)[0])
    pick(page, CAT)
    expect(page.locator("#file")).to_have_text("cat.jpg, 35\u202fkB")


def test_the_page_says_that_it_waits_for_a_slow_answer(page: Page) -> None:
    held: list[Route] = []
    page.route(CLASSIFY, lambda route: held.append(route))
    with page.expect_request(CLASSIFY):
        pick(page, CAT)
    expect(page.get_by_text("Waiting for the answer")).to_be_visible()
    held[0].continue_()
    expect(page.locator(".classes li")).to_have_count(5)
    expect(page.get_by_text("Waiting for the answer")).to_be_hidden()


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
