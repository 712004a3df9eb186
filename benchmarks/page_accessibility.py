"""axe-core's accessibility check of the page, served and without a server, light and dark, wide and at 390 px.

    python benchmarks/page_accessibility.py [--pictures FOLDER]

Fetches axe-core with npm into a temporary folder, opens both pages in headless Chromium with everything that folds out
open, and prints the violations as JSON; the exit status is 1 where there are any. `--pictures` keeps what was looked at.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import Browser, expect, sync_playwright

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.web.exporting import web_files
from page_speed import OPTIONS, serving

TEXT = "It was a bright morning,\n    猫 and é 🐈, tab\there.  " * 3
RUN = """async () => (await axe.run()).violations.map(({ id, impact, help, nodes }) =>
    ({ id, impact, help, nodes: nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)) }))"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as given, serving(Path(given) / "models") as url, sync_playwright() as playwright:
        folder = Path(given)
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, "axe-core"], check=True)
        axe = (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS.split())
        pages = {"served": url, "exported": exported(folder / "page")}
        for name, address in pages.items():
            for scheme in ("light", "dark"):
                for width in (1300, 390):
                    key = f"{name}-{scheme}-{width}"
                    found[key] = check(browser, address, axe, scheme, width, options.pictures, key)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(any(found.values()))


def check(
    browser: Browser, address: str, axe: str, scheme: str, width: int, pictures: Path | None, key: str
) -> list[dict[str, object]]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    page = context.new_page()
    page.goto(address)
    page.locator("#text").fill(TEXT)
    page.locator("#max_tokens").fill("60")
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(1500)
    page.locator("#generate").click()
    for progress in page.locator(".progress").all():
        expect(progress).to_contain_text("new byte", timeout=60_000)
    page.add_script_tag(content=axe)
    violations = page.evaluate(RUN)
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{key}.png", full_page=True)
    context.close()
    return violations


def exported(folder: Path) -> str:
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.load("tiny_2stage")).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    for path, content in web_files(model, "tiny").items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    return f"file://{folder}/index.html"


if __name__ == "__main__":
    main()
