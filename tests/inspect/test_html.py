import base64
import html
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chromium import violations
from hnet_lm.inspect import Chunks, chunks, render_html
from hnet_lm.model import HNetLM


def embedded(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def unpacked(packed: str, kind: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=kind)


@pytest.mark.parametrize("num_stages", [0, 1, 3])
def test_the_page_holds_everything_that_its_script_needs(models: dict[int, HNetLM], num_stages: int):
    text = "The 中文 😀 </script> {{data}} <b>\n" * 3
    found = chunks(models[num_stages], text)
    data = embedded(render_html(found, "a <title> & more"))
    assert data["glyphs"] == text.replace("\n", "⏎\n")
    assert data["numBytes"] == unpacked(data["byteLengths"], "u1").sum() == len(found.data)
    assert unpacked(data["glyphLengths"], "u1").sum() == len(data["glyphs"].encode("utf-16-le")) // 2
    for stage, packed in zip(found.stages, data["stages"], strict=True):
        assert np.abs(unpacked(packed["probs"], "<u2") / 65535 - stage.boundary_prob).max() < 1e-5
        bits = np.unpackbits(unpacked(packed["opens"], "u1"), bitorder="little")[: len(stage.offsets)]
        assert bits.astype(bool).tolist() == stage.is_boundary.tolist()


def test_the_page_needs_nothing_from_outside(sample: Chunks):
    page = render_html(sample, "a <title> & more")
    assert html.escape("a <title> & more") in page
    assert "<title> &" not in page
    assert not re.search(r"https?:|src=|@import|url\(", page)
    tags: list[str] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            tags.append(tag)

    Collector().feed(page)
    assert tags.count("section") == 2
    assert tags.count("script") == 2
    assert "2 characters inside which a chunk starts" in page


def opened(browser, path: Path, scheme: str):
    page = browser.new_page(color_scheme=scheme)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_selector("#text span")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser, sample: Chunks, tmp_path: Path, scheme: str):
    path = tmp_path / "page.html"
    path.write_text(render_html(sample, "sample"), encoding="utf-8")
    page = opened(browser, path, scheme)
    assert page.locator("#text").inner_text() == "The 中文 cat⏎\ne\u0301␀\\xff end"
    assert page.locator("#text i").all_inner_texts() == ["中", "e\u0301"]
    page.locator("#text span").nth(1).hover()
    assert "stage 0\tbytes 3 to 4\t2 long\tp 0.900" in page.locator("#tip").inner_text()
    assert "byte 4\t中\tE4\tp 0.100" in page.locator("#tip").inner_text(), "a byte of several, in hexadecimal"
    page.locator("#text").press("ArrowRight")
    assert "bytes 5 to 9" in page.locator("#tip").inner_text()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark" if scheme == "light" else "Light").click()
    assert page.get_by_role("button", name="Light" if scheme == "light" else "Dark").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert violations(page) == {}
    assert page.problems == []


def test_the_view_of_boundaries_in_a_browser(browser, sample: Chunks, tmp_path: Path):
    path = tmp_path / "page.html"
    path.write_text(render_html(sample, "sample", boundaries="<p>what cuts mean</p>"), encoding="utf-8")
    page = opened(browser, path, "light")
    assert not page.get_by_text("what cuts mean").is_visible()
    page.get_by_role("button", name="Boundaries").click()
    assert page.get_by_text("what cuts mean").is_visible()
    assert not page.locator("#text").is_visible()
    page.get_by_role("button", name="Chunks").click()
    assert page.locator("#text").is_visible()
    assert page.problems == []


def test_a_megabyte_stays_light(browser, make_chunks: Callable[..., Chunks], tmp_path: Path):
    data = b"It was the best of times, it was the worst of times\n" * 20_000
    spaces = [0, *np.flatnonzero(np.frombuffer(data, np.uint8) == 32).tolist()]
    path = tmp_path / "page.html"
    path.write_text(render_html(make_chunks(data, spaces, spaces[::4]), "big"), encoding="utf-8")
    page = opened(browser, path, "light")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelector('#text').lastChild.childNodes.length > 0")
    assert page.locator("#text span").count() < 20_000
    assert page.problems == []
