"""`make docs`: the site is built without a warning, has every page and name of the reference, and runs a model."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from chromium import LOOKS, violations
from installed_wheel import ROOT

DOCS = ROOT / "docs"


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, which makes a warning an error."""
    folder = tmp_path_factory.mktemp("docs")
    target = re.search(r"^docs:.*\n\t\$\(BIN\)/python (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert target
    arguments = (
        target[1].replace("build/doctrees", str(folder / "doctrees")).replace("build/docs", str(folder / "site"))
    )
    assert "--fail-on-warning" in arguments
    done = subprocess.run([sys.executable, *arguments.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_page_and_every_name_is_there(site: Path) -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).exists(), page
    for page in (DOCS / "api").glob("*.md"):
        html = (site / "api" / page.with_suffix(".html").name).read_text(encoding="utf-8")
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert f'id="{name}"' in html, name


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_first_page_runs_a_model_and_has_no_violation(
    site: Path, browser: Browser, scheme: Any, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    page.locator("iframe").scroll_into_view_if_needed()
    model = page.frame_locator("iframe")
    expect(model.locator(".panel h2")).to_have_text("english-small")
    expect(model.locator(".stages li")).to_contain_text("bytes each", timeout=30_000)
    assert violations(page) == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
