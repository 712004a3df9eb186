"""The page in a real browser: Debian's Chromium, headless, driven by Playwright."""

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from running_server import MODEL, Running, running, tiny_model

from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.limits import RequestLimits

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")

OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
OpenPage = Callable[..., Page]
COUNT_SEGMENTS_OF_A_STREAM = """() => {
    window.counts = [];
    new MutationObserver(() => {
        if (document.querySelector(".cell.new"))
            counts.push(document.querySelectorAll(".strip.stage-0 .segment").length);
    }).observe(document.body, { childList: true, subtree: true });
}"""
"""Looked at from within: on a busy machine a stream can be over between two looks from outside."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def two_models(model: HNetLM) -> Iterator[Running]:
    with running(
        {MODEL: model, "other": tiny_model(["m1", ["T1"], "m1"])}, RequestLimits(max_prompt_bytes=3000)
    ) as server:
        yield server


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens the page; at the end nothing may have gone wrong in it, and nothing been fetched from elsewhere."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(server: Running, wants_chunks: bool = True, **options: object) -> Page:
        contexts.append(browser.new_context(**options))  # pyright: ignore[reportArgumentType]  any options
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(server.url) or complaints.append(request.url))
        page.goto(server.url)
        if wants_chunks:
            expect(page.locator(".segment.starts").first).to_be_visible()
        return page

    open_page.complaints = complaints  # pyright: ignore[reportFunctionMemberAccess]  hung on the fixture
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def drawn(page: Page, panel: int = 0) -> str:
    return "".join(page.locator(".panel").nth(panel).locator(".glyph").all_text_contents())


def test_chunks_appear_while_typing(server: Running, open_page: OpenPage):
    page = open_page(server)
    text = page.get_by_role("textbox", name="Text")
    text.fill("")
    expect(page.locator(".cell")).to_have_count(0)
    text.press_sequentially("the cat")
    expect(page.locator(".cell")).to_have_count(7)
    assert drawn(page) == "the cat"
    assert page.locator("#size").text_content() == "7 bytes, 7 characters"
    expect(page.locator(".strip.stage-0 .segment.prob")).to_have_count(7)
    expect(page.locator(".stages li")).to_have_count(2)
    starts = page.locator(".strip.stage-0 .segment.starts").count()
    figures = f"Stage 0{starts} chunks, {7 / starts:.2f} bytes per chunk"
    assert page.locator(".stages li").first.text_content() == figures


def test_characters_are_whole_whatever_the_boundaries(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("é🐈e\u0301\x00👩‍👩‍👧\n猫")
    expect(page.locator(".cell")).to_have_count(7)
    assert page.locator(".glyph").all_text_contents() == ["é", "🐈", "e\u0301", "␀", "👩‍👩‍👧", "⏎", "猫"]
    segments = [cell.locator(".stage-0 .segment").count() for cell in page.locator(".cell").all()]
    assert segments == [2, 4, 3, 1, 18, 1, 3]
    inside = page.locator(".segment.starts:not(:first-child)").count()
    assert inside > 0, "the tiny model should cut inside some of these"


def test_a_stream_grows_and_each_new_byte_joins_a_chunk(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("Once")
    page.get_by_label("New bytes").fill("300")
    page.get_by_text("More settings").click()
    page.get_by_label("Seed").fill("1")
    page.evaluate(COUNT_SEGMENTS_OF_A_STREAM)
    page.get_by_role("button", name="Continue the text").click()
    expect(page.locator(".take")).to_be_visible()
    counts = page.evaluate("counts")  # one a byte
    assert len(set(counts)) > 1, "the picture grew in one go"  # how many bytes come at a time is the server's affair
    assert counts == sorted(counts)
    assert drawn(page).startswith("Once")
    expect(page.locator(".cell:not(.new)")).to_have_count(4)
    expect(page.locator(".progress")).to_contain_text("new bytes in")
    num_bytes = page.locator(".strip.stage-0 .segment").count()
    assert num_bytes == 304 or "end" in (page.locator(".progress").text_content() or "")
    assert page.locator(".strip.stage-0 .segment.pending").count() <= 1
    whole = drawn(page)
    page.get_by_role("button", name="Take this text").click()
    taken = page.get_by_role("textbox", name="Text").input_value()
    symbols = {code: 0x2400 + code for code in range(0x20)} | {0x0A: "⏎", 0x7F: "␡"}
    assert taken.translate(symbols) == re.sub("␍⏎?", "⏎", whole), "a text field has line feeds alone"
    expect(page.locator(".cell.new")).to_have_count(0)


def test_escape_stops_a_stream_and_frees_its_slot(model: HNetLM, open_page: OpenPage):
    with running({MODEL: model}, RequestLimits(max_new_bytes=100_000)) as server:  # longer than it takes to press a key
        page = open_page(server)
        page.get_by_label("New bytes").fill("100000")
        page.get_by_role("textbox", name="Text").press("Control+Enter")
        expect(page.locator(".cell.new").first).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".progress")).to_contain_text("stopped")
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        server.until(lambda: server.figure("active") == 0)


def test_two_models_stand_side_by_side(two_models: Running, open_page: OpenPage):
    page = open_page(two_models, viewport={"width": 1300, "height": 900})
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("textbox", name="Text")).to_have_value(
        "天下大势，分久必合，合久必分。话说春风又绿江南岸，明月何时照我还。"
    )
    expect(page.locator(".cell")).to_have_count(2 * 33)
    assert drawn(page, 0) == drawn(page, 1)
    assert [panel.locator("li").count() for panel in page.locator(".panel").all()] == [2, 1]
    left, right = (panel.bounding_box() for panel in page.locator(".panel").all())
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]


def test_light_and_dark_follow_the_system_and_the_button(server: Running, open_page: OpenPage):
    colours = {}
    for scheme in ("light", "dark"):
        page = open_page(server, color_scheme=scheme)
        colours[scheme] = background(page)
    assert colours["light"] != colours["dark"]
    button = page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    assert background(page) == colours["light"]
    page.reload()
    assert background(page) == colours["light"], "the choice is remembered"


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_keys_walk_through_the_chunks_and_say_what_is_there(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("walk through this")
    expect(page.locator(".cell")).to_have_count(17)
    view = page.get_by_role("group", name="Chunks of tiny")
    said = page.locator(".spoken")
    view.focus()
    expect(said).to_contain_text("Stage 0, chunk 1 of")
    view.press("ArrowRight")
    expect(said).to_contain_text("Stage 0, chunk 2 of")
    view.press("ArrowDown")
    expect(said).to_contain_text("Stage 1, chunk")
    view.press("Home")
    expect(said).to_contain_text("Stage 1, chunk 1 of")
    assert page.locator(".cell.selected").count() >= 1
    view.press("Tab")
    expect(said).to_be_empty()


def test_everything_that_can_be_used_has_a_name(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_text("More settings").click()
    for kind in ("button", "textbox", "slider", "spinbutton", "checkbox"):
        for element in page.get_by_role(kind).all():
            name = element.evaluate("e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent")
            assert name.strip(), element.evaluate("e => e.outerHTML")
    assert page.locator("html").get_attribute("lang") == "en"


def test_nothing_overflows_a_narrow_window(server: Running, open_page: OpenPage):
    page = open_page(server, viewport={"width": 360, "height": 740})
    page.get_by_role("button", name="DNA").click()
    expect(page.locator(".cell")).to_have_count(63)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_errors_and_a_missing_key_are_said(model: HNetLM, open_page: OpenPage):
    with running({MODEL: model}, RequestLimits(max_prompt_bytes=200), keys=ApiKeys(["open-sesame"])) as server:
        page = open_page(server, wants_chunks=False)
        expect(page.get_by_role("alert")).to_contain_text("API key")
        page.get_by_label("API key").fill("open-sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".segment.starts").first).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_role("textbox", name="Text").fill("x" * 201)
        expect(page.get_by_role("alert")).to_contain_text("201 bytes, 200 are allowed")
        expect(page.locator("#size")).to_contain_text("1 too many")
        # The browser itself reports the two refusals.
        complaints: list[str] = open_page.complaints  # pyright: ignore[reportFunctionMemberAccess]  hung on the fixture
        assert len(complaints) == 2
        assert all("401" in c or "400" in c for c in complaints)
        complaints.clear()
