"""Which variants the page shows, compares and switches."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from service.bundle.folder import Bundle
from tests.system.page.pages import CLASSIFY, DESKTOP, TOKEN, checked_page, pick
from tests.system.processes import Service, serving


def test_the_page_shows_the_active_variant_and_how_to_load_two(page: Page, default_bundle: Bundle) -> None:
    rows = page.locator("#variants tbody tr")
    expect(rows).to_have_count(len(default_bundle.manifest.variants))
    active = rows.filter(has=page.locator(".tag", has_text="active"))
    expect(active).to_have_text(re.compile(r"qat.*int8.*8\.4.MB.*83\.8.%.*80\.8–86\.5"))
    expect(page.locator("#answering")).to_contain_text("qat of imagenet-1k answers: int8")
    expect(page.locator("#choice")).to_be_hidden()
    expect(page.locator("#notes")).to_contain_text("EDGEWISE_LOADED_VARIANTS=fp32,qat")


def test_a_list_refreshed_during_a_switch_offers_no_other_switch(
    browser: Browser, colours: Bundle, photos: dict[str, Path], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"bundle": colours.path, "variant": "fp32", "admin_token_file": token}
    with serving(**settings) as switchable, checked_page(browser, switchable, viewport=DESKTOP) as page:
        held: list[Route] = []
        page.route(re.compile("/v1/variants/active$"), lambda route: held.append(route))
        buttons = page.locator("[data-variant]")
        page.locator("[data-variant=ptq]").click()
        page.fill("#token", TOKEN)
        with page.expect_request(re.compile("/v1/variants/active$")):
            page.keyboard.press("Enter")

        def answer_as_int8(route: Route) -> None:
            response = route.fetch()
            route.fulfill(response=response, json={**response.json(), "variant": "int8"})

        page.route(CLASSIFY, answer_as_int8)
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
    """A service with one more loaded variant beside the active one, and TOKEN as its admin token."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    settings = {"variant": "ptq", "loaded_variants": "int8", "admin_token_file": token}
    with serving(bundle=colours.path, **settings) as service:
        yield service


def options(page: Page, select: str) -> list[str]:
    return page.locator(f"{select} option").all_inner_texts()


def test_a_switch_by_another_client_is_shown_and_updates_the_choices(
    browser: Browser, switchable: Service, photos: dict[str, Path]
) -> None:
    with checked_page(browser, switchable, viewport=DESKTOP) as page:
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
        assert options(page, "#first") == ["fp32 (active)", "int8"]
        assert options(page, "#second") == ["none", "fp32"]
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".classes li")).to_have_count(5)
        expect(page.locator("#status")).to_contain_text("int8: ")
        expect(page.locator("#problem")).to_be_empty()


@pytest.fixture
def compared(browser: Browser, switchable: Service, photos: dict[str, Path]) -> Iterator[Page]:
    """The page, comparing the answers of the active variant and of int8 to a photo."""
    with checked_page(browser, switchable, viewport=DESKTOP) as page:
        pick(page, photos["flower"])
        page.locator("#second").select_option("int8")
        expect(page.locator(".compared")).to_be_visible()
        yield page


def test_no_variant_is_compared_with_itself(compared: Page) -> None:
    assert options(compared, "#second") == ["none", "int8"]
    compared.locator("[data-variant=int8]").click()
    compared.fill("#token", TOKEN)
    compared.keyboard.press("Enter")
    expect(compared.locator("#status")).to_contain_text(re.compile("^int8: [^:]*$"))
    expect(compared.locator(".classes li")).to_have_count(5)
    assert options(compared, "#second") == ["none"]


def test_the_answering_variant_is_not_offered_for_comparison(compared: Page) -> None:
    compared.locator("#first").select_option("int8")
    expect(compared.locator(".classes li")).to_have_count(5)
    assert options(compared, "#second") == ["none", "ptq"]


def test_an_answer_by_another_variant_causes_no_second_request(page: Page, photos: dict[str, Path]) -> None:
    # As EDGEWISE_VARIANT_UNDER_LOAD does under load.
    requests: list[str] = []

    def answer_as_int8(route: Route) -> None:
        requests.append(route.request.url)
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "variant": "int8"})

    page.route(CLASSIFY, answer_as_int8)
    pick(page, photos["flower"])
    expect(page.locator("#result")).to_contain_text("int8")
    page.wait_for_timeout(1000)
    assert len(requests) == 1
