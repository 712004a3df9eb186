"""The page in a real browser: Debian's Chromium, headless, driven by Playwright."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from running_server import MODEL, Running, running, tiny_model

from chromium import LOOKS, show_everything, violations
from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.limits import RequestLimits

OpenPage = Callable[..., Page]
COUNT_CHARACTERS_OF_A_STREAM = """() => {
    window.counts = [];
    new MutationObserver(() => {
        const view = document.querySelector(".view");
        if (view.querySelector(".new")) counts.push(view.textContent.length);
    }).observe(document.body, { childList: true, subtree: true });
}"""
"""Looked at from within: on a busy machine a stream can be over between two looks from outside."""


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
            expect(page.locator(".line").first).to_be_visible()
            expect(page.locator(".stages li span").first).to_contain_text("bytes each")
        return page

    open_page.complaints = complaints  # pyright: ignore[reportFunctionMemberAccess]  hung on the fixture
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def drawn(page: Page, panel: int = 0) -> str:
    return "".join(page.locator(".panel").nth(panel).locator(".line").all_text_contents())


def chunk_figures(page: Page, panel: int = 0) -> list[str]:
    return page.locator(".panel").nth(panel).locator(".stages li").all_text_contents()


def walk(page: Page) -> list[str]:
    """What is said of each chunk of the outermost stage, in order."""
    view = page.locator(".view").first
    view.focus()
    view.press("Home")
    said = [page.locator(".spoken").first.text_content() or ""]
    while True:
        view.press("ArrowRight")
        now = page.locator(".spoken").first.text_content() or ""
        if now == said[-1]:
            return said
        said.append(now)


def wait_for_chunks_of(page: Page, text: str) -> None:
    """Until the figures of the outermost stage are those of this text."""
    num_bytes = len(text.encode())
    page.wait_for_function(
        """(numBytes) => {
            const figures = document.querySelector(".stages li").textContent;
            const [, chunks, each] = figures.replace(/(\\d),(\\d)/, "$1$2").match(/(\\d+) chunks?, ([\\d.]+)/) ?? [];
            return chunks && Math.abs(chunks * each - numBytes) < 0.006 * chunks + 0.001;
        }""",
        arg=num_bytes,
    )


def test_chunks_appear_while_typing(server: Running, open_page: OpenPage):
    page = open_page(server)
    text = page.get_by_role("textbox", name="Text")
    text.fill("")
    expect(page.locator(".line")).to_have_count(0)
    expect(page.locator(".stages li").first).to_have_text("Stage 0 no chunks")
    text.press_sequentially("the cat")
    expect(page.locator(".line")).to_have_text("the cat")
    assert page.locator("#size").text_content() == "7 bytes, 7 characters"
    wait_for_chunks_of(page, "the cat")
    expected = server.chunks("the cat")["stages"]
    assert chunk_figures(page) == [
        f"Stage {s} {num} chunk{'s' if num > 1 else ''}, {7 / num:.2f} bytes each"
        for s, num in enumerate(len(stage["starts"]) for stage in expected)
    ]
    starts = expected[0]["starts"]
    ends = [*starts[1:], 7]
    said = walk(page)
    assert len(said) == len(starts)
    for i, (begin, end) in enumerate(zip(starts, ends, strict=True)):
        size = "1 byte" if end - begin == 1 else f"{end - begin} bytes"
        where = f"Stage 0, chunk {i + 1} of {len(ends)}: “{'the cat'[begin:end]}”, {size} from {begin}"
        assert said[i].startswith(f"{where}, probability {expected[0]['boundary_prob'][begin]:.3f}")
    assert said[0].endswith("(the start of a text always is one)")
    text.fill("t")
    expect(page.locator(".stages li").first).to_have_text("Stage 0 1 chunk, 1.00 bytes each")
    assert page.locator("#size").text_content() == "1 byte, 1 character"


def test_characters_are_whole_and_what_is_cut_is_said_in_hexadecimal(server: Running, open_page: OpenPage):
    page = open_page(server)
    text = "é🐈e\u0301\x00👩‍👩‍👧\n猫"
    page.get_by_role("textbox", name="Text").fill(text)
    expect(page.locator(".line")).to_have_count(2)
    assert drawn(page) == "é🐈e\u0301␀👩‍👩‍👧⏎猫"
    wait_for_chunks_of(page, text)
    data, starts = text.encode(), server.chunks(text)["stages"][0]["starts"]
    said = walk(page)
    assert len(said) == len(starts)
    num_cut = 0
    for begin, end, words in zip(starts, [*starts[1:], len(data)], said, strict=True):
        try:
            whole = data[begin:end].decode()
        except UnicodeDecodeError:
            num_cut += 1
            assert " of “" in words
            assert f"{data[begin]:02X}" in words or f"{data[end - 1]:02X} of" in words
        else:
            assert f": “{whole}”," in words
    assert num_cut > 0, "the tiny model should cut inside some of these"


def test_the_bands_show_probabilities_and_starts(server: Running, open_page: OpenPage):
    """Pixels of the canvas: a tick at the left edge of every byte, as tall as its probability, in a band of 20 px."""
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("abcdefgh")
    expect(page.locator(".line")).to_have_text("abcdefgh")
    wait_for_chunks_of(page, "abcdefgh")
    stage = server.chunks("abcdefgh")["stages"][0]
    heights = page.evaluate(
        """(starts) => {
            const canvas = document.querySelector(".bands");
            const context = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            context.drawImage(canvas, 0, 0);
            const range = document.createRange();
            range.selectNodeContents(document.querySelector(".line"));
            const each = range.getBoundingClientRect().width / 8;
            const { data, width } = context.getImageData(0, 25, context.canvas.width, 20);
            return Array.from({ length: 8 }, (_, i) => {
                const x = Math.floor(i * each + (starts.includes(i) ? 2 : 0)) + 1;
                return Array.from({ length: 20 }, (_, y) => data[4 * (y * width + x) + 3] > 200).filter(Boolean).length;
            });
        }""",
        stage["starts"],
    )
    for tall, prob in zip(heights, stage["boundary_prob"], strict=True):
        assert abs(tall - max(1, 20 * prob)) <= 1.5, (heights, stage["boundary_prob"])


def test_a_stream_grows_and_each_new_byte_joins_a_chunk(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("Once")
    page.get_by_label("New bytes").fill("300")
    page.get_by_text("More settings").click()
    page.get_by_label("Seed").fill("1")
    page.evaluate(COUNT_CHARACTERS_OF_A_STREAM)
    page.get_by_role("button", name="Continue the text").click()
    expect(page.locator(".take")).to_be_visible(timeout=30_000)
    counts = page.evaluate("counts")
    assert len(set(counts)) > 1, "the picture grew in one go"  # how many bytes come at a time is the server's affair
    assert counts[0] < counts[-1]  # between them a character may stand as \\x bytes until its last one has come
    assert drawn(page).startswith("Once")
    own = page.locator(".line").first.evaluate("line => line.firstChild.textContent")
    assert own == "Once", "what was given has no element of its own, and is not marked as new"
    progress = page.locator(".progress").text_content() or ""
    num_new = int(progress.split()[0])
    assert num_new == 300 or "end" in progress
    num_chunks, _, each = chunk_figures(page)[0].split()[2:5]
    assert abs(int(num_chunks) * float(each) - (4 + num_new)) < 0.006 * int(num_chunks) + 1.1, "all but the last byte"
    whole = drawn(page)
    page.get_by_role("button", name="Take this text").click()
    taken = page.get_by_role("textbox", name="Text").input_value()
    symbols = {code: 0x2400 + code for code in range(0x20)} | {0x0A: "⏎", 0x7F: "␡"}
    assert taken.translate(symbols) == re.sub("␍⏎?", "⏎", whole), "a text field has line feeds alone"
    expect(page.locator(".view .new")).to_have_count(0)


def test_escape_stops_a_stream_and_frees_its_slot(model: HNetLM, open_page: OpenPage):
    with running({MODEL: model}, RequestLimits(max_new_bytes=100_000)) as server:  # longer than it takes to press a key
        page = open_page(server)
        page.get_by_label("New bytes").fill("100000")
        page.get_by_role("textbox", name="Text").press("Control+Enter")
        expect(page.locator(".view .new").first).to_be_visible()
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
    for panel in (0, 1):
        expect(page.locator(".panel").nth(panel).locator(".line").last).to_contain_text("还。")
        assert drawn(page, panel) == page.get_by_role("textbox", name="Text").input_value()
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
    page.get_by_role("button", name="Light").click()
    expect(page.get_by_role("button", name="Dark")).to_be_visible()
    assert background(page) == colours["light"]
    page.reload()
    assert background(page) == colours["light"], "the choice is remembered"


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_keys_walk_through_the_chunks_and_say_what_is_there(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("walk through this")
    expect(page.locator(".line")).to_have_text("walk through this")
    wait_for_chunks_of(page, "walk through this")
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


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_no_violation(two_models: Running, open_page: OpenPage, scheme: str, width: int):
    page = open_page(two_models, viewport={"width": width, "height": 900}, color_scheme=scheme)
    show_everything(page)
    assert violations(page) == {}
    page.evaluate("document.querySelector('label[for=text]').remove()")
    assert "label" in violations(page), "the check finds none"


def test_nothing_overflows_a_narrow_window(server: Running, open_page: OpenPage):
    page = open_page(server, viewport={"width": 360, "height": 740})
    page.get_by_role("button", name="DNA").click()
    expect(page.locator(".line").first).to_contain_text("ATGGCC")
    page.get_by_text("About this model").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    overflows = "[...document.querySelectorAll('.line')].filter((line) => line.scrollWidth > line.clientWidth).length"
    assert page.evaluate(overflows) == 0
    for item in page.locator(".stages li").all():
        box = item.bounding_box()
        assert box is not None
        assert box["height"] < 30, "a stage's figures stand in one line"


def test_the_text_is_kept_over_a_reload(server: Running, open_page: OpenPage):
    page = open_page(server)
    page.get_by_role("textbox", name="Text").fill("kept, whatever happens")
    page.reload()
    expect(page.get_by_role("textbox", name="Text")).to_have_value("kept, whatever happens")
    expect(page.locator(".line")).to_have_text("kept, whatever happens")
    page.get_by_role("textbox", name="Text").fill("")
    page.reload()
    expect(page.locator("#size")).to_have_text("0 bytes, 0 characters")


def test_a_long_text_has_an_element_per_line_and_bands_where_it_is_looked_at(server: Running, open_page: OpenPage):
    page = open_page(server)
    text = "one two three " * 140
    page.get_by_role("textbox", name="Text").fill(text)
    expect(page.locator(".line").nth(10)).to_be_attached()
    wait_for_chunks_of(page, text)
    assert page.evaluate("document.querySelectorAll('.view *').length") < 60
    assert page.locator(".view").text_content() == text
    view = page.locator(".view")
    view.focus()
    view.press("End")
    assert view.evaluate("view => view.scrollTop") > 0
    page.wait_for_function(
        """() => {
            const view = document.querySelector(".view").getBoundingClientRect();
            const canvas = document.querySelector(".bands").getBoundingClientRect();
            return canvas.top <= view.top + 10 && canvas.bottom >= view.bottom - 10;
        }"""
    )


PICTURE = """() => JSON.stringify([
    [...document.querySelectorAll(".line")].map((line) => line.outerHTML), document.querySelector(".bands").toDataURL()
])"""


def test_a_text_that_is_edited_looks_like_one_that_is_opened(server: Running, open_page: OpenPage):
    """What a drawing keeps of the one before: characters, lines, their elements, what is on the canvas."""
    page = open_page(server)
    box = page.get_by_role("textbox", name="Text")
    text = "one two é🐈 three\n" * 12 + "a_word_that_is_longer_than_any_line" * 9 + " one two" * 40
    texts = [text, text + "x", "y" + text, text[:300] + "猫e\u0301" + text[301:], text[:100], text[:100] + "\u0301 x"]
    opened = []
    for edited in texts:
        box.fill(edited)
        page.reload()
        wait_for_chunks_of(page, edited)
        opened.append(page.evaluate(PICTURE))
    assert len(set(opened)) == len(texts)
    for edited, wanted in zip(texts, opened, strict=True):
        box.fill(edited)
        page.wait_for_function(f"(wanted) => ({PICTURE})() === wanted", arg=wanted)


def test_a_model_of_a_run_shows_its_card_and_curves(model: HNetLM, open_page: OpenPage):
    points = [[step, 3 - step / 10] for step in range(1, 6)]
    run: dict[str, Any] = {
        "step": 5,
        "bytes_seen": 4000,
        "has_ended": False,
        "bits_per_byte": 2.5,
        "curves": [{"name": "Bits per byte, training", "points": points}],
    }
    with running({MODEL: model}, runs={MODEL: lambda: run}) as server:
        page = open_page(server)
        page.get_by_text("About this model").click()
        card = page.locator(".card-figures")
        expect(card).to_contain_text("2.500")
        expect(card).to_contain_text("5, training")
        expect(page.locator(".curves svg polyline")).to_have_count(1)
        expect(page.locator(".statistics svg")).to_have_count(2)
        expect(page.locator(".statistics p").first).to_contain_text("mean")
        run |= {"step": 6, "has_ended": True}
        page.get_by_text("About this model").click()
        page.get_by_text("About this model").click()
        expect(card).to_contain_text("6, ended")


def test_a_run_without_a_checkpoint_shows_its_curves_and_then_its_model(
    model: HNetLM, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hnet_lm.serving.app.LOOK_EVERY", 0.1)
    there: list[tuple[HNetLM, None]] = []
    curve = {"name": "Bits per byte, training", "points": [[1, 3.0], [2, 2.0]]}
    run = {"step": 2, "bytes_seen": 4000, "has_ended": False, "bits_per_byte": None, "curves": [curve]}
    with running({}, runs={"begun": lambda: run}, awaited={"begun": lambda: there[0] if there else None}) as server:
        page = open_page(server, wants_chunks=False)
        panel = page.locator(".panel")
        expect(panel).to_contain_text("no model yet")
        expect(panel).to_contain_text("2, training")
        expect(panel.locator(".curves polyline")).to_have_count(1)
        assert violations(page) == {}
        page.get_by_role("textbox", name="Text").fill("typed before there is a model")
        there.append((model, None))
        expect(page.locator(".line")).to_have_text("typed before there is a model", timeout=15_000)
        expect(panel).to_have_count(1)
        page.get_by_text("About this model").click()
        expect(page.locator(".card-figures")).to_contain_text("2, training")


def test_errors_and_a_missing_key_are_said(model: HNetLM, open_page: OpenPage):
    with running({MODEL: model}, RequestLimits(max_prompt_bytes=200), keys=ApiKeys(["open-sesame"])) as server:
        page = open_page(server, wants_chunks=False)
        expect(page.get_by_label("API key")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_label("API key").fill("close-sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("alert")).to_have_text("This key is not known to the server.")
        page.get_by_label("API key").fill("open-sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator(".line").first).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        page.get_by_role("textbox", name="Text").fill("x" * 201)
        expect(page.get_by_role("alert")).to_contain_text("201 bytes, 200 are allowed")
        expect(page.locator("#size")).to_contain_text("1 too many")
        # The browser itself reports the three refusals.
        complaints: list[str] = open_page.complaints  # pyright: ignore[reportFunctionMemberAccess]  hung on the fixture
        assert len(complaints) == 3
        assert all("401" in c or "400" in c for c in complaints)
        complaints.clear()
