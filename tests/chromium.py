"""Debian's Chromium, headless and driven by Playwright, and axe-core's accessibility check of what it shows.

A folder whose tests need the browser imports the fixture into its conftest.py.
"""

import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
LOOKS = (
    ("light", 1300),
    ("dark", 390),
    pytest.param("light", 390, marks=pytest.mark.long),
    pytest.param("dark", 1300, marks=pytest.mark.long),
)
"""Colour scheme, and width in CSS pixels: a window on a desk, and a telephone."""
TEXT = "It was a bright morning,\n    猫 and é 🐈, tab\there.  " * 3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=OPTIONS.split())
        yield browser
        browser.close()


def violations(page: Page) -> dict[str, list[str]]:
    """The elements that violate each rule, by the rule's name."""
    # without `preload` axe does not fetch style sheets, which a page that is a file must not
    results = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    return {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in results}


def show_everything(page: Page) -> None:
    """On the page of models: open all that folds out, and let every model continue a text."""
    page.locator("#text").fill(TEXT)
    page.locator("#max_tokens").fill("30")
    for summary in page.locator("summary").all():
        summary.click()
    page.locator("#generate").click()
    for progress in page.locator(".progress").all():
        expect(progress).to_contain_text("new byte", timeout=30_000)
