"""The page in headless Chromium: what a key press costs it, with two models and 32 kB of text.

    python benchmarks/page_speed.py [--bytes 32000] [--keys 7] [--output FILE.json]

Starts `hnet-lm serve` with two random models and types at the end of a text. A key press costs the page all that its
main thread does from the key until the new chunks of both models are drawn: handling the key, reading the two answers,
layout and painting (`TaskDuration` of the DevTools protocol). The server and the wait for it do not count. The longest
single task says for how long the page answers nothing. Prints JSON, times in milliseconds.
"""

import argparse
import json
import lzma
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from playwright.sync_api import CDPSession, Page, sync_playwright

import hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.data.samples import sample_path
from hnet_lm.model import HNetLM

CONFIGS = ("tiny_2stage", "demo")
OPTIONS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
QUIET_MILLISECONDS = 500
WATCH = """() => {
    window.longest = 0;
    window.lastChange = performance.now();
    new PerformanceObserver((list) => list.getEntries().forEach((e) => (longest = Math.max(longest, e.duration))))
        .observe({ type: "longtask" });
    new MutationObserver(() => (lastChange = performance.now()))
        .observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=32_000)
    parser.add_argument("--keys", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS.split())
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(url)
        result = measure(page, page.context.new_cdp_session(page), english(options.bytes), options.keys)
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result) + "\n")


def english(num_bytes: int) -> str:
    """The beginning of the bundled book, ASCII alone."""
    with lzma.open(sample_path("english", "validation"), "rt", encoding="utf-8") as lines:
        text = json.loads(next(lines))["text"]
    return "".join(character for character in text if character.isascii())[:num_bytes]


def measure(page: Page, devtools: CDPSession, text: str, num_keys: int) -> dict[str, object]:
    devtools.send("Performance.enable")
    page.evaluate(WATCH)
    field = page.locator("#text")
    fill = cost(page, devtools, lambda: field.fill(text))
    field.evaluate("field => field.setSelectionRange(field.value.length, field.value.length)")
    keys = [cost(page, devtools, lambda key=key: field.press(key)) for key in "and so on"[:num_keys].replace(" ", "x")]
    return {
        "bytes": len(text),
        "elements": page.evaluate("document.querySelectorAll('*').length"),
        "fill": fill,
        "key_median": {name: round(statistics.median(key[name] for key in keys), 1) for name in keys[0]},
        "key_worst": {name: max(key[name] for key in keys) for name in keys[0]},
        "load_average": round(os.getloadavg()[0], 1),
    }


def cost(page: Page, devtools: CDPSession, act) -> dict[str, float]:  # noqa: ANN001  # anything that is done to a page
    page.evaluate("longest = 0")
    before = durations(devtools)
    answered: list[str] = []
    count = answered.append
    page.on("requestfinished", lambda request: count(request.url))
    act()
    while sum(url.endswith("/v1/chunks") for url in answered) < len(CONFIGS):
        page.wait_for_timeout(50)
    while page.evaluate("performance.now() - lastChange") < QUIET_MILLISECONDS:
        page.wait_for_timeout(100)
    after = durations(devtools)
    spent = {name: round(1000 * (after[name] - before[name]), 1) for name in after}
    return {**spent, "longest_task": round(page.evaluate("longest"), 1)}


def durations(devtools: CDPSession) -> dict[str, float]:
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return {name: metrics[name] for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    for seed, name in enumerate(CONFIGS):
        torch.manual_seed(seed)
        model = HNetLM(HNetConfig.load(name)).requires_grad_(False)
        for parameter_name, parameter in model.named_parameters():
            if "routing" in parameter_name:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
        hnet_lm.save(model, folder / name)
    command = [sys.executable, "-m", "hnet_lm", "serve", *(str(folder / name) for name in CONFIGS), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split(" at ")[1].split()[0]
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
